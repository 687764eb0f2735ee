# SPDX-License-Identifier: Apache-2.0
"""Which locales glibc has in this machine, by its files: its archive, its directories, and what it can make more from."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from guest_agent.system import System

LOCALES: Final = "/usr/lib/locale"
ARCHIVE: Final = f"{LOCALES}/locale-archive"
SUPPORTED: Final = "/usr/share/i18n/SUPPORTED"
SOURCES: Final = "/usr/share/i18n/locales"
#: Built into glibc, C.UTF-8 since 2.35 and in Debian long before.
_ALWAYS: Final = ("C", "POSIX", "C.utf8")
#: The archive's head (glibc's locarchive.h): magic, serial, then offset, used and size of the names and of the strings.
_HEAD: Final = struct.Struct("=8I")
_MAGIC: Final = 0xDE020109
#: The names stand before the locales themselves, within the first part of the archive.
_NAMES_WITHIN: Final = 1024 * 1024


def is_available(system: System, name: str) -> bool:
    """Whether setlocale(3) would find *name*."""
    wanted = normal(name)
    return wanted in _ALWAYS or wanted in map(normal, system.names(LOCALES)) or wanted in _archived(system)


def normal(name: str) -> str:
    """*name* as glibc looks it up: its character set in lower case, letters and digits alone."""
    rest, at, modifier = name.partition("@")
    language, dot, charset = rest.partition(".")
    return language + dot + re.sub(r"[^a-z0-9]", "", charset.lower()) + at + modifier


def _archived(system: System) -> set[str]:
    try:
        with open(system.file(ARCHIVE), "rb") as file:  # noqa: PTH123  pathlib is 4 ms that the start does without
            data = file.read(_NAMES_WITHIN)
    except (FileNotFoundError, NotADirectoryError):
        return set()
    if len(data) < _HEAD.size:
        return set()
    magic, _serial, _names, _names_used, _names_size, start, used, _size = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        return set()
    return {word.decode("ascii", "replace") for word in data[start : start + used].split(b"\0") if word}


def supported(system: System, name: str) -> str:
    """The line of `SUPPORTED` for *name*, ``de_AT.UTF-8 UTF-8``; empty where there is none."""
    for line in system.text(SUPPORTED).splitlines():
        words = line.split()
        if len(words) == 2 and normal(words[0]) == normal(name):
            return " ".join(words)
    return ""


def source_of(name: str, line: str) -> tuple[str, str]:
    """What localedef(1) is to make *name* from: the source, and the character set as its *line* in `SUPPORTED` says it."""
    rest, at, modifier = name.partition("@")
    language, _, charset = rest.partition(".")
    return language + at + modifier, line.partition(" ")[2] or charset or "ISO-8859-1"


def with_line(content: bytes, line: str) -> bytes:
    """/etc/locale.gen with *line* in it, where it stood commented out, else at the end."""
    wanted = line.encode("ascii")
    lines = content.splitlines(keepends=True)
    if any(entry.strip() == wanted for entry in lines):
        return content
    for number, entry in enumerate(lines):
        if entry.startswith(b"#") and entry.lstrip(b"# \t").strip() == wanted:
            lines[number] = wanted + b"\n"
            return b"".join(lines)
    end = b"" if not content or content.endswith(b"\n") else b"\n"
    return content + end + wanted + b"\n"
