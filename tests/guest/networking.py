# SPDX-License-Identifier: Apache-2.0
"""A machine whose network becomes what a document says, and the files that one interface after another makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guest_agent.renderers import naming
from guest_agent.renderers.sections import HEAD
from tests.guest.machine import MAC, Machine, document, no_progress
from tests.networks import MAC1, MAC2, parsed

if TYPE_CHECKING:
    from pathlib import Path

    from guest_agent.renderers.ifcfg import Texts
    from pv_channel.messages import ItemResult


def three_cards(top: Path) -> Machine:
    """A machine with three cards, of whose network nobody is in charge."""
    machine = Machine(top)
    machine.without_networkd()
    for number, mac in enumerate((MAC, MAC1, MAC2)):
        machine.write(f"sys/class/net/eth{number}/address", f"{mac}\n".encode())
    return machine


def become(machine: Machine, config: dict[str, Any], generation: int = 1, **more: Any) -> ItemResult:
    """What becomes of the item ``network``, the document's only one."""
    raw = document(generation, network={"version": 2, **config}, **more)
    (item,) = machine.provisioner().provision(raw, None, no_progress).items
    return item


def files(machine: Machine, config: dict[str, Any], texts: Texts) -> dict[str, str]:
    """The files of a document without their first line."""
    network = parsed(config)
    names = naming.names(machine.system, network)
    return {
        prefix + names[key]: text.removeprefix(HEAD)
        for key in network.all()
        for prefix, text in texts(key, names, network, machine.system).items()
    }
