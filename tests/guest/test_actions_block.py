# SPDX-License-Identifier: Apache-2.0
"""Our block goes in and out of a file, and every byte that is not ours stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_agent.actions import block

OURS = "# BEGIN pv-guest-agent\nours\n# END pv-guest-agent\n"


def out(text: str) -> str:
    return b"".join(block.part(text.encode()).foreign).decode()


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("", ""),
        (f"a\n{OURS}b\n", "a\nb\n"),
        (f"a\r\n{OURS}b", "a\r\nb"),
        (OURS.replace("\n", "\r\n") + "b\r\n", "b\r\n"),
        (f"{OURS}a\n{OURS}", "a\n"),
        ("a\n# BEGIN pv-guest-agent\nb\n", "a\nb\n"),
        ("a\n# END pv-guest-agent\nb\n", "a\nb\n"),
        (f"# BEGIN pv-guest-agent\nb\n{OURS}c\n", "b\nc\n"),
        ("# BEGIN pv-guest-agent", ""),
        ("  # BEGIN pv-guest-agent\nb\n# END pv-guest-agent 2\n", "  # BEGIN pv-guest-agent\nb\n# END pv-guest-agent 2\n"),
        ("a\x0b\x0c\x85b\rc\n", "a\x0b\x0c\x85b\rc\n"),
    ],
)
def test_what_is_not_ours_stays_byte_for_byte(text: str, foreign: str) -> None:
    assert out(text) == foreign


def test_a_last_line_without_newline_is_ended_before_our_block() -> None:
    assert block.insert([b"a"], 1, ["ours"]) == f"a\n{OURS}".encode()


def test_no_lines_of_ours_are_no_block() -> None:
    assert block.insert([b"a"], 1, []) == b"a"


LINES = st.lists(st.sampled_from([b"a\n", b"\r\n", block.BEGIN + b"\n", block.END + b"\r\n", b"b\r", block.BEGIN + b" 2\n"]))


@given(LINES, st.integers(0, 9))
def test_putting_it_in_again_changes_nothing(lines: list[bytes], position: int) -> None:
    foreign, _ = block.part(b"".join(lines))
    once = block.insert(foreign, min(position, len(foreign)), ["ours"])
    again, stood = block.part(once)
    assert stood is not None
    assert block.insert(again, stood, ["ours"]) == once
