# SPDX-License-Identifier: Apache-2.0
"""Plan a whole document: each item in its order, on the machine as the items before will have made it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from guest_agent.actions.draft import Draft, owned, paths
from guest_agent.actions.plan import Plan, Planned
from guest_agent.failure import ItemError, of_os_error
from pv_channel.messages import MAX_DETAIL
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from guest_agent.state import State
    from guest_agent.system import System
    from pv_channel.document import Document

    Planner = Callable[[Document, Draft], Plan | None]

#: The items that one field of the document is all about. Their modules bear their names.
_OF_ONE_FIELD: Final = {
    "host-trust": "host_trust",
    "timezone": "timezone",
    "locale": "locale",
    "ntp": "ntp",
    "ca-certs": "ca_certs",
    "write-files": "write_files",
    "root-filesystem": "resize_rootfs",
    "network": "network",
    "user-data": "user_data",
}


class Planning(NamedTuple):
    """The items that a document names, and why some of them cannot be planned."""

    plans: list[Planned]
    failures: dict[str, ItemError]


def plan_all(document: Document, system: System, state: State | None, *, hand_off: bool = False) -> Planning:
    """Each item that *document* names and the changes that it needs, given what is in force.

    *hand_off*: there is one item, which hands the document to cloud-init, besides ``host-trust``, which is this agent's own.
    """
    draft = Draft(system, document, state)
    plans: list[Planned] = []
    failures: dict[str, ItemError] = {}
    taken: dict[str, str] = {}
    for item, planner in (_handing(document) if hand_off else _planners(document)).items():
        draft.item = item
        try:
            planned = _plan(planner, document, draft, taken)
        except ItemError as exc:
            failures[item] = exc
            planned = Planned(item, Plan([], ""), [], {})
        except OSError as exc:
            failures[item] = of_os_error(exc, f"look at {exc.filename or 'the system'}")
            planned = Planned(item, Plan([], ""), [], {})
        if planned is not None:
            plans.append(planned)
    return Planning(plans, failures)


def _handing(document: Document) -> dict[str, Planner]:
    from guest_agent.actions import hand_off, host_trust

    ours: dict[str, Planner] = {} if document.host_trust is msgspec.UNSET else {"host-trust": host_trust.plan}
    return {**ours, hand_off.ITEM: hand_off.plan}


def _planners(document: Document) -> dict[str, Planner]:
    """What plans each item, in the order of `ITEMS`; what is about one field is loaded where *document* has it."""
    from guest_agent.actions import hostname, identity, ssh_keys, sshd, users
    from pv_channel.document import ITEMS

    planners: dict[str, Planner] = {
        "identity": identity.plan,
        "hostname": hostname.plan,
        "users": users.plan,
        "ssh-keys": ssh_keys.plan,
        "sshd": sshd.plan,
    }
    for item, field in _OF_ONE_FIELD.items():
        if getattr(document, field) is not msgspec.UNSET:
            planners[item] = import_module(f"guest_agent.actions.{item.replace('-', '_')}").plan
    return {item: planners[item] for item in ITEMS if item in planners}


def _plan(planner: Planner, document: Document, draft: Draft, taken: dict[str, str]) -> Planned | None:
    """One item's plan; *taken* says which item each path belongs to."""
    plan = planner(document, draft)
    if plan is None:
        return None
    for path in paths(plan.changes):
        if taken.setdefault(path, draft.item) != draft.item:
            raise ItemError("conflict", f"{path} is written by the document's '{taken[path]}' too; say it in one place")
    draft.take(plan.changes)
    needed = [not change.holds(draft.system) for change in plan.changes]
    # Commands hold always: they stay where something around them is needed.
    kept = [change for change, need in zip(plan.changes, needed, strict=True) if need or change.follows] if any(needed) else []
    detail = printable(plan.detail, MAX_DETAIL)
    return Planned(draft.item, plan._replace(detail=detail), kept, dict(plan.still) | owned(plan.changes))
