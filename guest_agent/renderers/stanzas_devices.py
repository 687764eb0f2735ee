# SPDX-License-Identifier: Apache-2.0
"""Bonds, bridges and VLANs for ifupdown, made and unmade by ip(8): neither ifenslave nor bridge-utils nor vlan need be there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.renderers import bonding
from guest_agent.renderers.stanzas import NAME, Device
from guest_agent.renderers.unsupported import unsupported

if TYPE_CHECKING:
    from guest_agent.system import System
    from pv_channel.interfaces import Bridge, BridgeParameters
    from pv_channel.network import NetworkConfig

#: ip(8) and the kernel count them in hundredths of a second (USER_HZ).
_BRIDGE_TIMES: Final = ("forward_delay", "hello_time", "max_age", "ageing_time")


def device(key: str, network: NetworkConfig, names: dict[str, str], system: System) -> Device | None:
    """What makes *key*'s device, None for a network card; raise `ItemError` for one that ifupdown cannot have."""
    if key in network.ethernets:
        return None
    native = key in network.vlans and key == f"{names[network.vlans[key].link]}.{network.vlans[key].id}"
    if "." in key and not native:
        raise unsupported(NAME, key, "its name", "the dot makes it a VLAN, of the link and with the id that the name says")
    if key in network.bonds:
        return _bond(key, network, names, system)
    if key in network.bridges:
        return _bridge(key, network.bridges[key], names)
    return _vlan(key, network, names, native=native)


def _bond(key: str, network: NetworkConfig, names: dict[str, str], system: System) -> Device:
    bond = network.bonds[key]
    options = bonding.options(bond, network, system)
    primary = options.pop("primary", "")
    make = [_add(key, bond.macaddress, ["bond", *(word for option in options.items() for word in option)])]
    for member in (names[member] for member in bond.interfaces):
        # The kernel takes only one that is down, and brings it up itself.
        make += [["ip", "link", "set", "dev", member, "down"], ["ip", "link", "set", "dev", member, "master", key]]
    if primary:
        make.append(["ip", "link", "set", "dev", key, "type", "bond", "primary", primary])
    return Device(made=True, commands=make)


def _bridge(key: str, bridge: Bridge, names: dict[str, str]) -> Device:
    wanted = bridge.parameters
    make = [_add(key, bridge.macaddress, ["bridge", *([] if wanted is msgspec.UNSET else _bridge_options(wanted))])]
    for member in bridge.interfaces:
        name = names[member]
        make += [["ip", "link", "set", "dev", name, "master", key], ["ip", "link", "set", "dev", name, "up"]]
        if wanted is not msgspec.UNSET:
            told = [("cost", wanted.path_cost.get(member)), ("priority", wanted.port_priority.get(member))]
            words = [word for option, value in told if value is not None for word in (option, str(value))]
            make += [["ip", "link", "set", "dev", name, "type", "bridge_slave", *words]] if words else []
    return Device(made=True, commands=make)


def _bridge_options(wanted: BridgeParameters) -> list[str]:
    # The times before the protocol: it checks them when it is switched on.
    words = []
    for option in _BRIDGE_TIMES:
        value = getattr(wanted, option)
        words += [] if value is msgspec.UNSET else [option, str(value * 100)]
    words += [] if wanted.priority is msgspec.UNSET else ["priority", str(wanted.priority)]
    return [*words, "stp_state", str(int(wanted.stp))]


def _vlan(key: str, network: NetworkConfig, names: dict[str, str], *, native: bool) -> Device:
    vlan = network.vlans[key]
    link = names[vlan.link]
    options = [f"vlan-raw-device {link}"]  # for whoever reads it: the package vlan finds the device made
    own = [] if vlan.macaddress is msgspec.UNSET else [["ip", "link", "set", "dev", key, "address", str(vlan.macaddress)]]
    if native:  # ifup makes and ifdown unmakes it, by its name
        return Device(commands=own, options=options)
    add = ["ip", "link", "add", "link", link, "name", key, "type", "vlan", "id", str(vlan.id)]
    return Device(made=True, commands=[["ip", "link", "set", "dev", link, "up"], add, *own], options=options)


def _add(key: str, mac: str | msgspec.UnsetType, kind: list[str]) -> list[str]:
    address = [] if mac is msgspec.UNSET else ["address", str(mac)]
    return ["ip", "link", "add", "dev", key, *address, "type", *kind]
