# SPDX-License-Identifier: Apache-2.0
"""The helpers on a bus whose state travels with a VM: found, named, saved and loaded by the rules that QEMU goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError
from host_agent.ledger import entry as ledger_entry
from host_agent.qemu.bus import ANSWER_SECONDS, connect
from host_agent.qemu.vmstate import INTERFACE, PATH
from host_agent.qemu.vmstate_stream import MAX_STATE_BYTES, Part, check_id, check_ids
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.qemu.bus import Bus

#: The id of the host agent's own part: a VM's entry of the ledger, in the form that `ledger_entry` knows.
LEDGER_ID: Final = "org.pvchannel.ledger-entry.1"
#: A helper that takes longer, for what it has at hand, is not one to stop a VM for.
CHECK_SECONDS: Final = 5.0
#: What stands between ids in QEMU's id-list.
_BETWEEN: Final = ","


class MissingHelper(HostError):  # noqa: N818 -- it says what the helper is
    """A helper that has to be there is not."""


class Peer(NamedTuple):
    """A helper: its id, and the bus's own name for it."""

    bus: Bus
    owner: str
    id: str

    async def save(self, seconds: float = ANSWER_SECONDS) -> Part:
        """Its state; raise `BusTrouble`, or `HostError` for one that QEMU would not take."""
        (state,) = await self.bus.call(self.owner, PATH, INTERFACE, "Save", returns="ay", seconds=seconds)
        if not 0 < len(state) <= MAX_STATE_BYTES:
            raise HostError(f"{printable(self.id)}: its state has {len(state):,} bytes; QEMU takes 1 to {MAX_STATE_BYTES:,}")
        return Part(self.id, bytes(state))

    async def load(self, state: bytes) -> None:
        """Have it load *state*; raise `BusTrouble`."""
        await self.bus.call(self.owner, PATH, INTERFACE, "Load", "ay", [state], returns="")


async def peers(bus: Bus, id_list: Sequence[str] | None = None) -> list[Peer]:
    """The helpers on *bus*, in the order in which they stand in line; with an *id_list* those alone.

    Raise `MissingHelper` where one of *id_list* is not there, `BadBundle` where an id cannot be one or is there twice,
    `BusTrouble` where one does not say its id.
    """
    found: list[Peer] = []
    for owner in await bus.owners(INTERFACE):
        name = await _id(bus, owner)
        if id_list is None or (name in id_list and name not in (each.id for each in found)):
            found.append(Peer(bus, owner, name))
    check_ids(each.id for each in found)
    missing = [] if id_list is None else [name for name in id_list if name not in (each.id for each in found)]
    if missing:
        names = ", ".join(printable(name) for name in missing)
        raise MissingHelper(f"no helper with the id {names} is on the bus; cure: start it, or leave it out of the list of ids")
    return found


async def checked(address: str, id_list: Sequence[str] | None = None, *, saves: bool = True) -> list[str]:
    """The ids of the helpers that a migration on the bus at *address* takes along, for QEMU's id-list.

    All of them answer. With *saves*, which is for the source, ours also has a state at hand that a destination takes, and
    that QEMU takes. Raise `HostError` where a migration would fail, or leave its VM running nowhere, and so should not begin:
    over two helpers with one id QEMU even frees memory twice.
    """
    async with connect(address) as bus:
        found = await peers(bus, id_list)
        for peer in found:
            if _BETWEEN in peer.id:
                raise HostError(f"{printable(peer.id)}: an id with a comma cannot stand in QEMU's id-list; cure: another id")
            if saves and peer.id == LEDGER_ID:
                ledger_entry.decode((await peer.save(CHECK_SECONDS)).state)
    return [peer.id for peer in found]


def listed(text: str) -> list[str]:
    """The ids of an id-list as QEMU takes it; raise `BadBundle`."""
    ids = list(dict.fromkeys(text.split(_BETWEEN)))
    for each in ids:
        check_id(each)
    return ids


async def _id(bus: Bus, owner: str) -> str:
    (properties,) = await bus.call(owner, PATH, "org.freedesktop.DBus.Properties", "GetAll", "s", [INTERFACE], returns="a{sv}")
    found = properties.get("Id")
    if found is None or found.signature != "s":
        raise HostError(f"{printable(owner)}: it waits for {INTERFACE}, and has no Id; cure: end it")
    name = str(found.value)
    check_id(name)
    return name
