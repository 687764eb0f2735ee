# SPDX-License-Identifier: Apache-2.0
"""Move a VM from one QEMU to another, or into a file: whatever happens, it is left running at one end, and it is said which."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from host_agent.errors import HostError, shown
from host_agent.qemu import migration_source
from host_agent.qemu.migration_course import Course
from host_agent.qemu.migration_destination import listening_to
from host_agent.qemu.migration_end import end_at
from host_agent.qemu.migration_follow import SWITCH
from host_agent.qemu.migration_helpers import named
from host_agent.qemu.migration_outcome import Runs
from host_agent.qemu.qmp import QmpTrouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from host_agent.qemu.migration_destination import Destination
    from host_agent.qemu.migration_end import End
    from host_agent.qemu.migration_outcome import Outcome
    from host_agent.qemu.migration_plan import Plan
    from host_agent.qemu.migration_route import Route
    from host_agent.qemu.migration_source import Source


async def between(path: Path, other: Path | None, plan: Plan, tell: Callable[[str], None]) -> tuple[str, Outcome]:
    """`move` the VM of the QEMU at the monitor *path* (to the one at *other*); with what it is called."""
    async with AsyncExitStack() as stack:
        end = await stack.enter_async_context(end_at(path))
        name = await end.name() or shown(path)
        if other is None:
            return name, await move(end, None, plan, tell)
        destination = stack.enter_context(listening_to(await stack.enter_async_context(end_at(other))))
        return name, await move(end, destination, plan, tell)


async def move(end: End, destination: Destination | None, plan: Plan, tell: Callable[[str], None]) -> Outcome:
    """Move the VM of *end* as *plan* says, and *tell* how far it is; *destination* is the other QEMU where that can be asked.

    Cancelled, it calls the migration off, and returns all the same. Raise `HostError` where nothing was begun.
    """
    began = asyncio.get_running_loop().time()
    try:
        source, route = await _ready(end, destination, plan, tell)
        outcome = await Course(source, destination, plan, tell).run(route)
    finally:
        with suppress(QmpTrouble):  # if it is of any weight, it has been told
            await end.restore()
    if destination is not None and outcome.runs is Runs.DESTINATION:
        with suppress(QmpTrouble):
            await destination.end.restore()
    return outcome._replace(seconds=asyncio.get_running_loop().time() - began)


async def _ready(end: End, destination: Destination | None, plan: Plan, tell: Callable[[str], None]) -> tuple[Source, Route]:
    """*end*, and where its VM is to go, with all done that comes before; raise `HostError` where something is in the way."""
    try:
        source = await _checked(end, destination, plan)
        ids = await named(end, leaves=True)
        if ids:
            told = "" if plan.to.answers else "; on this way QEMU cannot know whether they arrived"
            tell(f"the state of {', '.join(ids)} goes with it{told}")
        await end.switch({SWITCH: True, **plan.states})
        await end.set_mode(plan.mode)
        await end.set(plan.parameters)
        return source, plan.to if destination is None else await _listening(destination, plan, ids)
    except HostError as exc:
        raise HostError(f"{exc}; nothing was begun, and the VM is where it was") from None


async def _checked(end: End, destination: Destination | None, plan: Plan) -> Source:
    """*end*, with nothing in the way of *plan* that can be seen."""
    plan.check(asks_both=destination is not None)
    source = await migration_source.checked(end)
    end.check(mode=plan.mode, switches=plan.states.keys())
    plan.to.arguments(end.can)
    if destination is not None:
        await destination.check()
        destination.end.check(mode=plan.mode, switches=plan.states.keys())
    return source


async def _listening(destination: Destination, plan: Plan, ids: Sequence[str]) -> Route:
    """Where to go, once *destination* waits there."""
    await named(destination.end, ids, leaves=False)
    await destination.switch(plan.states)
    await destination.end.set_mode(plan.mode)
    if plan.listen is None:
        return await destination.listen(plan.to)
    await destination.listen(plan.listen)
    return plan.to
