# SPDX-License-Identifier: Apache-2.0
"""Which VM's channel is at which socket: a directory with a socket per VM, ``NAME.sock`` or just ``NAME``."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import BadFile, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX: Final = ".sock"


class Socket(NamedTuple):
    """A socket that is there. QEMU makes a new one each time it starts: *made* tells (an inode's number is soon used again)."""

    path: Path
    made: tuple[int, int]


def look(directory: Path) -> dict[str, Socket]:
    """The sockets in *directory* by the VM's name; raise `BadFile` where it cannot be read."""
    found: dict[str, Socket] = {}
    try:
        with os.scandir(directory) as entries:
            for entry, made in _sockets(entries):
                name = entry.name.removesuffix(SUFFIX)
                if name not in found or entry.name != name:
                    found[name] = Socket(Path(entry.path), made)
    except OSError as exc:
        raise BadFile(f"{shown(directory)}: {exc.strerror}") from None
    return found


def _sockets(entries: Iterator[os.DirEntry[str]]) -> Iterator[tuple[os.DirEntry[str], tuple[int, int]]]:
    for entry in entries:
        try:
            status = entry.stat()
        except OSError:  # gone meanwhile: QEMU unlinks and makes its socket anew
            continue
        if stat.S_ISSOCK(status.st_mode):
            yield entry, (status.st_ino, status.st_ctime_ns)
