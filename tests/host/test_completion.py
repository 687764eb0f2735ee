# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent completion`: bash itself completes verbs, options, files, directories and the names of VMs."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent import completion
from host_agent.__main__ import main
from host_agent.cli import parser
from host_agent.ledger.ledger import Ledger
from host_agent.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ["web1", "web2", "db-1.example.org", "$(touch evil)", "a b", "-x", "x;y"]


@pytest.fixture
def place(state: Path, tmp_path: Path) -> Path:
    """A directory with a `pv-host-agent` for the PATH, whose ledger has VMs; and with a file and a directory."""
    ledger = Ledger.open(state)
    for name in NAMES:
        ledger.want(name, name, None, "d")
    ledger.close()
    program = tmp_path / "pv-host-agent"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m host_agent "$@" --state {shlex.quote(str(state))}\n')
    program.chmod(0o755)
    (tmp_path / "documents").mkdir()
    (tmp_path / "document.yaml").touch()
    return tmp_path


def completed(place: Path, line: str) -> list[str]:
    """What bash offers for the last word of *line*."""
    words = line.split(" ")
    asked = f"""
        source <({shlex.quote(sys.executable)} -m host_agent completion bash)
        cd {shlex.quote(str(place))} && PATH=$PWD:$PATH
        COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}
        function=$(complete -p pv-host-agent | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        "$function"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(line for line in done.stdout.splitlines() if line)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pv-host-agent known", ["known-hosts"]),
        ("pv-host-agent keys ", ["authority", "init", "install", "request", "revoke", "rotate", "show", "sign", "trust"]),
        ("pv-host-agent keys sign doc", ["document.yaml", "documents"]),
        ("pv-host-agent timeline --r", ["--run", "--runs"]),
        ("pv-host-agent timeline w", ["web1", "web2"]),
        ("pv-host-agent forget-key ", ["db-1.example.org", "web1", "web2"]),
        ("pv-host-agent known-hosts web1 d", ["db-1.example.org"]),
        ("pv-host-agent push doc", ["document.yaml", "documents"]),
        ("pv-host-agent serve --documents doc", ["documents"]),
        ("pv-host-agent convert --to o", ["openstack"]),
    ],
)
def test_bash_completes(place: Path, line: str, offered: list[str]) -> None:
    assert completed(place, line) == offered
    assert not (place / "evil").exists()


def test_bash_offers_every_verb(place: Path) -> None:
    assert completed(place, "pv-host-agent ") == sorted(VERBS)


def actions(top: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of every verb."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from actions(below)
        else:
            yield action


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_argument_that_names_a_file_or_a_vm_is_completed(shell: str) -> None:
    top = parser()
    assert completion.script(top, shell)
    plain = [a.metavar for a in actions(top) if (a.type is Path or a.metavar == "VM") and not hasattr(a, "complete")]
    assert plain == []


def test_names_that_a_shell_would_not_take_as_they_stand_are_not_offered() -> None:
    more = ["web1", "ok_1@x", "a\nb", "\u00e4", ""]
    assert completion.plain_names([*NAMES, *more]) == ["db-1.example.org", "ok_1@x", "web1", "web2"]


def test_without_a_ledger_no_names_are_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "--vms", "--state", str(tmp_path)]) == 1
    assert capsys.readouterr().out == ""
