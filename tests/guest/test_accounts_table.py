# SPDX-License-Identifier: Apache-2.0
"""Records come and go, and whatever else stands in the account files stays byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_agent.accounts.table import Table, encoded, lines_of, with_lines_of
from guest_agent.failure import ItemError

NAMES = ["ada", "bob", "cy", "+", ""]
LINES = st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([f"{name}:x:1".encode() for name in NAMES])), max_size=8)


def test_a_record_is_replaced_where_it_stands_and_a_new_one_comes_last() -> None:
    table = Table("/etc/group", b"a:x:1:\n# odd\nb:x:2:", 4)
    table.put(["a", "x", "1", "b"])
    table.put(["c", "x", "3", ""])
    assert table.content == b"a:x:1:b\n# odd\nb:x:2:\nc:x:3:\n"
    assert list(table.touched) == ["a", "c"]


def test_a_record_that_is_so_already_touches_nothing() -> None:
    table = Table("/etc/group", b"a:x:1:", 4)
    table.put(["a", "x", "1", ""])
    table.drop("b")
    assert (table.content, list(table.touched)) == (b"a:x:1:", [])


def test_a_new_record_stands_before_what_nis_adds() -> None:
    table = Table("/etc/passwd", b"a:x:1:1:::\n+::::::\n", 7)
    table.put(["b", "x", "2", "2", "", "", ""])
    assert table.content == b"a:x:1:1:::\nb:x:2:2:::\n+::::::\n"


def test_a_damaged_line_is_kept_until_somebody_needs_it() -> None:
    table = Table("/etc/group", b"\xff\xfe\nb:x\n:::\na:x:1:\n", 4)
    assert [row[0] for row in table.rows()] == ["a"]
    table.put(["a", "x", "1", "c"])
    assert table.content == b"\xff\xfe\nb:x\n:::\na:x:1:c\n"
    with pytest.raises(ItemError, match="bad-accounts: the line of b in /etc/group has 2 fields"):
        table.row("b")


def test_a_name_in_utf8_is_its_bytes() -> None:
    table = Table("/etc/passwd", b"", 7)
    table.put(["a", "x", "1", "1", encoded("Zoë"), "/", "/bin/sh"])
    assert "Zoë".encode() in table.content


@given(LINES, st.sampled_from(NAMES[:3]))
def test_what_nobody_names_stays(lines: list[bytes], name: str) -> None:
    content = b"\n".join(lines)
    table = Table("/etc/group", content, 3)
    table.drop(name)
    kept = [line for line in content.split(b"\n") if line.partition(b":")[0] != name.encode()]
    assert table.content.rstrip(b"\n") == b"\n".join(kept).rstrip(b"\n")


@given(LINES, LINES)
def test_lines_taken_from_another_file_are_those_and_the_rest_stays(lines: list[bytes], other: list[bytes]) -> None:
    mixed = with_lines_of(b"\n".join(lines), b"\n".join(other), ["ada", "bob"])
    assert lines_of(mixed, ["ada", "bob"]) == lines_of(b"\n".join(other), ["ada", "bob"])
    assert lines_of(mixed, ["cy", "+"]) == lines_of(b"\n".join(lines), ["cy", "+"])
