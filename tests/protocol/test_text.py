# SPDX-License-Identifier: Apache-2.0
"""What somebody else said is shown on one line, of a length that we choose, and draws on nobody's terminal."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pv_channel.text import printable


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none()), st.integers(3, 200))
def test_whatever_it_is_it_is_printable_ascii_and_not_too_long(value: object, limit: int) -> None:
    shown = printable(value, limit)
    assert len(shown) <= limit
    assert shown.isascii()
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain text, 'quoted' and \\ too", "plain text, 'quoted' and \\ too"),
        (b"bytes", "bytes"),
        (bytearray(b"a\n"), "a\\n"),
        ("a\nb\r\t\0", "a\\nb\\r\\t\\x00"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eright to left", "\\u202eright to left"),
        ("caf\xe9", "caf\\xe9"),
        (b"\xff", "\\xff"),
        ("\U0001f600", "\\U0001f600"),
        (ValueError("why"), "why"),
        ("", ""),
    ],
)
def test_what_does_not_print_is_escaped(value: object, shown: str) -> None:
    assert printable(value) == shown


def test_what_is_too_long_ends_in_dots() -> None:
    assert printable("x" * 81) == "x" * 77 + "..."
    assert printable("x" * 80) == "x" * 80
    assert printable("\n" * 80) == "\\n" * 38 + "\\..."


def test_ten_megabytes_are_not_copied_to_show_eighty() -> None:
    value = b"x" * 10_000_000
    tracemalloc.start()
    try:
        printable(value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000
