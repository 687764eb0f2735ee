# SPDX-License-Identifier: Apache-2.0
"""The command line that QEMU is started with: what the toolstack wants, and what only the stubdomain can add.

Added are console 1 as a set of descriptors, the socket of QMP, a monitor of the launcher's own, and what QEMU's Xen accelerator
sets by itself: state is saved without a configuration section, a global state and section footers, and is not read with them.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.stubdom.console_map import INCOMING_ARGUMENT, SAVE_FDSET
from host_agent.stubdom.launch_failure import LaunchError, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: accel/xen/xen-all.c of QEMU: both who saves by ``xen-save-devices-state`` and who reads that need them.
MIGRATION: Final = (b"store-global-state", b"send-configuration", b"send-section-footer")
#: Of the launcher's own monitor; libxl's are called ``libxl-…``.
MONITOR: Final = b"pv-stubdom-launch"
#: Xen's accelerator by name, or a machine that has no other.
_XEN: Final = re.compile(rb"(?:type=)?xen(?:fv|pv).*|(?:.*,)?accel=(?:[a-z]+:)*xen(?:[:,].*)?", re.DOTALL)


class Descriptors(NamedTuple):
    """What QEMU inherits: console 1, its end of the launcher's monitor, and console 2 where there is state to restore."""

    save: int
    monitor: int
    restore: int | None


def wants_restore(arguments: Sequence[bytes]) -> bool:
    """Whether state comes through console 2; raise `LaunchError` where it cannot be said or QEMU would leave us."""
    values = list(_values(arguments, b"incoming"))
    if INCOMING_ARGUMENT in values and len(values) > 1:
        raise LaunchError(Status.ARGUMENTS, "-incoming: given more than once; console 2 can be read by one of them")
    if any(_is(argument, b"daemonize") for argument in arguments):
        raise LaunchError(Status.ARGUMENTS, "-daemonize: nobody could look after such a QEMU; cure: leave it out")
    return INCOMING_ARGUMENT in values


def command(program: Path, arguments: Sequence[bytes], descriptors: Descriptors, qmp: Path) -> list[bytes]:
    """All of it, the program first. What the toolstack has set already is not added again."""
    mine = [b"-add-fd", b"fd=%d,set=%d" % (descriptors.save, SAVE_FDSET)]
    mine += [b"-qmp", b"unix:%b,server=on,wait=off" % os.fsencode(qmp).replace(b",", b",,")]
    mine += [b"-chardev", b"socket,id=%b,fd=%d" % (MONITOR, descriptors.monitor)]
    mine += [b"-mon", b"chardev=%b,mode=control" % MONITOR]
    if not _has_xen(arguments):
        mine += _as_under_xen(arguments, restoring=descriptors.restore is not None)
    return [os.fsencode(program), *_connected(arguments, descriptors.restore), *mine]


def _connected(arguments: Sequence[bytes], restore: int | None) -> Iterator[bytes]:
    """*arguments*, with console 2 where they ask for it."""
    before = b""
    for argument in arguments:
        wanted = argument == INCOMING_ARGUMENT and _is(before, b"incoming")
        yield b"fd:%d" % restore if wanted and restore is not None else argument
        before = argument


def _as_under_xen(arguments: Sequence[bytes], *, restoring: bool) -> Iterator[bytes]:
    """What libxl and QEMU's Xen accelerator give a device model, as far as it is missing."""
    said = b"\n".join(_values(arguments, b"global"))
    for name in MIGRATION:
        if name not in said:
            yield from (b"-global", b"migration.%b=off" % name)
    # Without it QEMU waits for a description of the state, which xen-save-devices-state does not write, for ever.
    if restoring and not any(b"suppress-vmdesc=" in value for value in _machines(arguments)):
        yield from (b"-machine", b"suppress-vmdesc=on")


def _has_xen(arguments: Sequence[bytes]) -> bool:
    accelerators = [b"accel=" + value for value in _values(arguments, b"accel")]
    return any(_XEN.fullmatch(value) for value in [*accelerators, *_machines(arguments)])


def _machines(arguments: Sequence[bytes]) -> list[bytes]:
    return [*_values(arguments, b"machine"), *_values(arguments, b"M")]


def _values(arguments: Sequence[bytes], option: bytes) -> Iterator[bytes]:
    """What follows each *option*."""
    return (value for before, value in pairwise(arguments) if _is(before, option))


def _is(argument: bytes, option: bytes) -> bool:
    return argument in (b"-" + option, b"--" + option)
