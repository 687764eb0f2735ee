# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/conformance: every sentence has a verdict, what works has a test, what is not applicable has a reason."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).parents[2]
PAGES = sorted((TOP / "docs/conformance").glob("*.md"))
HEADER = ["sentence", "verdict", "code", "test or reason"]


class Row(NamedTuple):
    """One sentence of a document that we follow."""

    page: str
    sentence: str
    verdict: str
    code: str
    proof: str


def cells(line: str) -> list[str]:
    """Of a table's line; a bar inside one is written ``\\|``."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def rows(page: Path) -> list[Row]:
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    tables = [cells(line) for line in lines]
    assert HEADER in tables, f"{page.name} has no table with the columns {HEADER}"
    return [Row(page.name, *row) for row in tables if row != HEADER and set("".join(row)) != {"-"}]


ROWS = [row for page in PAGES for row in rows(page)]
NAMES = [f"{row.page}: {row.sentence[:60]}" for row in ROWS]


@cache
def functions(path: Path) -> set[str]:
    """The tests in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def quoted(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def code_is_there(name: str) -> bool:
    """Whether the file is in the repository; the packages' names may be left out."""
    return any((TOP / part / name).is_file() for part in ("", "host_agent", "pv_channel"))


def test_each_document_that_is_followed_has_its_page() -> None:
    assert PAGES
    assert all(sum(row.page == page.name for row in ROWS) > 10 for page in PAGES)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_sentence_has_a_verdict_code_that_is_there_and_a_test_or_a_reason(row: Row) -> None:
    assert row.verdict in ("works", "not applicable")
    assert [name for name in quoted(row.code) if not code_is_there(name)] == []
    tests = [name for name in quoted(row.proof) if "::" in name]
    if row.verdict == "works":
        assert quoted(row.code)
        assert tests
    else:
        assert len(row.proof.split()) >= 5, "a reason is a sentence"
    for name in tests:
        path, _, function = name.partition("::")
        assert (TOP / path).is_file(), path
        assert function in functions(TOP / path), name
        assert function.startswith("test_")


def test_no_sentence_stands_twice() -> None:
    sentences = [(row.page, row.sentence) for row in ROWS]
    assert sorted(set(sentences)) == sorted(sentences)
