# SPDX-License-Identifier: Apache-2.0
"""Carry a VM's bundle where its QEMU cannot (Debian's Xen QEMU has no dbus-vmstate): from all who have a part of it, and to them.

The rules are QEMU's own, but that a helper which fails to save fails the whole: QEMU says that all went well, and its destination
then ends.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from host_agent.ledger import entry as ledger_entry
from host_agent.ledger import travel as ledger_travel
from host_agent.ledger.travel import NotMet
from host_agent.qemu.bus import connect
from host_agent.qemu.vmstate_peers import LEDGER_ID, MissingHelper, peers
from host_agent.qemu.vmstate_stream import BadBundle, Part
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from host_agent.ledger.travel import Manner
    from host_agent.qemu.vmstate_peers import Peer


class Stage(NamedTuple):
    """Whose state it is: a VM of the ledger in *directory*, the bus of its helpers, and the ids that have to be there."""

    directory: Path
    vm: str
    bus: str | None = None
    id_list: Sequence[str] | None = None


async def gather(stage: Stage) -> list[Part]:
    """Everybody's part, ours first; raise `HostError` where one that has to be there cannot be had."""
    ours = _own_part(stage)
    async with _helpers(stage) as helpers:
        parts = [*ours, *[await helper.save() for helper in helpers]]
    if not parts:
        raise NotMet(f"{printable(stage.vm)}: its guest was never met from here, so there is no state of it to carry")
    return parts


async def hand_out(stage: Stage, parts: Sequence[Part], manner: Manner) -> list[str]:
    """Give everybody their part, and say what became of each; raise `HostError` where one has no taker, before any is given.

    Ours is loaded first: it may be loaded again, should another's fail.
    """
    if not parts:
        raise BadBundle("the bundle is empty: it is nobody's state")
    async with _helpers(stage) as helpers:
        takers = {helper.id: helper for helper in helpers}
        for part in parts:
            if part.id not in takers and not (part.id == LEDGER_ID and _has_ours(stage)):
                raise MissingHelper(_without_taker(part, stage))
        done = [_load_ours(stage, part, manner) for part in parts if part.id == LEDGER_ID]
        for part in parts:
            if part.id != LEDGER_ID:
                await takers[part.id].load(part.state)
                done.append(f"{printable(part.id)}: {len(part.state):,} bytes loaded")
    return done


def _own_part(stage: Stage) -> list[Part]:
    """Ours, where it is wanted; it may be missing where nobody asked for it by its id, and others have one."""
    if not _has_ours(stage):
        return []
    try:
        entry = ledger_travel.export(stage.directory, stage.vm)
    except NotMet:
        if stage.id_list is not None or stage.bus is None:
            raise
        return []
    return [Part(LEDGER_ID, ledger_entry.encode(entry))]


def _has_ours(stage: Stage) -> bool:
    return stage.id_list is None or LEDGER_ID in stage.id_list


def _load_ours(stage: Stage, part: Part, manner: Manner) -> str:
    return ledger_travel.load(stage.directory, ledger_entry.decode(part.state), stage.vm, manner).text


@asynccontextmanager
async def _helpers(stage: Stage) -> AsyncIterator[list[Peer]]:
    """The others on the VM's bus, in their order; nobody, without a bus. Raise `HostError` where one is missing."""
    if stage.bus is None:
        others = [name for name in stage.id_list or () if name != LEDGER_ID]
        if others:
            raise MissingHelper(f"{printable(', '.join(others))}: without a bus there is no such helper; cure: --bus ADDRESS")
        yield []
        return
    async with connect(stage.bus) as bus:
        wanted = None if stage.id_list is None else [name for name in stage.id_list if name != LEDGER_ID]
        yield [helper for helper in await peers(bus, wanted) if helper.id != LEDGER_ID]


def _without_taker(part: Part, stage: Stage) -> str:
    name = printable(part.id)
    if stage.id_list is not None and part.id not in stage.id_list:
        return f"the state of {name} is in the bundle, and that is not in the list of ids; cure: --id-list with it"
    cure = "start it on the VM's bus" if stage.bus else "--bus names the bus that it is on"
    return f"the state of {name} is in the bundle, and no helper here takes it; cure: {cure}"
