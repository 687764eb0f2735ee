# SPDX-License-Identifier: Apache-2.0
"""What a document's interfaces are called, for files that know no other sign of one, and which of them are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guest_agent.failure import ItemError
from guest_agent.renderers import interfaces, layers

if TYPE_CHECKING:
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig


def names(system: System, network: NetworkConfig) -> dict[str, str]:
    """Each name by its key; raise `ItemError` where a card is not there, is several, or is meant by two keys."""
    found: dict[str, str] = {}
    for key in network.all():
        ethernet = network.ethernets.get(key)
        called = interfaces.called(system, network, key)
        several = [] if ethernet is None else interfaces.matching(system, key, ethernet)
        if len(several) > 1:
            raise ItemError("no-interface", f"'{key}' is {' and '.join(several)} on this machine; match one of them")
        other = next((key for key, taken in found.items() if taken == called), None)
        if other is not None:
            raise ItemError("conflict", f"'{other}' and '{key}' of 'network' both mean {called}")
        found[key] = called
    return found


def is_there(system: System, network: NetworkConfig, key: str) -> bool:
    """Whether a card of it is in the machine. A bridge needs none."""
    if key in network.ethernets:
        return interfaces.present(system, key, network.ethernets[key]) is not None
    stands_on = layers.below(network, key)
    return key in network.bridges or any(is_there(system, network, other) for other in stands_on)
