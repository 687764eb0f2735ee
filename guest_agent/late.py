# SPDX-License-Identifier: Apache-2.0
"""What became of items that were pending when their generation was answered: the scripts of user-data, and cloud-init."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pv_channel.messages import Outcome

if TYPE_CHECKING:
    from guest_agent.state import State
    from guest_agent.system import System
    from pv_channel.messages import ItemResult


def news(system: System, state: State) -> list[ItemResult]:
    """What is known by now of the items that are pending in *state*; empty while that is nothing. Raises nothing."""
    from guest_agent import cloud_init, user_data_run

    found = []
    for item in state.result.items:
        if item.outcome is not Outcome.PENDING:
            continue
        handed = item.item == "cloud-init" or cloud_init.USER_DATA in state.owned.get(item.item, {})
        known = cloud_init.result(system, state.target, item.item) if handed else user_data_run.result(system, state.target)
        if known is not None:
            found.append(known)
    return found
