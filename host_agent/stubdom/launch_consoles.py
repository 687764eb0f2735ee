# SPDX-License-Identifier: Apache-2.0
"""The consoles that a device model's state goes through: terminals, made raw and kept raw for as long as they are open.

A terminal is cooked when it is first opened, and again once nobody has it open any more. What goes out through a cooked one
gets a CR before each LF, and what comes in is echoed, cut and partly taken for commands: state would arrive as something else.
"""

from __future__ import annotations

import os
import stat
import termios
import tty
from typing import TYPE_CHECKING

from host_agent.stubdom.launch_failure import LaunchError, Status

if TYPE_CHECKING:
    from pathlib import Path


def opened_to_save(path: Path) -> int:
    """A descriptor of console 1, for writing only, raw from now on; raise `LaunchError`."""
    return _raw(path, os.O_WRONLY)


def opened_to_restore(path: Path) -> int:
    """A descriptor of console 2, for reading only, raw from now on; raise `LaunchError`. What has come already stays."""
    return _raw(path, os.O_RDONLY)


def _raw(path: Path, access: int) -> int:
    try:
        if not stat.S_ISCHR(path.stat().st_mode):
            raise LaunchError(Status.CONSOLE, f"{path}: no terminal")
        descriptor = os.open(path, access | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        cure = "the toolstack gives a stubdomain consoles 0 to 2: log, save, restore"
        raise LaunchError(Status.CONSOLE, f"{path}: {exc.strerror}; cure: {cure}") from None
    try:
        tty.setraw(descriptor, termios.TCSANOW)  # Python's own choice would throw away what has come already
    except termios.error:
        os.close(descriptor)
        raise LaunchError(Status.CONSOLE, f"{path}: no terminal") from None
    return descriptor
