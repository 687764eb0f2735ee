# SPDX-License-Identifier: Apache-2.0
"""The QEMU that a VM moves away from: begun, called off, and made to run the VM on where the move came to nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError
from host_agent.qemu.migration_cures import cure_of
from host_agent.qemu.migration_destination import WAITING
from host_agent.qemu.migration_follow import LOOK_SECONDS, Over
from host_agent.qemu.migration_outcome import Outcome, Reason, Runs
from host_agent.qemu.migration_status import Phase
from host_agent.qemu.qmp import QmpTrouble
from pv_channel.text import printable

if TYPE_CHECKING:
    from host_agent.qemu.migration_end import End
    from host_agent.qemu.migration_route import Route

RUNNING: Final = "running"
#: The state of a VM that has gone, as far as its QEMU knows.
GONE: Final = "postmigrate"
#: States that a migration leaves a VM in; in another one it is for a reason of its own.
_STOPPED: Final = frozenset({GONE, "paused", "finish-migrate"})
_ON_ITS_WAY: Final = "finish-migrate"
#: For QEMU to call a migration off, and for it to start its VM again by itself.
CANCEL_SECONDS: Final = 60.0
_BACK_SECONDS: Final = 15.0


class Source:
    """An `End` as the one that is moved away from. *was* is its VM's state before anything was done."""

    def __init__(self, end: End, was: str) -> None:
        self.end, self.was = end, was

    async def begin(self, route: Route) -> str:
        """Have QEMU begin; its words where it refuses. That it gets anywhere is not said by this."""
        try:
            await self.end.qmp.execute("migrate", route.arguments(self.end.can))
        except QmpTrouble as exc:
            if not exc.desc:
                raise
            return exc.desc
        return ""

    async def cancel(self) -> Over | None:
        """Call it off; how it ended then, which can be in time, or None where QEMU does not get rid of it."""
        await self.end.qmp.execute("migrate_cancel")
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                while True:
                    status = await self.end.status()
                    if status.phase.over or status.phase is Phase.NONE:
                        return Over(status.phase, status)
                    await asyncio.sleep(LOOK_SECONDS / 5)
        except TimeoutError:
            return None

    async def take_back(self, reason: Reason) -> Outcome:
        """Have the VM run here as before; where QEMU does not start it again by itself, tell it to."""
        state = await self._settled()
        if state in _STOPPED and self.was == RUNNING:
            try:
                await self.end.qmp.execute("cont")
            except QmpTrouble as exc:
                cure = f"{cure_of(exc.desc)}; then say 'cont' to the source's QEMU"
                return Outcome(Runs.NOWHERE, *reason.and_then(str(exc), cure))
            state = await self.end.state()
        if state == RUNNING:
            return Outcome(Runs.SOURCE, *reason)
        if self.was == RUNNING:
            cure = "the source's QEMU still has all of it: see its log, and say 'cont' to it"
            return Outcome(Runs.NOWHERE, *reason.and_then(f"at the source it is {state}", cure))
        return Outcome(Runs.SOURCE, *reason.and_then(f"it is {state}, and was {self.was} before"), paused=True)

    async def hands_off(self, why: str) -> Outcome:
        """It has run elsewhere: say whether it does here, and do nothing about it."""
        if await self._settled() == RUNNING:
            cure = "look at what it has done there before its QEMU ended: its disks may have been written by both"
            return Outcome(Runs.SOURCE, why, cure)
        cure = "start it anew from its disks; no 'cont' to the source's QEMU, whose memory is older than the disks"
        return Outcome(Runs.NOWHERE, why, cure)

    async def stop(self) -> None:
        """Have the VM not run here; nothing where it does not."""
        if await self._settled() == RUNNING:
            await self.end.qmp.execute("stop")

    async def _settled(self) -> str:
        """The VM's state, once QEMU has finished with the migration by itself."""
        until = asyncio.get_running_loop().time() + _BACK_SECONDS
        while True:
            state = await self.end.state()
            if state != _ON_ITS_WAY or asyncio.get_running_loop().time() >= until:
                return state
            await asyncio.sleep(LOOK_SECONDS / 5)


async def checked(end: End) -> Source:
    """*end*, fit to be moved away from; raise `HostError` where it has nothing to move, or may not."""
    end.check_not_xens()
    state, status = await end.state(), await end.status()
    if state == WAITING:
        raise HostError(f"{end.text} waits for a VM, and has none to move; cure: say the other --qmp")
    if state == GONE:
        cure = "where its VM runs nowhere say 'cont' to it, else end it"
        raise HostError(f"{end.text} has had its VM moved away already; cure: {cure}")
    if status.phase is Phase.UNDER_WAY:
        word = printable(status.status, 40)
        raise HostError(f"{end.text} moves its VM already ({word}); cure: wait until that is over, or end it: migrate_cancel")
    if status.blocked_reasons:
        raise HostError(f"{end.text} will not move its VM: {'; '.join(status.reasons)}; cure: take away what it names")
    return Source(end, state)
