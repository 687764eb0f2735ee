# SPDX-License-Identifier: Apache-2.0
"""One interface as a NetworkManager profile: a key file by nm-settings-keyfile(5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.renderers import network_manager_bond, sections
from guest_agent.renderers import network_manager_ip as ip
from guest_agent.renderers.interfaces import driver_name
from guest_agent.renderers.naming import is_pattern
from guest_agent.renderers.unsupported import check_member, unsupported
from pv_channel.digest import sha256

if TYPE_CHECKING:
    from guest_agent.system import System
    from pv_channel.interfaces import Bridge, Ethernet
    from pv_channel.network import NetworkConfig

#: The highest that there is: of several profiles that fit an interface, ours is the one.
PRIORITY: Final = 999
#: NM_SETTING_WIRED_WAKE_ON_LAN_MAGIC
_MAGIC_PACKET: Final = 0x40
#: One profile for every interface that fits (NM_CONNECTION_MULTI_CONNECT_MULTIPLE).
_MULTIPLE: Final = 3
_NAMESPACE: Final = b"org.pvchannel.config.1 NetworkManager profile "
#: A bridge's keys, what the document calls them, and what NetworkManager takes.
_BRIDGE: Final = {
    "ageing-time": ("ageing_time", 0, 1_000_000),
    "priority": ("priority", 0, 65535),
    "forward-delay": ("forward_delay", 2, 30),
    "hello-time": ("hello_time", 1, 10),
    "max-age": ("max_age", 6, 40),
}


def uuid(key: str) -> str:
    """The profile's own name, the same in every generation: a uuid of version 8 (RFC 9562, section 5.8)."""
    octets = bytearray(sha256(_NAMESPACE + key.encode("ascii"))[:16])
    octets[6] = octets[6] & 0x0F | 0x80
    octets[8] = octets[8] & 0x3F | 0x80
    text = octets.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def render(key: str, network: NetworkConfig, system: System) -> str:
    """The whole file; raise `ItemError` where NetworkManager cannot say it, or a bond's primary card is not there."""
    interface = network.all()[key]
    master = network.master(key)
    parts = {"connection": _connection(key, network, master), "ethernet": _ethernet(key, network), "match": {}}
    if key in network.bonds:
        parts["bond"] = network_manager_bond.section(key, network, system)
    elif key in network.bridges:
        parts["bridge"] = _bridge(key, network.bridges[key])
    elif key in network.vlans:
        parts["vlan"] = {"id": str(network.vlans[key].id), "parent": uuid(network.vlans[key].link)}
    else:
        parts["match"] = _match(network.ethernets[key])
    if master is None:
        parts |= ip.sections(key, interface)
    else:
        check_member(ip.MANAGER, key, interface, master)
        if master in network.bridges:
            parts["bridge-port"] = _bridge_port(key, network.bridges[master])
    return sections.text([f"[{name}]", *(f"{word}={value}" for word, value in keys.items())] for name, keys in parts.items())


def _connection(key: str, network: NetworkConfig, master: str | None) -> dict[str, str]:
    keys = {"id": f"pv-guest-agent {key}", "uuid": uuid(key), "type": _type(key, network)}
    ethernet = network.ethernets.get(key)
    if ethernet is None or ethernet.match is msgspec.UNSET:
        keys["interface-name"] = key
    elif is_pattern(network, key):
        keys["multi-connect"] = str(_MULTIPLE)
    # A card that the document means by itself is not for a pattern that it fits as well.
    keys["autoconnect-priority"] = str(PRIORITY - is_pattern(network, key))
    if key in network.bonds or key in network.bridges:
        keys["autoconnect-slaves"] = "1"
    if master is not None:
        keys |= {"master": uuid(master), "slave-type": _type(master, network)}
    return keys


def _type(key: str, network: NetworkConfig) -> str:
    if key in network.bonds:
        return "bond"
    return "bridge" if key in network.bridges else "vlan" if key in network.vlans else "ethernet"


def _ethernet(key: str, network: NetworkConfig) -> dict[str, str]:
    """What concerns frames; a bond, a bridge and a VLAN have it too."""
    interface, keys = network.all()[key], dict[str, str]()
    ethernet = network.ethernets.get(key)
    if ethernet is not None and ethernet.match is not msgspec.UNSET and ethernet.match.macaddress is not msgspec.UNSET:
        keys["mac-address"] = ethernet.match.macaddress
    if interface.macaddress is not msgspec.UNSET:
        keys["cloned-mac-address"] = interface.macaddress
    if interface.mtu is not msgspec.UNSET:
        keys["mtu"] = str(interface.mtu)
    if ethernet is not None and ethernet.wakeonlan:
        keys["wake-on-lan"] = str(_MAGIC_PACKET)
    return keys


def _match(ethernet: Ethernet) -> dict[str, str]:
    if ethernet.match is msgspec.UNSET:
        return {}
    keys = {}
    if ethernet.match.name is not msgspec.UNSET:
        keys["interface-name"] = f"{ethernet.match.name};"
    if ethernet.match.driver is not msgspec.UNSET:
        keys["driver"] = f"{driver_name(ethernet.match.driver)};"
    return keys


def _bridge(key: str, bridge: Bridge) -> dict[str, str]:
    parameters = bridge.parameters
    if parameters is msgspec.UNSET:
        return {"stp": "true"}
    keys = {"stp": "true" if parameters.stp else "false"}
    for option, (field, low, high) in _BRIDGE.items():
        value = getattr(parameters, field)
        if value is msgspec.UNSET or (field == "forward_delay" and not parameters.stp and value < low):
            continue  # without spanning tree the kernel forwards at once
        if not low <= value <= high:
            raise unsupported(ip.MANAGER, key, option, f"it takes {low} to {high}")
        keys[option] = str(value)
    return keys


def _bridge_port(key: str, bridge: Bridge) -> dict[str, str]:
    if bridge.parameters is msgspec.UNSET:
        return {}
    keys = {}
    if key in bridge.parameters.port_priority:
        keys["priority"] = str(bridge.parameters.port_priority[key])
    if key in bridge.parameters.path_cost:
        keys["path-cost"] = str(bridge.parameters.path_cost[key])
    return keys
