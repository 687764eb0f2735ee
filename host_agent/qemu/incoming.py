# SPDX-License-Identifier: Apache-2.0
"""Have a QEMU take a VM in: it is told where from, listens, and is followed until the VM is there, or will not come."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError, shown
from host_agent.qemu.migration_channel import MigMode
from host_agent.qemu.migration_cures import cure_of
from host_agent.qemu.migration_destination import listening_to
from host_agent.qemu.migration_end import end_at
from host_agent.qemu.migration_follow import EVENT, Impatient, Patience, follow
from host_agent.qemu.migration_helpers import named
from host_agent.qemu.migration_outcome import Outcome, Runs, Seen
from host_agent.qemu.migration_status import Phase, Status
from host_agent.qemu.qmp import QmpTrouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from host_agent.qemu.migration_destination import Destination
    from host_agent.qemu.migration_route import Route

#: From "completed" to a state that says whether the VM runs.
_SETTLE_SECONDS: Final = 15.0


class Wish(NamedTuple):
    """What is wanted: where from, in which mode, with which capabilities, and within how many seconds (None: for ever)."""

    route: Route
    mode: MigMode = MigMode.NORMAL
    switches: frozenset[str] = frozenset()
    timeout: float | None = None


async def listen_at(path: Path, wish: Wish) -> tuple[str, Route]:
    """`listen` at the QEMU with a monitor at *path*; what it calls its VM, and where it listens."""
    async with end_at(path) as end:
        with listening_to(end) as destination:
            return await end.name() or shown(path), await listen(destination, wish)


async def take_at(path: Path, wish: Wish, tell: Callable[[str], None]) -> tuple[str, Outcome]:
    """`take` a VM in at the QEMU with a monitor at *path*; what it calls it, and what became of it."""
    async with end_at(path) as end:
        with listening_to(end) as destination:
            return await end.name() or shown(path), await take(destination, wish, tell)


async def listen(destination: Destination, wish: Wish) -> Route:
    """Have QEMU listen; return where, with the port that it has chosen. Raise `HostError`."""
    await destination.check()
    destination.end.check(mode=wish.mode, switches=wish.switches)
    await named(destination.end, leaves=False)
    await destination.switch(dict.fromkeys(sorted(wish.switches), True))
    await destination.end.set_mode(wish.mode)
    return await destination.listen(wish.route)


async def take(destination: Destination, wish: Wish, tell: Callable[[str], None]) -> Outcome:
    """Have QEMU listen, and wait until the VM has come. Raise `HostError` where it has not; cancelled, QEMU goes on listening."""
    with destination.end.qmp.events(EVENT) as events:
        route = await listen(destination, wish)
        tell(f"{destination.end.text} waits for the VM at {route}")
        try:
            over = await follow(destination.end, events, Patience(wish.timeout, stuck=None), tell)
        except QmpTrouble as exc:
            raise HostError(await _gone(destination, exc)) from None
        except Impatient as exc:
            raise HostError(f"{exc}; {destination.end.text} waits on; cure: begin at the source, or end this QEMU") from None
    with suppress(QmpTrouble):  # what was set is for this one migration
        await destination.end.restore()
    if over.phase is Phase.COMPLETED:
        seen = await destination.seen(_SETTLE_SECONDS)
        return Outcome(Runs.DESTINATION, "all of it is there", "", seen is not Seen.RUNS, over.phase, over.status)
    raise HostError(_failed(over.status))


def _failed(status: Status) -> str:
    why = status.why or "QEMU does not say why"
    cure = f"{cure_of(status.error_desc)}; then end this QEMU, and start it anew"
    return f"the VM did not come: {why}; it has not run here; cure: {cure}"


async def _gone(destination: Destination, exc: QmpTrouble) -> str:
    if not await destination.end.has_ended():
        return str(exc)
    cure = cure_of("load of migration failed")
    return f"the VM did not come: {destination.end.text} has ended over it; it runs on at the source, or can again; cure: {cure}"
