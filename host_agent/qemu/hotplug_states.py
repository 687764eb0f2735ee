# SPDX-License-Identifier: Apache-2.0
"""How far the two drivers of a console are, QEMU's and the guest's, and waiting until they are where they should be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.xenstore.errors import NoEntry
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.qemu.hotplug_nodes import Place
    from host_agent.xenstore.client import Client

#: XenbusState (xen/include/public/io/xenbus.h).
UNKNOWN, INITIALISING, INITIALISED, CONNECTED, CLOSING, CLOSED = "0", "1", "3", "4", "5", "6"
#: A wait that lasts so long is told.
_PATIENCE_SECONDS: Final = 2.0


class States(NamedTuple):
    """Both drivers' XenbusStates; "" where the node is gone. The frontend's is whatever the guest wrote, made printable."""

    backend: str
    frontend: str

    @property
    def connected(self) -> bool:
        """Whether bytes can pass."""
        return self.backend == self.frontend == CONNECTED

    def __str__(self) -> str:
        return f"QEMU's end is in state {self.backend or '-'}, the guest's in {self.frontend or '-'}"


async def states(store: Client, place: Place) -> States:
    """As they are now."""
    return States(await _state(store, place.backend), await _state(store, place.frontend))


async def wait_for(
    store: Client, place: Place, true: Callable[[States], bool], seconds: float, patience: Callable[[States], None]
) -> States:
    """The states once they are *true*, or as they are after *seconds*; *patience* is called where it takes longer than usual."""
    paths = [f"{end}/state" for end in (place.backend, place.frontend)]
    for path in paths:
        await store.watch(path, path)
    try:
        now = await _until(store, place, true, min(_PATIENCE_SECONDS, seconds))
        if not true(now) and seconds > _PATIENCE_SECONDS:
            patience(now)
            now = await _until(store, place, true, seconds - _PATIENCE_SECONDS)
    finally:
        for path in paths:
            await store.unwatch(path, path)
    return now


async def _until(store: Client, place: Place, true: Callable[[States], bool], seconds: float) -> States:
    """Each look is after the events that led to it were taken, so that none is overlooked."""
    now = await states(store, place)
    try:
        async with asyncio.timeout(seconds):
            while not true(now):
                await store.wait_for_events()
                store.take_events()
                now = await states(store, place)
    except TimeoutError:
        pass
    return now


async def _state(store: Client, end: str) -> str:
    try:
        return printable(await store.read(f"{end}/state"), 20)
    except NoEntry:
        return ""
