# SPDX-License-Identifier: Apache-2.0
"""What a document's interfaces are called, for files that know no other sign of one, and which of them are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent.failure import ItemError
from guest_agent.renderers import interfaces, layers

if TYPE_CHECKING:
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig


def names(system: System, network: NetworkConfig) -> dict[str, str]:
    """Each name by its key; raise `ItemError` where a card is not there, is several, or is meant by two keys."""
    found: dict[str, str] = {}
    for key in network.all():
        called = interfaces.called(system, network, key)
        meant = cards(system, network, key) if is_pattern(network, key) else [called]
        if len(meant) != 1:
            here = " and ".join(meant) or "no card of its own"
            raise ItemError("no-interface", f"'{key}' is {here} on this machine; match one")
        called = meant[0]
        other = next((key for key, taken in found.items() if taken == called), None)
        if other is not None:
            raise ItemError("conflict", f"'{other}' and '{key}' of 'network' both mean {called}")
        found[key] = called
    return found


def is_pattern(network: NetworkConfig, key: str) -> bool:
    """Whether *key* is for whatever cards have a name or a driver."""
    ethernet = network.ethernets.get(key)
    return ethernet is not None and ethernet.match is not msgspec.UNSET and ethernet.match.macaddress is msgspec.UNSET


def cards(system: System, network: NetworkConfig, key: str) -> list[str]:
    """The cards that an ethernet is for. A pattern leaves out those that another part of the document means by themselves."""
    found = interfaces.matching(system, key, network.ethernets[key])
    if not is_pattern(network, key):
        return found
    others = [other for other in network.ethernets if not is_pattern(network, other)]
    taken = {name for other in others for name in interfaces.matching(system, other, network.ethernets[other])}
    return [name for name in found if name not in taken]


def is_there(system: System, network: NetworkConfig, key: str) -> bool:
    """Whether a card of it is in the machine. A bridge needs none."""
    if key in network.ethernets:
        return bool(cards(system, network, key))
    stands_on = layers.below(network, key)
    return key in network.bridges or any(is_there(system, network, other) for other in stands_on)
