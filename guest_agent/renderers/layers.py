# SPDX-License-Identifier: Apache-2.0
"""Which interfaces of a document stand on which: a bond on its members, a VLAN on its link."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pv_channel.network import NetworkConfig


def below(network: NetworkConfig, key: str) -> list[str]:
    """The interfaces that *key* stands on directly."""
    if key in network.vlans:
        return [network.vlans[key].link]
    group = network.bonds.get(key) or network.bridges.get(key)
    return [] if group is None else list(group.interfaces)


def bottom_up(network: NetworkConfig) -> list[str]:
    """Every interface, each after those that it stands on, otherwise in the document's order."""
    order: list[str] = []
    waiting = list(network.all())[::-1]
    while waiting:
        key = waiting[-1]
        missing = [] if key in order else [other for other in below(network, key) if other not in order]
        if missing:
            waiting += missing[::-1]
        else:
            waiting.pop()
            order += [] if key in order else [key]
    return order
