# SPDX-License-Identifier: Apache-2.0
"""Shadow's lock on the account files, /etc/.pwd.lock (lckpwdf(3)): useradd, passwd, vipw and systemd take it too."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.system import System

_NAME: Final = ".pwd.lock"
_OPEN: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
#: As long as lckpwdf(3) itself waits: nobody holds it for longer than an edit of a few files takes.
SECONDS: Final = 15.0


@contextmanager
def locked(system: System) -> Iterator[None]:
    """Be the only one who changes the account files; `OSError` with EAGAIN where another is at it for too long.

    The kernel forgets the lock with the process, and with any descriptor of the file that is closed (fcntl_locking(2)):
    nothing inside may lock it again.
    """
    with system.directory("/etc") as parent:
        opened = os.open(_NAME, _OPEN, 0o600, dir_fd=parent)
    try:
        if not system.wait_for(lambda: _lock(opened), SECONDS):
            raise OSError(errno.EAGAIN, f"another program has held /etc/{_NAME} for {SECONDS:g} s", f"/etc/{_NAME}")
        yield
    finally:
        os.close(opened)


def _lock(opened: int) -> bool:
    try:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True
