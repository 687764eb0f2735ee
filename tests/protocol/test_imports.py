# SPDX-License-Identifier: Apache-2.0
"""Imports run inwards, what is shipped asserts nothing, and every file says its licence."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PACKAGES = ("pv_channel", "guest_agent", "host_agent")
SHIPPED = sorted(path for package in PACKAGES for path in (TOP / package).rglob("*.py"))
MAY_IMPORT = {
    "pv_channel": {"pv_channel"},
    "guest_agent": {"guest_agent", "pv_channel"},
    "host_agent": {"host_agent", "pv_channel"},
}
OURS = {*PACKAGES, "lab", "bench", "fuzz", "tests"}
#: What the core may use besides itself: nothing that opens a file, starts a program, reads a clock or writes a log.
_FORBIDDEN = """
    asyncio datetime http io logging multiprocessing os pathlib random secrets select selectors shutil signal socket sqlite3 ssl
    subprocess sys tempfile termios threading time tty urllib
"""
NO_BUSINESS_OF_THE_CORE = frozenset(_FORBIDDEN.split())


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


def imported(path: Path) -> set[str]:
    """The top names of every module that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: a relative import"
            names.add((node.module or "").partition(".")[0])
    return names


def test_there_is_something_to_look_at() -> None:
    assert {path.relative_to(TOP).parts[0] for path in SHIPPED} == set(PACKAGES)


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_imports_run_inwards(path: Path) -> None:
    assert imported(path) & OURS <= MAY_IMPORT[path.relative_to(TOP).parts[0]]


@pytest.mark.parametrize("path", [path for path in SHIPPED if "pv_channel" in path.parts], ids=name_of)
def test_the_core_opens_no_file_and_reads_no_clock(path: Path) -> None:
    assert not imported(path) & NO_BUSINESS_OF_THE_CORE
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_what_is_shipped_has_no_assert_and_no_bare_except(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        assert not isinstance(node, ast.Assert), f"{name_of(path)}:{node.lineno}"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{name_of(path)}:{node.lineno}"


def tracked() -> list[Path]:
    """Every Python file of the project: git's list, or in an unpacked source distribution every one there is."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=TOP, capture_output=True, text=True)
    if listed.returncode == 0:
        return [TOP / name for name in listed.stdout.split("\n") if name and (TOP / name).exists()]
    return [path for name in OURS for path in (TOP / name).rglob("*.py")]


def test_every_file_says_its_licence_in_its_first_line() -> None:
    files = tracked()
    assert len(files) > 30
    assert [
        name_of(path) for path in files if not path.read_text("utf-8").startswith("# SPDX-License-Identifier: Apache-2.0\n")
    ] == []


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_a_file_says_its_subject(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{name_of(path)} has no docstring"
