# SPDX-License-Identifier: Apache-2.0
"""A file or a pipe: written whole or not at all, for root alone; read from where nobody else can have written."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final

from host_agent.errors import BadFile, HostError, shown
from host_agent.files import write_whole

#: Standard output, or input.
PIPE: Final = "-"


def check_no_terminal(name: str, what: str) -> None:
    """Raise `HostError` where *what* would be written to a terminal."""
    if name == PIPE and sys.stdout.isatty():
        raise HostError(f"a {what} is no text, and standard output is a terminal; cure: name a file, or '| ssh HOST …'")


def write(name: str, what: str, data: bytes) -> None:
    """Write *data*, which is a *what*, to the file *name* or to `PIPE`; raise `BadFile`, and then an old file is untouched."""
    if name == PIPE:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        write_whole(Path(name), data)
    except OSError as exc:
        raise BadFile(f"{shown(name)}: {exc.strerror}; the {what} was not written") from None


def read(name: str, most: int, decides: str, writer: str) -> bytes:
    """What the file *name* has, or what comes from `PIPE`: *most* bytes and one more, where there are so many; raise `BadFile`.

    Whoever could have written the file *decides* something, and *writer* is the command that writes such a file.
    """
    if name == PIPE:
        return sys.stdin.buffer.read(most + 1)
    try:
        with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 -- a descriptor
            _check_owner(os.fstat(file.fileno()), name, decides)
            return file.read(most + 1)
    except OSError as exc:
        raise BadFile(f"{shown(name)}: {exc.strerror}; '{writer}' writes such a file") from None


def name_of(name: str) -> str:
    """What is read, for people."""
    return "standard input" if name == PIPE else shown(name)


def _check_owner(status: os.stat_result, name: str, decides: str) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise BadFile(f"{shown(name)}: belongs to uid {status.st_uid}, who so decides {decides}; cure: chown root")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise BadFile(f"{shown(name)}: others may write to it, and so decide {decides}; cure: chmod 600")
