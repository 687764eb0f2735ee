# SPDX-License-Identifier: Apache-2.0
"""A plan as lines for people: what a dry run answers, bounded so that it fits one message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.failure import ItemError, of_os_error
from pv_channel.messages import MAX_STEP, Planned, PlannedItem
from pv_channel.text import printable

if TYPE_CHECKING:
    from guest_agent.actions.plan import Planned as ItemPlan
    from guest_agent.actions.planning import Planning
    from guest_agent.system import System

#: Characters of all steps together: JSON may write one as six bytes, and a message has 64 KiB for them and the rest.
MAX_CHARACTERS: Final = 40 * 1024


def preview(planning: Planning, generation: int, system: System) -> Planned:
    """What *planning* would do to *system*; nothing is touched."""
    left, cut = MAX_CHARACTERS, False
    items = []
    for plan in planning.plans:
        failure = planning.failures.get(plan.item)
        if failure is not None:
            items.append(PlannedItem(plan.item, failure.reason, failure.detail))
            continue
        steps = []
        for step in _steps(plan, system):
            cut |= len(step) + 1 > left
            if cut:
                break
            left -= len(step) + 1
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
