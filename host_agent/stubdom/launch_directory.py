# SPDX-License-Identifier: Apache-2.0
"""The directory of QEMU's socket: nobody else's, and of one launcher and its QEMU at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from host_agent.stubdom.launch_failure import LaunchError, Status

if TYPE_CHECKING:
    from pathlib import Path

SOCKET: Final = "qmp.sock"
#: sun_path of unix(7), with its NUL.
MAX_SOCKET_BYTES: Final = 107
_BETWEEN_SECONDS: Final = 0.1


def held(path: Path, seconds: float) -> int:
    """A descriptor that has *path*, which is made where it is not there, locked; raise `LaunchError`.

    QEMU inherits the descriptor, so another launcher waits, up to *seconds*, until a QEMU has ended whose launcher was killed.
    """
    if len(os.fsencode(path / SOCKET)) > MAX_SOCKET_BYTES:
        raise LaunchError(Status.DIRECTORY, f"{path}: too long a path for a socket in it; cure: choose another")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        made = os.fstat(descriptor)
        if made.st_uid != os.geteuid() or stat.S_IMODE(made.st_mode) & 0o077:
            raise LaunchError(Status.DIRECTORY, f"{path}: others can use it, too; cure: remove it, or choose another")
        _lock(descriptor, path, time.monotonic() + seconds)
    except OSError as exc:
        raise LaunchError(Status.DIRECTORY, f"{path}: {exc.strerror}; cure: mount a tmpfs at /run, or choose another") from None
    return descriptor


def _lock(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno != errno.EWOULDBLOCK:
                raise
        else:
            return
        if time.monotonic() >= deadline:
            why = "another launcher is at work, or a QEMU still runs whose launcher was killed"
            raise LaunchError(Status.DIRECTORY, f"{path}: {why}; cure: end it")
        time.sleep(_BETWEEN_SECONDS)
