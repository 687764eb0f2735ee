# SPDX-License-Identifier: Apache-2.0
"""What an action answers when it is asked what a document takes, and what becomes of that answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from guest_agent.changes.change import Change
    from guest_agent.reach import Reach


class Plan(NamedTuple):
    """What an item takes, and in a few words for the operator what it makes. Changes that hold already may be among them.

    *pending*: the item is not done when the changes are made; what becomes of it is reported later.
    *afterwards* are commands to start when the generation is in force, whose failure fails nothing.
    *still* are paths that stay ours, as `Planned.owned`, though no change is about them.
    *reach*: what the guest itself can see of the network that it makes, where a change of it may cut somebody off.
    """

    changes: list[Change]
    detail: str
    pending: bool = False
    afterwards: tuple[tuple[str, ...], ...] = ()
    still: tuple[tuple[str, str], ...] = ()
    reach: Reach | None = None


class Planned(NamedTuple):
    """An item and what it takes: no changes where everything holds already. *owned* are the paths that are ours, with digests."""

    item: str
    plan: Plan
    changes: list[Change]
    owned: dict[str, str]

    @property
    def detail(self) -> str:
        """For the operator."""
        return self.plan.detail
