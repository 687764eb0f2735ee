# SPDX-License-Identifier: Apache-2.0
"""A change of a file as lines for people: a unified diff, or a word about what cannot or must not be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pv_channel.text import printable

if TYPE_CHECKING:
    from guest_agent.files import Stored

#: Lines of one file; what a person reads of a diff is less.
MAX_LINES: Final = 200
#: Files above this are not compared line by line.
MAX_BYTES: Final = 256 * 1024
_LINE: Final = 200


def head(verb: str, path: str, old: Stored | None, mode: int | None) -> str:
    """``write /etc/hosts (new, 0644)``."""
    notes = ["new"] if old is None and verb == "write" else []
    if mode is not None and (old is None or old.mode != mode):
        notes.append(f"{mode:04o}" if old is None else f"{old.mode:04o} -> {mode:04o}")
    return printable(f"{verb} {path}", _LINE) + (f" ({', '.join(notes)})" if notes else "")


def diff(old: bytes, new: bytes, *, secret: bool) -> list[str]:
    """The lines that go and come, with three around them; for a secret only that something does."""
    if old == new:
        return []
    if secret:
        return [f"  (secret: {len(old)} bytes before, {len(new)} after)"]
    if b"\0" in old or b"\0" in new or max(len(old), len(new)) > MAX_BYTES:
        return [f"  ({len(old)} bytes before, {len(new)} after)"]
    from difflib import unified_diff

    before, after = (text.decode("utf-8", "replace").splitlines() for text in (old, new))
    lines = [printable(line.rstrip("\n"), _LINE) for line in list(unified_diff(before, after, n=3, lineterm=""))[2:]]
    return [f"  {line}" for line in lines[:MAX_LINES]] + [f"  ({len(lines) - MAX_LINES} lines more)"] * (len(lines) > MAX_LINES)
