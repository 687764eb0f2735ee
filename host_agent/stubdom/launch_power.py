# SPDX-License-Identifier: Apache-2.0
"""Switch the domain off: what is left to do for a process 1 whose QEMU has ended. Where it just exits, the kernel panics."""

from __future__ import annotations

import ctypes
import os
from typing import Final

#: LINUX_REBOOT_CMD_POWER_OFF of reboot(2).
_POWER_OFF: Final = 0x4321FEDC


def is_init() -> bool:
    """Whether this process is the first of its domain, or of its PID namespace."""
    return os.getpid() == 1


def power_off() -> None:
    """Do not come back; in a PID namespace that ends it. Nothing happens where this is not process 1."""
    if is_init():
        os.sync()
        ctypes.CDLL(None).reboot(_POWER_OFF)
