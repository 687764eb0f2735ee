# SPDX-License-Identifier: Apache-2.0
"""A migration from its beginning to where it leaves the VM: followed, called off, and what follows from what both ends say."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from host_agent.qemu import migration_source
from host_agent.qemu.migration_cures import LOADING_FAILED, cure_of, of_words
from host_agent.qemu.migration_file import synced
from host_agent.qemu.migration_follow import EVENT, Impatient, Over, Patience, follow
from host_agent.qemu.migration_outcome import VERDICTS, Ended, Outcome, Reason, Runs, Seen, Verdict
from host_agent.qemu.migration_status import Phase, Status
from host_agent.qemu.qmp import QmpTrouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.qemu.migration_destination import Destination
    from host_agent.qemu.migration_plan import Plan
    from host_agent.qemu.migration_route import Route
    from host_agent.qemu.migration_source import Source
    from host_agent.qemu.qmp import Events

#: For the destination to start what it has got; it may have much to load from its disks first.
ARRIVAL_SECONDS: Final = 60.0
#: For it to say that it did not get it.
FAILURE_SECONDS: Final = 5.0
_ANEW: Final = "start it anew from its disks; the log of its QEMU says why that ended"
_LOOK: Final = "look at both QEMUs ('query-status'); where neither has it, start it anew from its disks"
_LOOK_THERE: Final = "look at the destination; where it does not run there, say 'cont' to this QEMU"
_YANK: Final = "QMP's 'yank' at the source cuts the connection"
_FROM_FILE: Final = "to have it run again start a QEMU with '-incoming defer', then 'pv-host-agent incoming --from file:{}'"


class Course:
    """A migration from its beginning to where it leaves the VM."""

    def __init__(self, source: Source, destination: Destination | None, plan: Plan, tell: Callable[[str], None]) -> None:
        self._source, self._destination, self._plan, self._tell = source, destination, plan, tell
        self._over = Over(Phase.NONE, Status())
        #: Why it did not go as planned; nothing as long as it does.
        self._reason = Reason()

    async def run(self, route: Route) -> Outcome:
        """Where it leaves the VM."""
        with self._source.end.qmp.events(EVENT) as events:
            ended = await self._ended(route, events)
        try:
            outcome = await self._settled(ended)
        except QmpTrouble as exc:
            outcome = await self._lost(self._reason.and_then(str(exc)))
        return outcome._replace(phase=self._over.phase, status=self._over.status)

    async def _ended(self, route: Route, events: Events) -> Ended:
        """How it ended at the source; `_over` and `_reason` tell of it."""
        try:
            over = await self._followed(route, events)
        except QmpTrouble as exc:
            self._reason = self._reason.and_then(str(exc))
            return Ended.LOST
        if over is None:
            return Ended.LOST
        self._over = over
        if over.phase is Phase.COMPLETED:
            return Ended.COMPLETED
        self._reason = self._reason or of_words(over.status.why)
        return Ended.FAILED

    async def _followed(self, route: Route, events: Events) -> Over | None:
        """How it ended, or None where QEMU does not get rid of it."""
        try:
            refusal = await self._source.begin(route)
            if refusal:
                self._reason = of_words(refusal)
                return Over(Phase.FAILED, Status())
            return await follow(self._source.end, events, Patience(self._plan.timeout), self._tell)
        except Impatient as exc:
            self._reason = Reason(str(exc), "look at the destination's QEMU, and at the way to it")
        except asyncio.CancelledError:
            self._reason = Reason("it was told to end")
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        self._tell(f"{self._reason.why}: calling the migration off")
        over = await self._source.cancel()
        if over is None:
            self._reason = self._reason.and_then(f"QEMU did not call it off within {migration_source.CANCEL_SECONDS:g} s", _YANK)
        return over

    async def _settled(self, ended: Ended) -> Outcome:
        """Where the VM runs; what has to be done for that is done."""
        seen = Seen.UNASKED
        if self._destination is not None:
            seen = await self._destination.seen(FAILURE_SECONDS if ended is Ended.FAILED else ARRIVAL_SECONDS)
        match VERDICTS[ended, seen]:
            case Verdict.ARRIVED:
                if ended is Ended.FAILED:
                    await self._source.stop()
                return await self._arrived(seen)
            case Verdict.TAKE_BACK:
                return await self._source.take_back(self._reason or await self._why_not())
            case Verdict.HANDS_OFF:
                return await self._source.hands_off(seen.value)
            case Verdict.GONE:
                return Outcome(Runs.NOWHERE, f"{self._reason.why}; {seen.value}", _ANEW)
            case Verdict.UNKNOWN:
                return await self._lost(self._reason or Reason("the source has given it up, and the destination does not answer"))

    async def _arrived(self, seen: Seen) -> Outcome:
        paused = seen is Seen.WAITS or (seen is Seen.UNASKED and self._source.was != migration_source.RUNNING)
        still = f"it stood still for {self._over.status.downtime} ms" if self._over.phase is Phase.COMPLETED else self._reason.why
        stored = self._plan.to.file
        if self._destination is not None:
            return Outcome(Runs.DESTINATION, still, paused=paused)
        if stored is not None:
            return await self._stored(stored)
        if self._plan.to.answers:
            return Outcome(Runs.DESTINATION, f"the QEMU there has all of it; {still}", paused=paused)
        sent = "all of it was sent, and whether it was taken cannot be known here"
        return Outcome(Runs.DESTINATION, sent, _LOOK_THERE, paused=paused)

    async def _stored(self, name: str) -> Outcome:
        """It is in a file, on the disk; where that fails, the source still has it."""
        self._tell(f"having {name} be on its disk")
        words = await asyncio.to_thread(synced, name, self._source.end.pid)
        if words:
            return await self._source.take_back(of_words(f"{name}: {words}"))
        return Outcome(Runs.STORED, f"all of it is in {name}", _FROM_FILE.format(name))

    async def _why_not(self) -> Reason:
        """Why the destination did not take what the source has sent, or says no more of."""
        words = ""
        if self._destination is not None:
            with suppress(QmpTrouble):
                words = (await self._destination.end.status()).why
        return Reason("the destination did not take it, or not all", cure_of(LOADING_FAILED)) if not words else of_words(words)

    async def _lost(self, reason: Reason) -> Outcome:
        """Where it runs, from what the source still says, if anything."""
        end = self._source.end
        with suppress(QmpTrouble):
            if await end.state() == migration_source.RUNNING:
                return Outcome(Runs.SOURCE, *reason)
        if not await end.has_ended():
            return Outcome(Runs.UNKNOWN, reason.why, _LOOK)
        gone = reason.and_then("the source's QEMU has ended").why
        return Outcome(Runs.UNKNOWN, gone, _LOOK) if self._plan.to.file is None else Outcome(Runs.NOWHERE, gone, _ANEW)
