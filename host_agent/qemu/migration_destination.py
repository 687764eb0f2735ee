# SPDX-License-Identifier: Apache-2.0
"""The QEMU that a VM moves to: told to listen, and looked at for whether the VM has come, runs, or never will."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError
from host_agent.qemu.migration_cures import cure_of
from host_agent.qemu.migration_follow import SWITCH
from host_agent.qemu.migration_outcome import Seen
from host_agent.qemu.migration_status import Phase
from host_agent.qemu.qmp import QmpTrouble

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from host_agent.qemu.migration_end import End
    from host_agent.qemu.migration_route import Route
    from host_agent.qemu.qmp import Events

#: The state of a QEMU that waits for a VM.
WAITING: Final = "inmigrate"
_RESUMED: Final = "RESUME"
_LOOK_SECONDS: Final = 0.2


class Destination:
    """An `End` as the one that is moved to, from the moment of `listening_to` on."""

    def __init__(self, end: End, events: Events) -> None:
        self.end, self._events = end, events
        self._resumed = False

    async def check(self) -> None:
        """Raise `HostError` where it does not wait for a VM."""
        self.end.check_not_xens()
        state = await self.end.state()
        if state != WAITING:
            raise HostError(f"{self.end.text} has a VM already ({state}); cure: start another with '-incoming defer'")
        status = await self.end.status()
        if status.phase.over:
            why = f": {status.why}" if status.why else ""
            raise HostError(f"{self.end.text} has taken a VM in vain before{why}; cure: end it, and start another")

    async def switch(self, wanted: Mapping[str, bool]) -> None:
        """Have these capabilities on or off, and the events that tell of a migration on."""
        await self.end.switch({SWITCH: True, **wanted})

    async def listen(self, route: Route) -> Route:
        """Have it wait for a VM on *route*, unless it waits already; return that with the port that it has chosen."""
        if not (await self.end.status()).socket_address:
            arguments = route.arguments(self.end.can)
            if self.end.can.exit_on_error:
                arguments["exit-on-error"] = False
            try:
                await self.end.qmp.execute("migrate-incoming", arguments)
            except QmpTrouble as exc:
                raise HostError(f"{exc}; cure: {cure_of(exc.desc)}" if exc.desc else str(exc)) from None
        return route.listening_at((await self.end.status()).socket_address)

    async def seen(self, seconds: float) -> Seen:
        """What is seen of the VM here: as soon as that is certain, or else after *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    seen = await self._look()
                    if seen is not None:
                        return seen
                    self._resumed |= await self._events.next(_LOOK_SECONDS) is not None
        except TimeoutError:
            return Seen.SILENT
        except QmpTrouble:
            return await self._seen_no_more()

    async def _look(self) -> Seen | None:
        status, state = await self.end.status(), await self.end.state()
        if state == WAITING:
            return Seen.NEVER if status.phase is Phase.FAILED else None
        if state == "running":
            return Seen.RUNS
        return Seen.WAITS if status.phase is Phase.COMPLETED else None

    async def _seen_no_more(self) -> Seen:
        """What was seen of a QEMU that does not answer: its last events are still there to take."""
        with suppress(QmpTrouble):
            while await self._events.next(_LOOK_SECONDS) is not None:
                self._resumed = True
        if not await self.end.has_ended():
            return Seen.SILENT
        return Seen.RAN if self._resumed else Seen.NEVER


@contextmanager
def listening_to(end: End) -> Iterator[Destination]:
    """*end* as the one that is moved to, with an ear on whether it starts the VM."""
    with end.qmp.events(_RESUMED) as events:
        yield Destination(end, events)
