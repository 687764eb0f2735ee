# SPDX-License-Identifier: Apache-2.0
"""Our block of lines, between two markers, in a file that others edit too; every other byte stays as it is.

Damaged markers never cost a line that may be somebody's: a BEGIN without its END, or an END without its BEGIN, is taken
away alone, and what stood behind it is from then on not ours.
"""

from __future__ import annotations

from typing import Final, NamedTuple

BEGIN: Final = b"# BEGIN pv-guest-agent"
END: Final = b"# END pv-guest-agent"


class Parted(NamedTuple):
    """A file's lines, each with its end: those that are not ours, and before which of them our block stood (None: it did not)."""

    foreign: list[bytes]
    position: int | None


def part(text: bytes) -> Parted:
    """Take our block, or several, and stray markers out of *text*."""
    lines = _lines(text)
    foreign: list[bytes] = []
    position: int | None = None
    index = 0
    while index < len(lines):
        marker = lines[index].rstrip(b"\r\n")
        if marker == BEGIN:
            end = _end_of_block(lines, index + 1)
            if end is not None:
                position = len(foreign) if position is None else position
                index = end
        if marker not in (BEGIN, END):
            foreign.append(lines[index])
        index += 1
    return Parted(foreign, position)


def _lines(text: bytes) -> list[bytes]:
    """Lines by their newlines alone: a lone carriage return is a byte of its line like any other."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _end_of_block(lines: list[bytes], start: int) -> int | None:
    """Where the END to a BEGIN just before *start* stands; None where another BEGIN or the file's end comes first."""
    for index in range(start, len(lines)):
        marker = lines[index].rstrip(b"\r\n")
        if marker in (BEGIN, END):
            return index if marker == END else None
    return None


def insert(foreign: list[bytes], position: int, ours: list[str]) -> bytes:
    """The file with our block before the line *position*; no lines of ours, no block."""
    if not ours:
        return b"".join(foreign)
    before, after = foreign[:position], foreign[position:]
    if before and not before[-1].endswith(b"\n"):
        before[-1] += b"\n"
    block = [BEGIN, *(line.encode("ascii") for line in ours), END]
    return b"".join(before) + b"".join(line + b"\n" for line in block) + b"".join(after)
