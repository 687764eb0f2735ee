# SPDX-License-Identifier: Apache-2.0
"""Take a device model's state out of its stubdomain: QEMU writes it to console 1, and dom0 reads there until QEMU has answered.

No end of file comes. QEMU's answer takes another way than the last of its bytes, which may still be in the console's ring then:
the state is whole once its own end is there and nothing follows.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError
from host_agent.qemu.running_vm import shown
from host_agent.stubdom import console_end
from host_agent.stubdom.console_map import SAVE, tty_of
from host_agent.stubdom.monitor import Way, monitor
from host_agent.stubdom.state_file import EOF, MAX_STATE_BYTES, wrong_with
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.qemu.hotplug_session import Places
    from host_agent.qemu.qmp import Qmp
    from host_agent.stubdom.console_end import Stream
    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client

#: For the state, from the command to its last byte.
SAVE_SECONDS: Final = 60.0
#: What QEMU writes to. Its fdset 1, which the protocol has for this, it refuses where that is a terminal (QEMU 7.2, 10.0).
FILENAME: Final = tty_of(SAVE)
#: Nothing more comes where nothing came for so long; a ring is emptied within milliseconds, but for an emulated machine's.
QUIET_SECONDS: Final = 1.0
#: What an earlier one left is there at once.
_LEFT_SECONDS: Final = 0.3
#: Where the end of the state is not there, more must come.
_LATE_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 2.0


class Wish(NamedTuple):
    """How it is to be saved: by QEMU to *filename*, *stop*ped first and for good, as libxl does it, within *seconds*."""

    filename: str = FILENAME
    stop: bool = False
    seconds: float = SAVE_SECONDS
    quiet_seconds: float = QUIET_SECONDS


async def save(store: Client, places: Places, pair: Pair, way: Way, wish: Wish, tell: Callable[[str], None]) -> bytes:
    """The whole state; raise `HostError`, and then the VM is as it was, stopped or not. *tell* hears what takes long."""
    end = await console_end.find(store, pair, SAVE)
    async with monitor(store, places, pair, way) as qmp:
        status = await _status(qmp)
        if status == "inmigrate":
            raise HostError(f"{shown(pair.target)} waits for a state to come in itself: there is nothing to save yet")
        with console_end.open_end(end, pair) as stream:
            thrown = await stream.discard(min(wish.quiet_seconds, _LEFT_SECONDS), MAX_STATE_BYTES)
            if thrown:
                tell(f"{end}: {thrown} bytes of something earlier were thrown away")
            return await _stopped(qmp, stream, wish, tell, was_running=status == "running")


async def _stopped(qmp: Qmp, stream: Stream, wish: Wish, tell: Callable[[str], None], *, was_running: bool) -> bytes:
    if not wish.stop:
        return await _gather(qmp, stream, wish, tell)
    await qmp.execute("stop")
    try:
        return await _gather(qmp, stream, wish, tell)
    except BaseException:
        if was_running:
            with suppress(HostError):
                await qmp.execute("cont")
        raise


async def _gather(qmp: Qmp, stream: Stream, wish: Wish, tell: Callable[[str], None]) -> bytes:
    """Read while QEMU writes: it waits for whoever reads."""
    gathered = _Gathered()
    reading = asyncio.ensure_future(gathered.read_on(stream))
    try:
        work = qmp.execute("xen-save-devices-state", {"filename": wish.filename}, seconds=wish.seconds)
        answer = asyncio.ensure_future(work)
        await asyncio.wait((answer, reading), timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and not reading.done():
            tell(f"QEMU writes its state: {gathered.count} bytes so far")
        try:
            await asyncio.wait((answer, reading), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            await answer
        finally:
            answer.cancel()
        await gathered.settled(wish.quiet_seconds)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return gathered.whole(stream, wish)


class _Gathered:
    """What came so far. Past what a state can have it is counted and not kept, so that QEMU does not wait for ever."""

    def __init__(self) -> None:
        self.count = 0
        self._state = bytearray()
        self._came = asyncio.Event()

    async def read_on(self, stream: Stream) -> None:
        while True:
            data = await stream.read()
            self.count += len(data)
            if self.count <= MAX_STATE_BYTES:
                self._state += data
            self._came.set()

    async def settled(self, quiet_seconds: float) -> None:
        """Nothing came for *quiet_seconds*, and for longer where the end is missing."""
        while True:
            self._came.clear()
            try:
                async with asyncio.timeout(quiet_seconds if self._state.endswith(EOF) else max(quiet_seconds, _LATE_SECONDS)):
                    await self._came.wait()
            except TimeoutError:
                return

    def whole(self, stream: Stream, wish: Wish) -> bytes:
        """All of it; raise `HostError` where it is not."""
        if self.count > MAX_STATE_BYTES:
            raise HostError(f"{stream.end}: {self.count} bytes came, and a state has at most {MAX_STATE_BYTES}; none is kept")
        wrong = wrong_with(bytes(self._state))
        if wrong:
            cure = "pv-stubdom-launch holds console 1 raw; --filename says what it is inside" if self.count else (
                f"nothing came by console 1: --filename says what that is inside ({printable(wish.filename, 60)} was said)"
            )  # fmt: skip
            raise HostError(f"{stream.end}: {self.count} bytes came, and are no whole state: {wrong}; cure: {cure}")
        return bytes(self._state)


async def _status(qmp: Qmp) -> str:
    return printable((await qmp.execute("query-status"))["status"], 40)
