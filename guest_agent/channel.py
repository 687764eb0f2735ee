# SPDX-License-Identifier: Apache-2.0
"""Which tty is our channel: asked of the xen bus and xenstore, predicted, and proven only by a greeting.

Nothing joins console-N to hvcM. The kernel gives the lowest free hvc to each console in the order in which it meets them, so on a
guest whose channels never changed the order decides; after unplugging it does not. Hence candidates, most likely first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from guest_agent.xenbus import Xenbus
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Eight hvc slots (MAX_NR_HVC_CONSOLES), of which the first is the primary console's.
USABLE: Final = range(1, 8)
#: xenbus_devid_to_vtermno keeps the last digit only, so console-10 collides with the primary console and never probes.
MAX_NUMBER: Final = 9
CONNECTED: Final = "Connected"

_CONSOLE: Final = re.compile(r"console-([1-9][0-9]{0,5})", re.ASCII)


class Console(NamedTuple):
    """A console on the xen bus. *order* says when the kernel met it, among others; *name* is its channel's, or None."""

    number: int
    state: str
    order: int
    name: str | None


class ChannelMissing(Exception):  # noqa: N818 -- it says what the bus lacks
    """No console on the bus bears the name."""


def consoles(
    bus: Callable[[], list[tuple[str, str, int]]] | None = None, name_of: Callable[[int], str | None] | None = None
) -> list[Console]:
    """The secondary consoles on the bus, in the order in which the kernel met them.

    Raise `XenbusError` where xenstore is silent. *bus* and *name_of* stand for sysfs and xenstore in a test.
    """
    devices = _on_the_bus() if bus is None else bus()
    found = [Console(int(match[1]), state, age, None) for device, state, age in devices if (match := _CONSOLE.fullmatch(device))]
    if not found:
        return []
    if name_of is not None:
        return _named(found, name_of)
    xenbus = Xenbus.open()
    try:
        return _named(found, lambda number: channel_name_of(xenbus, number))
    finally:
        xenbus.close()


def channel_name_of(xenbus: Xenbus, number: int) -> str | None:
    """The name of the channel behind console *number*, in printable form: xl checks neither its charset nor its length."""
    raw = xenbus.read(f"device/console/{number}/name")
    return None if raw is None else printable(raw, 128)


def _named(found: Iterable[Console], name_of: Callable[[int], str | None]) -> list[Console]:
    return sorted((console._replace(name=name_of(console.number)) for console in found), key=lambda c: (c.order, c.number))


def _on_the_bus() -> list[tuple[str, str, int]]:
    """Name, state and age of each device on the xen bus."""
    import pyudev  # 21 ms, and a look for libudev: `--tty` does without

    found = []
    for device in pyudev.Context().list_devices(subsystem="xen"):
        # ATTR files can appear after the device; sysfs numbers its directories in the order in which they are made.
        state = device.attributes.get("state") or b""
        found.append((device.sys_name, printable(state.strip(), 20), _inode(device.sys_path)))
    return found


def _inode(path: str) -> int:
    import os

    try:
        return os.stat(path).st_ino  # noqa: PTH116 -- a string from pyudev, and one number wanted
    except OSError:  # unplugged just now
        return 0


def predict(found: Sequence[Console]) -> dict[int, int]:
    """Console number to the hvc that it has where nothing was ever unplugged; consoles that get none are missing."""
    alive = [console for console in found if console.state in (CONNECTED, "") and console.number <= MAX_NUMBER]
    return dict(zip((console.number for console in alive), USABLE, strict=False))


def candidates(found: Sequence[Console], name: str) -> list[str]:
    """The ttys that may be the channel *name*, most likely first, never hvc0; raise `ChannelMissing`, naming what there is."""
    ours = [console for console in found if console.name == name]
    if not ours:
        there = ", ".join(f"console-{c.number} ({c.name or 'no name'})" for c in found) or "none"
        raise ChannelMissing(f"no console on the xen bus bears the name {name}; on it: {there}")
    predicted = predict(found)
    first = [predicted[console.number] for console in ours if console.number in predicted]
    if not first:
        raise ChannelMissing(
            f"console-{ours[0].number} bears the name {name} and has no tty (state {ours[0].state or 'unknown'}): "
            f"the kernel serves {len(USABLE)} channels, numbered 1 to {MAX_NUMBER}, "
            "and needs 'hvc/xen: fix event channel handling for secondary consoles'"
        )
    # Slots are filled from the lowest: after unplugging, ours is at or below where it would be now, or in a hole further up. Even
    # an only channel can be, where others were there before it.
    others = sorted((slot for slot in USABLE if slot not in first), key=lambda slot: abs(slot - first[0]))
    return [f"/dev/hvc{slot}" for slot in [*first, *others]]
