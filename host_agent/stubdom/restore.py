# SPDX-License-Identifier: Apache-2.0
"""Bring a device model's state into a new stubdomain: through console 2, once the launcher has said that this is raw."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError
from host_agent.qemu.libxl_lock import held, lock_of
from host_agent.qemu.running_vm import shown
from host_agent.stubdom import console_end
from host_agent.stubdom.console_map import RESTORE
from host_agent.stubdom.monitor import Way, monitor
from host_agent.stubdom.readiness import READY, RUNNING, START_SECONDS, wait_for
from host_agent.stubdom.state_file import MAX_STATE_BYTES
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.qemu.hotplug_session import Places
    from host_agent.stubdom.console_end import End, Stream
    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client

#: For the bytes; QEMU reads them as fast as it can.
SEND_SECONDS: Final = 60.0
#: An echo comes at once.
_QUIET_SECONDS: Final = 0.3
_BETWEEN_SECONDS: Final = 0.2


class Wish(NamedTuple):
    """How long each part may take: until the launcher is *ready*, the *send*ing, and until QEMU is up."""

    ready: float = START_SECONDS
    send: float = SEND_SECONDS
    running: float = START_SECONDS


async def restore(
    store: Client, places: Places, pair: Pair, way: Way, wish: Wish, state: bytes, tell: Callable[[str], None]
) -> str:
    """Have QEMU go on from *state*, and what it says of itself then, ``running`` or ``paused``; raise `HostError`.

    A part of it may have arrived where it fails: the stubdomain is to be started anew then.
    """
    end = await console_end.find(store, pair, RESTORE)
    if end.kind in (console_end.FILE, console_end.PIPE):
        raise HostError(
            f"{shown(pair.stubdomain)}: console 2 is {end}, which dom0's QEMU reads when the stubdomain starts;"
            " cure: put the state there before that, or give the console a socket or a pty"
        )
    async with held(lock_of(pair.target.domid, pair.target.uuid, places.library), way.seconds):
        await wait_for(store, pair, pair.restore, READY, wish.ready, tell)
        await _send(store, pair, end, state, wish.send)
    tell(f"{len(state)} bytes are in; waiting for {shown(pair.target)}'s QEMU")
    await wait_for(store, pair, pair.state, RUNNING, wish.running, tell)
    return await _arrived(store, places, pair, way, wish)


async def _send(store: Client, pair: Pair, end: End, state: bytes, seconds: float) -> None:
    """Raise `HostError` where not all was taken, or something came back: then the console is not raw."""
    with console_end.open_end(end, pair) as stream:
        await stream.discard(_QUIET_SECONDS, MAX_STATE_BYTES)
        await store.rm(pair.restore)  # it is taken: whoever else wants to send finds no sign
        try:
            async with asyncio.timeout(seconds):
                echoed = await _sent(stream, state)
        except TimeoutError:
            raise HostError(
                f"{end}: not all of {len(state)} bytes were taken within {seconds:g} s: QEMU does not read them;"
                " cure: see console 0 of the stubdomain, and start it anew"
            ) from None
    if echoed:
        raise HostError(
            f"{end}: {echoed} bytes came back: console 2 is not raw inside, and the state is spoilt;"
            " cure: start the stubdomain anew, with pv-stubdom-launch in it"
        )


async def _sent(stream: Stream, state: bytes) -> int:
    """Send it, and how much came back. An echo that nobody reads would stop the sending."""
    listening = asyncio.ensure_future(_count(stream))
    try:
        sending = asyncio.ensure_future(stream.send(state))
        await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            sending.cancel()
            return await listening
        await sending
        await asyncio.wait((listening,), timeout=_QUIET_SECONDS)
        return listening.result() if listening.done() else 0
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _count(stream: Stream) -> int:
    return len(await stream.read())


async def _arrived(store: Client, places: Places, pair: Pair, way: Way, wish: Wish) -> str:
    """QEMU may say that it is up before it has read everything: only its monitor knows."""
    now = asyncio.get_running_loop().time
    until = now() + wish.running
    async with monitor(store, places, pair, way) as qmp:
        while True:
            status = printable((await qmp.execute("query-status"))["status"], 40)
            if status != "inmigrate":
                return status
            if now() > until:
                raise HostError(f"{shown(pair.target)}'s QEMU still waits for more of its state after {wish.running:g} s")
            await asyncio.sleep(_BETWEEN_SECONDS)
