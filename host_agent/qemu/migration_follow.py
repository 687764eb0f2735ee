# SPDX-License-Identifier: Apache-2.0
"""Follow a migration at one of its ends until it is over, by QEMU's events and by asking it, for as long as there is patience."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError
from host_agent.qemu.migration_status import Phase, phase_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.qemu.migration_end import End
    from host_agent.qemu.migration_status import Status
    from host_agent.qemu.qmp import Events

#: The event that tells of a migration; QEMU sends it where the capability `SWITCH` is on.
EVENT: Final = "MIGRATION"
SWITCH: Final = "events"
#: An event is acted on at once; without one, QEMU is asked so often.
LOOK_SECONDS: Final = 0.5
#: A migration of which nothing changes for so long is stuck: its peer hangs, or the way to it is cut.
STUCK_SECONDS: Final = 60.0
#: For that it has to have been seen: a QEMU that is busy with its peers' state answers nothing meanwhile.
_STUCK_LOOKS: Final = 10
#: Progress is told at most so often.
TELL_SECONDS: Final = 1.0


class Over(NamedTuple):
    """How it ended, as QEMU's last answer says."""

    phase: Phase
    status: Status


class Impatient(HostError):  # noqa: N818 -- it says what we are
    """It is not over, and was followed for long enough."""


class Patience:
    """How long it is followed: *timeout* seconds in all (None: for ever), and *stuck* without any change."""

    def __init__(self, timeout: float | None = None, stuck: float | None = STUCK_SECONDS) -> None:
        self._now = asyncio.get_running_loop().time
        self._timeout, self._stuck = timeout, stuck
        self._began = self._changed = self._now()
        self._seen: object = None
        self._looks = 0

    def check(self, status: Status) -> None:
        """Raise `Impatient` where it is at an end."""
        now, seen = self._now(), (status.status, status.ram.transferred, status.ram.remaining, status.ram.dirty_sync_count)
        if seen != self._seen:
            self._seen, self._changed, self._looks = seen, now, 0
        self._looks += 1
        if self._timeout is not None and now - self._began >= self._timeout:
            raise Impatient(f"it was not over after {self._timeout:g} s")
        if self._stuck is not None and now - self._changed >= self._stuck and self._looks >= _STUCK_LOOKS:
            raise Impatient(f"nothing moved for {self._stuck:g} s")


async def follow(end: End, events: Events, patience: Patience, tell: Callable[[str], None]) -> Over:
    """Until the migration that was begun at *end* is over. *events* are listened for since before it was.

    Raise `Impatient`, or `QmpTrouble` where QEMU is gone or hangs.
    """
    told, told_at = Phase.NONE, 0.0
    now = asyncio.get_running_loop().time
    while True:
        event = await events.next(LOOK_SECONDS)
        if event is not None:
            told = _phase_in(event)
        status = await end.status()
        phase = status.phase if status.phase.over else told
        if phase.over:
            return Over(phase, status)
        patience.check(status)
        if now() - told_at >= TELL_SECONDS:
            told_at = now()
            tell(status.text)


def _phase_in(event: object) -> Phase:
    data = event.get("data") if isinstance(event, dict) else None
    return phase_of(str(data.get("status", ""))) if isinstance(data, dict) else Phase.UNDER_WAY
