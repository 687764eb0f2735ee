# SPDX-License-Identifier: Apache-2.0
"""One interface as SUSE's ``ifcfg-*`` (ifcfg(5), ifcfg-bonding(5), ifcfg-bridge(5), ifcfg-vlan(5)) and the files beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.renderers import bonding, ifcfg, shell_file
from guest_agent.renderers.network_manager_ip import dhcp
from guest_agent.renderers.unsupported import check_domains, check_member, unsupported

if TYPE_CHECKING:
    from guest_agent.renderers.shell_file import Value
    from guest_agent.system import System
    from pv_channel.interfaces import Bond, Bridge, DhcpOverrides, Ethernet, Interface
    from pv_channel.network import NetworkConfig

MANAGER: Final = "wicked"
_MII_MILLISECONDS: Final = 100
_BRIDGE: Final = {
    "BRIDGE_AGEINGTIME": "ageing_time",
    "BRIDGE_PRIORITY": "priority",
    "BRIDGE_FORWARDDELAY": "forward_delay",
    "BRIDGE_HELLOTIME": "hello_time",
    "BRIDGE_MAXAGE": "max_age",
}


def files(key: str, names: dict[str, str], network: NetworkConfig, system: System) -> dict[str, str]:
    """The texts by the beginnings of the files' names; raise `ItemError` where wicked cannot do what is wanted."""
    interface, name = network.all()[key], names[key]
    found = {"ifcfg-": shell_file.write(_keys(key, names, network, system))}
    routes = [
        [str(route.to), str(route.via) if route.via is not msgspec.UNSET else "-", "-", name, *ifcfg.route_options(route)]
        for route in interface.all_routes()
    ]
    rules = [[f"ipv{rule.version}", *ifcfg.rule(rule)] for rule in interface.routing_policy]
    found |= {"ifroute-": shell_file.lines(routes)} if routes else {}
    found |= {"ifrule-": shell_file.lines(rules)} if rules else {}
    if interface.accept_ra is not msgspec.UNSET:
        # Between slashes, so that a dot in the name is one (sysctl(8)); 2 accepts them on a router too.
        setting = f"net/ipv6/conf/{name}/accept_ra"
        found["ifsysctl-"] = shell_file.setting(setting, 2 if interface.accept_ra else 0)
    return found


def _keys(key: str, names: dict[str, str], network: NetworkConfig, system: System) -> dict[str, Value]:
    interface, master = network.all()[key], network.master(key)
    keys: dict[str, Value] = {"STARTMODE": "hotplug" if interface.optional or master in network.bonds else "auto"}
    if key in network.bonds:
        keys |= _bond(network.bonds[key], names) | {"BONDING_MODULE_OPTS": _monitored(key, network, system)}
    elif key in network.bridges:
        keys |= _bridge(network.bridges[key], names)
    elif key in network.vlans:
        keys |= {"ETHERDEVICE": names[network.vlans[key].link], "VLAN_ID": network.vlans[key].id}
    else:
        keys |= _ethernet(network.ethernets[key])
    if interface.macaddress is not msgspec.UNSET:
        keys["LLADDR"] = interface.macaddress
    if interface.mtu is not msgspec.UNSET:
        keys["MTU"] = interface.mtu
    if master is None:
        return keys | _addresses(key, interface)
    check_member(MANAGER, key, interface, master)
    return keys | {"BOOTPROTO": "none"}


def _ethernet(ethernet: Ethernet) -> dict[str, Value]:
    return {"ETHTOOL_OPTIONS": ["wol", "g"]} if ethernet.wakeonlan else {}


def _bond(bond: Bond, names: dict[str, str]) -> dict[str, Value]:
    keys: dict[str, Value] = {"BONDING_MASTER": "yes"}
    return keys | {f"BONDING_SLAVE_{number}": names[member] for number, member in enumerate(bond.interfaces)}


def _monitored(key: str, network: NetworkConfig, system: System) -> dict[str, str]:
    """The bond's options. wicked takes no bond that never looks at its members: without a word it looks ten times a second."""
    options = bonding.options(network.bonds[key], network, system)
    looks = [option for option in ("miimon", "arp_interval") if options.get(option, "0") != "0"]
    if not looks and "miimon" in options:
        raise unsupported(MANAGER, key, "mii-monitor-interval", "it takes no bond that never looks at its members")
    return options if looks else options | {"miimon": str(_MII_MILLISECONDS)}


def _bridge(bridge: Bridge, names: dict[str, str]) -> dict[str, Value]:
    keys: dict[str, Value] = {"BRIDGE": "yes", "BRIDGE_PORTS": [names[member] for member in bridge.interfaces]}
    parameters = bridge.parameters
    if parameters is msgspec.UNSET:
        return keys | {"BRIDGE_STP": "on"}
    keys["BRIDGE_STP"] = "on" if parameters.stp else "off"
    for word, field in _BRIDGE.items():
        if getattr(parameters, field) is not msgspec.UNSET:
            keys[word] = getattr(parameters, field)
    for word, given in (("BRIDGE_PORTPRIORITIES", parameters.port_priority), ("BRIDGE_PATHCOSTS", parameters.path_cost)):
        if given:
            keys[word] = [str(given.get(member, "-")) for member in bridge.interfaces]
    return keys


def _addresses(key: str, interface: Interface) -> dict[str, Value]:
    protocols = {(True, True): "dhcp", (True, False): "dhcp4", (False, True): "dhcp6", (False, False): "static"}
    keys: dict[str, Value] = {"BOOTPROTO": protocols[interface.dhcp4, interface.dhcp6]}
    if interface.dhcp6:
        keys["DHCLIENT6_MODE"] = "managed"  # by itself it would wait for a router to tell it to ask
    for number, address in enumerate(interface.addresses):
        keys[f"IPADDR_{number}" if number else "IPADDR"] = str(address)
    for version, prefix in ((4, "DHCLIENT"), (6, "DHCLIENT6")):
        found = dhcp(interface, version)
        if found is not None:
            keys |= _override(key, f"dhcp{version}-overrides", found, prefix)
    return keys


def _override(key: str, field: str, found: DhcpOverrides, prefix: str) -> dict[str, Value]:
    check_domains(MANAGER, key, field, found)
    for word, value in (("use-mtu", found.use_mtu), ("use-routes", found.use_routes)):
        if value is False:
            raise unsupported(MANAGER, key, f"{field}.{word}", "it takes it always")
    keys: dict[str, Value] = {}
    without = [f"-{name}" for name, value in (("dns", found.use_dns), ("ntp", found.use_ntp)) if value is False]
    if without:
        keys[f"{prefix}_UPDATE"] = ["default", *without]
    if found.use_hostname is not msgspec.UNSET:
        keys[f"{prefix}_SET_HOSTNAME"] = "yes" if found.use_hostname else "no"
    if found.send_hostname is False:
        keys[f"{prefix}_HOSTNAME_OPTION"] = []
    elif found.hostname is not msgspec.UNSET:
        keys[f"{prefix}_HOSTNAME_OPTION"] = str(found.hostname)
    if found.route_metric is not msgspec.UNSET:
        if prefix != "DHCLIENT":
            raise unsupported(MANAGER, key, f"{field}.route-metric", "it is DHCPv4's")
        keys["DHCLIENT_ROUTE_PRIORITY"] = found.route_metric
    return keys
