# SPDX-License-Identifier: Apache-2.0
"""Serve the host agent's own helper for one VM, on a bus that is there or on one of its own, until the bus or we end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from host_agent.qemu.bus import BusTrouble, connect
from host_agent.qemu.private_bus import private_bus
from host_agent.qemu.vmstate import Allowed, Helper
from host_agent.qemu.vmstate_peers import LEDGER_ID
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from host_agent.qemu.ledger_state import LedgerState


class Place(NamedTuple):
    """Where to serve, for which QEMU: on the bus with this address, or else on one of our own in *directory*."""

    address: str | None
    directory: Path | None
    allowed: Allowed = Allowed()


async def serve(place: Place, state: LedgerState, ready: Callable[[str], None], tell: Callable[[str], None]) -> None:
    """Serve *state*; *ready* is told the bus's address once QEMU may be told it. Raise `HostError` where it cannot go on."""
    await state.prepare()
    async with _bus(place) as address, connect(address) as bus:
        await Helper(bus, LEDGER_ID, state, place.allowed, tell).begin()
        ready(address)
        keeping = asyncio.create_task(state.keep_prepared())
        try:
            await bus.ended()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    raise BusTrouble(f"{printable(address, 300)}: the bus has ended, so no state of this VM travels any more")


@asynccontextmanager
async def _bus(place: Place) -> AsyncIterator[str]:
    """The address of the bus; one of our own lasts as long as the block."""
    if place.address is not None:
        yield place.address
    elif place.directory is not None:
        async with private_bus(place.directory, place.allowed.uid) as address:
            yield address
