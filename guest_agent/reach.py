# SPDX-License-Identifier: Apache-2.0
"""What the guest itself can see of the network that it has just made: links, addresses, gateways."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pv_channel.messages import Check

if TYPE_CHECKING:
    from guest_agent.system import System


class Reach(NamedTuple):
    """What there should be: links that are up, addresses on them, gateways that answer, each with its interface's name."""

    links: list[str]
    addresses: list[tuple[str, str]]
    gateways: list[tuple[str, str]]


def look(system: System, reach: Reach, seconds: float) -> list[Check]:
    """What of *reach* is there, looked at again and again for at most *seconds* until all of it is."""
    checks: list[Check] = []

    def all_good() -> bool:
        checks[:] = [_link(system, name) for name in reach.links]
        return all(check.good for check in checks)

    system.wait_for(all_good, seconds)
    return checks


def _link(system: System, name: str) -> Check:
    state = system.text(f"/sys/class/net/{name}/operstate", 64).strip()
    return Check("link", state in ("up", "unknown"), f"{name} is {state or 'not there'}")
