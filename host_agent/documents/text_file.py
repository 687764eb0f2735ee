# SPDX-License-Identifier: Apache-2.0
"""An operator's file as text, and an error about it that says file, line and the path inside."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from host_agent.documents.yaml_values import Place
from host_agent.errors import BadFile, shown
from pv_channel.messages import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    from pathlib import Path

#: YAML with its indentation and comments takes more room than the JSON that is sent.
MAX_FILE_BYTES: Final = 4 * MAX_DOCUMENT_BYTES


def text_of(path: Path) -> str:
    """The text of the file at *path*; raise `BadFile` for one that is none, is too long, or that everybody may change."""
    try:
        # Not to block on a FIFO somebody put in a document's place.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise located(path, None, "", "not a regular file")
            if status.st_mode & stat.S_IWOTH:
                raise located(path, None, "", "everybody may write to it and so decide what a VM becomes; cure: chmod o-w")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise located(path, None, "", exc.strerror or str(exc)) from None
    return text_of_bytes(data, path)


def text_of_bytes(data: bytes, path: Path) -> str:
    """*data* as text; *path* is only named in the `BadFile` that is raised where it is none."""
    if len(data) > MAX_FILE_BYTES:
        raise located(path, None, "", f"longer than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise located(path, Place(data.count(b"\n", 0, exc.start) + 1, 1), "", "not UTF-8") from None


def located(path: Path, place: Place | None, inside: str, problem: str) -> BadFile:
    """The error that the file at *path* says something wrong at *place*, which is *inside* it."""
    where = position(path, place)
    return BadFile(f"{where}: {inside}: {problem}" if inside else f"{where}: {problem}")


def position(path: Path, place: Place | None) -> str:
    """*place* in the file at *path*, as editors and compilers write it."""
    return f"{shown(path)}:{place.line}:{place.column}" if place else shown(path)
