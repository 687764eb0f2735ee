# SPDX-License-Identifier: Apache-2.0
"""Stanzas of interfaces(5): which interfaces a file configures, and the file without those of some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What begins a stanza, and so ends the one before; and the lines that only name interfaces, as ``allow-*`` does.
_BEGINNINGS: Final = ("iface", "mapping", "source", "source-directory", "rename", "template")
_LISTS: Final = ("auto", "no-auto-down", "no-scripts")


def names(text: str) -> list[str]:
    """The interfaces that an interfaces(5) file has stanzas for."""
    stanzas = (line.split() for line in text.splitlines())
    return list(dict.fromkeys(words[1] for words in stanzas if len(words) > 1 and words[0] == "iface"))


def without(text: str, unwanted: set[str]) -> str:
    """*text* without a word about the interfaces of *unwanted*; every other line as it was."""
    kept: list[str] = []
    inside = False
    for line in _lines(text):
        words = line.replace("\\\n", " ").split()
        word = words[0] if words else ""
        if word in _LISTS or word.startswith("allow-"):
            inside = False
            left = [name for name in words[1:] if name not in unwanted]
            if len(left) < len(words) - 1:
                kept += [f"{' '.join([word, *left])}\n"] if left else []
                continue
        elif word in _BEGINNINGS:
            inside = word == "iface" and len(words) > 1 and words[1] in unwanted
        elif word.startswith("#") or not word:
            kept.append(line)
            continue
        if not inside:
            kept.append(line)
    return "".join(kept)


def _lines(text: str) -> Iterator[str]:
    """The lines, each with those that continue it (a backslash at the end)."""
    whole = ""
    for line in text.splitlines(keepends=True):
        whole += line
        if not line.endswith("\\\n"):
            yield whole
            whole = ""
    if whole:
        yield whole
