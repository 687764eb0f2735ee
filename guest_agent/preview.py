# SPDX-License-Identifier: Apache-2.0
"""A plan as lines for people: what a dry run answers, bounded so that it fits one message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.failure import ItemError, of_os_error
from pv_channel.messages import MAX_STEP, Planned, PlannedItem
from pv_channel.text import printable

if TYPE_CHECKING:
    from guest_agent.actions.plan import Planned as ItemPlan
    from guest_agent.actions.planning import Planning
    from guest_agent.system import System

#: All steps together as JSON. The rest of a message of 64 KiB is for the items' own words, 400 characters each.
MAX_STEPS_BYTES: Final = 40 * 1024


def preview(planning: Planning, generation: int, system: System, limit: int = MAX_STEPS_BYTES) -> Planned:
    """What *planning* would do to *system*, in steps of at most *limit* bytes together; nothing is touched."""
    left, cut = limit, False
    items = []
    for plan in planning.plans:
        failure = planning.failures.get(plan.item)
        if failure is not None:
            items.append(PlannedItem(plan.item, failure.reason, failure.detail))
            continue
        steps = []
        for step in _steps(plan, system):
            left -= len(msgspec.json.encode(step)) + 1
            cut |= left < 0
            if cut:
                break
            steps.append(step)
        items.append(PlannedItem(plan.item, detail=plan.detail, steps=steps))
    return Planned(generation, items, cut=cut)


def _steps(plan: ItemPlan, system: System) -> list[str]:
    steps: list[str] = []
    for change in plan.changes:
        try:
            steps += change.show(system)
        except (ItemError, OSError) as exc:
            error = exc if isinstance(exc, ItemError) else of_os_error(exc, change.describe())
            steps.append(f"{change.describe()}: {error}")
    steps += [f"then start {' '.join(command)}" for command in plan.plan.afterwards if plan.changes and system.live]
    return [printable(step, MAX_STEP) for step in steps]
