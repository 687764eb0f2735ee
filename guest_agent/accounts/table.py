# SPDX-License-Identifier: Apache-2.0
"""A file of records with colons, as passwd(5) and its kin: look records up, replace and drop them; every other byte stays.

Text is latin-1 here, whatever it is elsewhere: each byte is one character and comes back as that byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CODE = "latin-1"


class Table:
    """The file *path*, which held *content*; a whole record has *width* fields. *touched* are the names that were changed."""

    def __init__(self, path: str, content: bytes, width: int) -> None:
        self.path, self._width = path, width
        self._lines = _lines(content)
        self.touched: dict[str, None] = {}

    def __contains__(self, name: str) -> bool:
        return any(_name(line) == name for line in self._lines)

    def row(self, name: str) -> list[str] | None:
        """The fields of the first record of *name*; raise `ItemError` where it is damaged."""
        line = next((line for line in self._lines if _name(line) == name), None)
        if line is None:
            return None
        fields = line.decode(_CODE).rstrip("\n").split(":")
        if len(fields) != self._width:
            problem = f"has {len(fields)} fields, not {self._width}; mend it"
            raise ItemError("bad-accounts", f"the line of {name} in {self.path} {problem}")
        return fields

    def rows(self) -> Iterator[list[str]]:
        """All records that are whole. Damaged lines, and those of NIS ("+", "-"), are passed over."""
        for line in self._lines:
            fields = line.decode(_CODE).rstrip("\n").split(":")
            if len(fields) == self._width and fields[0] and fields[0][0] not in "+-#":
                yield fields

    def put(self, fields: list[str]) -> None:
        """Have this record in place of the first of its name, or behind all, but before what NIS adds."""
        if self.row(fields[0]) == fields:
            return
        line = ":".join(fields).encode(_CODE) + b"\n"
        self.touched[str(fields[0])] = None
        position = next((n for n, old in enumerate(self._lines) if _name(old) == fields[0]), None)
        if position is None:
            _insert(self._lines, _end(self._lines), [line])
        else:
            self._lines[position] = line

    def drop(self, name: str) -> None:
        """Have no record of *name*."""
        if name in self:
            self.touched[str(name)] = None
            self._lines = [line for line in self._lines if _name(line) != name]

    @property
    def content(self) -> bytes:
        """The file as it shall be."""
        return b"".join(self._lines)


def encoded(text: str) -> str:
    """*text* as a field: its UTF-8, a character for each byte."""
    return text.encode("utf-8").decode(_CODE)


def lines_of(content: bytes, names: Iterable[str]) -> list[list[bytes]]:
    """The lines of each of *names*."""
    lines = _lines(content)
    return [[line.rstrip(b"\n") for line in lines if _name(line) == name] for name in names]


def with_lines_of(content: bytes, other: bytes, names: Iterable[str]) -> bytes:
    """*content*, but the lines of *names* are those that *other* has."""
    lines = _lines(content)
    for name in names:
        theirs = [line for line in _lines(other) if _name(line) == name]
        position = next((n for n, line in enumerate(lines) if _name(line) == name), None)
        lines = [line for line in lines if _name(line) != name]
        _insert(lines, _end(lines) if position is None else position, theirs)
    return b"".join(lines)


def _lines(content: bytes) -> list[bytes]:
    """Lines by their newlines alone, each with its own."""
    lines = [line + b"\n" for line in content.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _name(line: bytes) -> str:
    return line.partition(b":")[0].rstrip(b"\n").decode(_CODE)


def _end(lines: list[bytes]) -> int:
    """Before which line a new record belongs: what stands behind a line of NIS is not looked at any more (passwd(5))."""
    return next((n for n, line in enumerate(lines) if line[:1] in (b"+", b"-")), len(lines))


def _insert(lines: list[bytes], position: int, new: list[bytes]) -> None:
    if new and position and not lines[position - 1].endswith(b"\n"):
        lines[position - 1] += b"\n"
    lines[position:position] = [line if line.endswith(b"\n") else line + b"\n" for line in new]
