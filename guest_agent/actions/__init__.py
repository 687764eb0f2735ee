# SPDX-License-Identifier: Apache-2.0
"""What a document is made of: its items, in the order in which they are applied. One file per item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guest_agent.failure import ItemError, of_os_error
from guest_agent.transaction import Planned

if TYPE_CHECKING:
    from collections.abc import Callable

    from guest_agent.actions.plan import Plan
    from guest_agent.system import System
    from pv_channel.document import Document


def plan_all(document: Document, system: System) -> tuple[list[Planned], dict[str, ItemError]]:
    """Each item that *document* names and the changes that it needs; and which items cannot be planned, and why."""
    from guest_agent.actions import hostname, network, ssh_keys

    planners = {"hostname": hostname.plan, "network": network.plan, "ssh-keys": ssh_keys.plan}
    plans: list[Planned] = []
    failures: dict[str, ItemError] = {}
    for item, planner in planners.items():
        try:
            planned = _plan(item, planner, document, system)
        except ItemError as exc:
            failures[item] = exc
            planned = Planned(item, [], "")
        except OSError as exc:
            failures[item] = of_os_error(exc, f"look at {exc.filename or 'the system'}")
            planned = Planned(item, [], "")
        if planned is not None:
            plans.append(planned)
    return plans, failures


def _plan(item: str, planner: Callable[[Document, System], Plan | None], document: Document, system: System) -> Planned | None:
    plan = planner(document, system)
    if plan is None:
        return None
    needed = [not change.holds(system) for change in plan.changes]
    if not any(needed):
        return Planned(item, [], plan.detail)
    # Commands hold always: they stay where something around them is needed.
    kept = [change for change, need in zip(plan.changes, needed, strict=True) if need or change.follows]
    return Planned(item, kept, plan.detail)
