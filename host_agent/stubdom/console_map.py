# SPDX-License-Identifier: Apache-2.0
"""What each console of a stubdomain is: QEMU's log, its state on the way out and in, the target's serials, then its channels.

The launcher inside reads this file, too, where nothing but Python's own library is: it imports nothing else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

#: libxl's STUBDOM_CONSOLE_LOGGING, _SAVE, _RESTORE and _SERIAL.
LOG: Final = 0
SAVE: Final = 1
RESTORE: Final = 2
FIRST_OF_TARGET: Final = 3
#: Linux has terminals for so many consoles, hvc0 to hvc7.
MAX_CONSOLES: Final = 8
#: What the toolstack writes into QEMU's arguments where it cannot know a number: that of console 2's descriptor.
INCOMING_ARGUMENT: Final = b"$STUBDOM_RESTORE_INCOMING_ARG"
#: The set of descriptors in which QEMU finds console 1.
SAVE_FDSET: Final = 1


class Role(StrEnum):
    """What a console is for."""

    LOG = "log"
    SAVE = "save"
    RESTORE = "restore"
    SERIAL = "serial"
    CHANNEL = "channel"


_FIXED: Final = {LOG: Role.LOG, SAVE: Role.SAVE, RESTORE: Role.RESTORE}


class Console(NamedTuple):
    """One console: its *number*, what it is for, and, of a channel of the target's, the *name*."""

    number: int
    role: Role
    name: str = ""

    @property
    def tty(self) -> str:
        """What it is inside, where no console is missing before it: Linux counts those that are there."""
        return tty_of(self.number)


def role_of(number: int, name: str = "") -> Role:
    """What console *number* is for. The target's bear a *name* if they are channels, and none if they are serials.

    Raise `ValueError` where no console has that number.
    """
    if number < 0:
        raise ValueError(f"no console has the number {number}")
    return _FIXED.get(number) or (Role.CHANNEL if name else Role.SERIAL)


def tty_of(number: int) -> str:
    """The terminal of console *number* inside; raise `ValueError` where Linux has none for it."""
    if not 0 <= number < MAX_CONSOLES:
        raise ValueError(f"console {number} has no terminal inside: Linux has {MAX_CONSOLES}, hvc0 to hvc{MAX_CONSOLES - 1}")
    return f"/dev/hvc{number}"


def layout(serials: int = 0, channels: Sequence[str] = ()) -> list[Console]:
    """All consoles of the stubdomain of a target with so many *serials* and the *channels* of these names, in order.

    Raise `ValueError` where they are more than a Linux stubdomain has terminals for, or a channel has no name.
    """
    if serials < 0 or "" in channels:
        raise ValueError("serials are counted, and a channel has a name")
    names = [""] * (FIRST_OF_TARGET + serials) + list(channels)
    if len(names) > MAX_CONSOLES:
        left = MAX_CONSOLES - FIRST_OF_TARGET
        raise ValueError(f"{serials} serials and {len(channels)} channels: a stubdomain has consoles for {left} of them")
    return [Console(number, role_of(number, name), name) for number, name in enumerate(names)]
