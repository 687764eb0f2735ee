# SPDX-License-Identifier: Apache-2.0
"""Make a directory of the machine, with the parents that it lacks."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from guest_agent.system import System

_PARENT_MODE: Final = 0o755


def make_directories(system: System, absolute: str, mode: int = _PARENT_MODE) -> None:
    """Make the directory *absolute* with *mode*, durably; one that is there stays as it is. Raise `OSError`."""
    sync(system, add_directories(system, absolute, mode))


def add_directories(system: System, absolute: str, mode: int = _PARENT_MODE) -> list[str]:
    """`make_directories`, but for what makes it durable: `sync` the paths that come back, when what stands in them is."""
    changed = []
    ends = [position for position, letter in enumerate(absolute) if letter == "/" and position]
    for end in [*ends, len(absolute)]:
        path = absolute[:end]
        if system.exists(path):
            continue
        parent, _, name = path.rpartition("/")
        with system.directory(parent or "/") as above:
            _make(above, name, mode if path == absolute else _PARENT_MODE)
        changed.append(parent or "/")
    return changed


def sync(system: System, directories: list[str]) -> None:
    """Make durable which names are in *directories*."""
    for path in directories:
        with system.directory(path) as opened:
            os.fsync(opened)


def _make(parent: int, name: str, mode: int) -> None:
    with suppress(FileExistsError):  # another agent of this guest was faster
        os.mkdir(name, mode, dir_fd=parent)
        opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.fchmod(opened, mode)  # whatever the umask took away
        finally:
            os.close(opened)
