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
    from guest_agent.cloud_init import USER_DATA
    from guest_agent.cloud_init import result as result_of_cloud_init
    from guest_agent.user_data_run import result as result_of_scripts

    found = []
    for item in state.result.items:
        if item.outcome is not Outcome.PENDING:
            continue
        handed = item.item == "cloud-init" or USER_DATA in state.owned.get(item.item, {})
        known = result_of_cloud_init(system, state.target, item.item) if handed else result_of_scripts(system, state.target)
        if known is not None:
            found.append(known)
    return found
