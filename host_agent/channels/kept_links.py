# SPDX-License-Identifier: Apache-2.0
"""Second links to VMs' sockets, hidden beside them: what keeps a VM reachable when a dying QEMU removes its successor's socket.

Two QEMUs have one path in turn, and for a while at once (a migration within one dom0, a slow end before a reboot). Each removes,
when it starts and when it ends, whatever stands there. A unix socket can be connected to by any link to it, so with a second one
its path can be put back. In a directory that we may not write to, VMs go without.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from host_agent.channels.connect import DEAD, MISSING, connect_socket
from host_agent.channels.endpoint import made_at
from host_agent.errors import Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.channels.peer import Expected

#: The socket that stands at the path, or stood there last; and the one before it, which is the VM's again if its migration fails.
_SUFFIXES: Final = (".kept", ".kept-before")


def keep(path: Path) -> None:
    """Have a second link to the socket that stands at *path*."""
    link, before = links(path)
    with suppress(OSError):  # it is gone again, or the directory or the file is not ours: then without
        status = path.lstat()
        if not stat.S_ISSOCK(status.st_mode) or _is(link, status):
            return
        with suppress(FileNotFoundError):
            link.rename(before)
        os.link(path, link, follow_symlinks=False)


def links(path: Path) -> tuple[Path, ...]:
    """What the second links to the sockets at *path* are called, the newest socket's first."""
    return tuple(path.with_name(f".{path.name}{suffix}") for suffix in _SUFFIXES)


def name_of(link: str) -> str | None:
    """The name of the socket that a file called *link* is a second link to; None for any other file's name."""
    for suffix in _SUFFIXES:
        if link.startswith(".") and link.endswith(suffix) and len(link) > 1 + len(suffix):
            return link[1 : -len(suffix)]
    return None


def connect(path: Path, who: Expected) -> tuple[int, bool]:
    """A stream to the newest socket that stood at *path* and takes connections, and whether it was put back there.

    Raise `Unreachable`. Links to dead ones go. Where another socket has come to stand at *path* meanwhile, it is the one.
    """
    for link in links(path):
        try:
            descriptor = connect_socket(path, who, by=link)
        except Unreachable as exc:
            if exc.word not in (DEAD, MISSING):
                raise
            _remove(link)
            continue
        if _put_back(link, path):
            return descriptor, True
        os.close(descriptor)
        break
    return connect_socket(path, who), False


def put_back(path: Path, made: int) -> bool:
    """Have the socket that *made* tells stand at *path* again; False where that cannot be, as where another is there."""
    return any(_made(link) == made and _put_back(link, path) for link in links(path))


def forget(path: Path) -> None:
    """No VM is served at *path* any more."""
    for link in links(path):
        _remove(link)


def clean(directory: Path) -> None:
    """Remove what an earlier life left in *directory*, but for what may be needed: links to sockets whose path is missing."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            name = name_of(entry.name)
            if name is not None and os.path.lexists(directory / name):
                _remove(directory / entry.name)


def _made(path: Path) -> int | None:
    try:
        return made_at(path.lstat())
    except OSError:
        return None


def _is(path: Path, status: os.stat_result) -> bool:
    return _made(path) == made_at(status)


def _put_back(link: Path, path: Path) -> bool:
    try:
        os.link(link, path, follow_symlinks=False)
    except OSError:
        return False
    return True


def _remove(link: Path) -> None:
    with suppress(OSError):
        link.unlink(missing_ok=True)
