# SPDX-License-Identifier: Apache-2.0
"""One interface as RHEL's ``ifcfg-*`` and the files of routes and rules beside it, as initscripts' network-scripts read them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.renderers import bonding, ifcfg, shell_file
from guest_agent.renderers.network_manager_ip import dhcp
from guest_agent.renderers.unsupported import check_domains, check_member, unsupported

if TYPE_CHECKING:
    from guest_agent.renderers.shell_file import Value
    from guest_agent.system import System
    from pv_channel.interfaces import Bridge, DhcpOverrides, Ethernet, Interface, Vlan
    from pv_channel.network import NetworkConfig

MANAGER: Final = "network-scripts"
#: ifup-post reads DNS1 to DNS3, resolv.conf(5) takes no more either.
_MAX_SERVERS: Final = 3
#: A bridge's files in /sys, what the document calls them, and how many of their units are one of its.
_BRIDGE: Final = {
    "ageing_time": ("ageing_time", 100),
    "priority": ("priority", 1),
    "hello_time": ("hello_time", 100),
    "max_age": ("max_age", 100),
    "forward_delay": ("forward_delay", 100),
}
#: What of a name ifup takes for a VLAN's number.
_NUMBERED: Final = re.compile(r"(?:(?P<link>.+)\.|vlan)(?P<id>[0-9]{1,4})", re.ASCII)
#: Newer scripts are told the number.
_TAKES_ANY_NAME: Final = '"${VID}"'
IFUP: Final = "/etc/sysconfig/network-scripts/ifup"


def files(key: str, names: dict[str, str], network: NetworkConfig, system: System) -> dict[str, str]:
    """The texts by the beginnings of the files' names; raise `ItemError` where the scripts cannot do what is wanted."""
    interface, name = network.all()[key], names[key]
    found = {"ifcfg-": shell_file.write(_keys(key, names, network, system))}
    for version, six in ((4, ""), (6, "6")):
        routes = [ifcfg.route(route, name) for route in interface.all_routes() if route.version == version]
        rules = [ifcfg.rule(rule) for rule in interface.routing_policy if rule.version == version]
        found |= {f"route{six}-": shell_file.lines(routes)} if routes else {}
        found |= {f"rule{six}-": shell_file.lines(rules)} if rules else {}
    return found


def _keys(key: str, names: dict[str, str], network: NetworkConfig, system: System) -> dict[str, Value]:
    interface, master = network.all()[key], network.master(key)
    keys: dict[str, Value] = {"DEVICE": names[key], "ONBOOT": "yes", "NM_CONTROLLED": "no"}
    if key in network.bonds:
        options = bonding.options(network.bonds[key], network, system)
        keys |= {"TYPE": "Bond", "BONDING_MASTER": "yes", "BONDING_OPTS": options}
    elif key in network.bridges:
        keys |= _bridge(network.bridges[key])
    elif key in network.vlans:
        keys |= _vlan(key, network.vlans[key], names, system)
    else:
        keys |= _ethernet(network.ethernets[key])
    if interface.macaddress is not msgspec.UNSET:
        keys["MACADDR"] = interface.macaddress.upper()
    if interface.mtu is not msgspec.UNSET:
        keys["MTU"] = interface.mtu
    if master is None:
        return keys | _addresses(key, interface)
    check_member(MANAGER, key, interface, master)
    return keys | {"BOOTPROTO": "none"} | _port(key, master, names, network)


def _ethernet(ethernet: Ethernet) -> dict[str, Value]:
    keys: dict[str, Value] = {"TYPE": "Ethernet"}
    if ethernet.match is not msgspec.UNSET and ethernet.match.macaddress is not msgspec.UNSET:
        keys["HWADDR"] = ethernet.match.macaddress.upper()  # as the scripts compare it
    if ethernet.wakeonlan:
        keys["ETHTOOL_OPTS"] = ["wol", "g"]
    return keys


def _bridge(bridge: Bridge) -> dict[str, Value]:
    parameters = bridge.parameters
    keys: dict[str, Value] = {"TYPE": "Bridge", "STP": "yes"}
    if parameters is msgspec.UNSET:
        return keys
    keys["STP"] = "yes" if parameters.stp else "no"
    options = {
        option: str(value * unit)
        for option, (field, unit) in _BRIDGE.items()
        if (value := getattr(parameters, field)) is not msgspec.UNSET
    }
    # Not DELAY, AGEING and PRIO: older and newer scripts take them in different units, or not at all.
    return keys | {"BRIDGING_OPTS": options} if options else keys


def _port(key: str, master: str, names: dict[str, str], network: NetworkConfig) -> dict[str, Value]:
    if master in network.bonds:
        return {"MASTER": names[master], "SLAVE": "yes"}
    parameters, options = network.bridges[master].parameters, dict[str, str]()
    if parameters is not msgspec.UNSET:
        options |= {"priority": str(parameters.port_priority[key])} if key in parameters.port_priority else {}
        options |= {"path_cost": str(parameters.path_cost[key])} if key in parameters.path_cost else {}
    keys: dict[str, Value] = {"BRIDGE": names[master]}
    return keys | {"BRIDGING_OPTS": options} if options else keys


def _vlan(key: str, vlan: Vlan, names: dict[str, str], system: System) -> dict[str, Value]:
    numbered = _NUMBERED.fullmatch(key)
    fits = numbered is not None and int(numbered["id"]) == vlan.id and numbered["link"] in (None, names[vlan.link])
    if not fits and _TAKES_ANY_NAME not in system.text(IFUP):
        raise unsupported(MANAGER, key, "id", f"its ifup takes the number from the name; call it {names[vlan.link]}.{vlan.id}")
    return {"VLAN": "yes", "PHYSDEV": names[vlan.link], "VID": vlan.id}


def _addresses(key: str, interface: Interface) -> dict[str, Value]:
    four = [address for address in interface.addresses if address.version == 4]
    six = [str(address) for address in interface.addresses if address.version == 6]
    if interface.dhcp4 and four:
        raise unsupported(MANAGER, key, "addresses", "with 'dhcp4' it sets no other IPv4 address")
    keys: dict[str, Value] = {"BOOTPROTO": "dhcp" if interface.dhcp4 else "none"}
    for number, address in enumerate(four):
        suffix = str(number) if number else ""
        keys |= {f"IPADDR{suffix}": address.address, f"PREFIX{suffix}": address.prefix}
    keys["IPV6INIT"] = "yes"  # a link-local address at least, as every interface has
    if six:
        keys["IPV6ADDR"] = six[0]
    if len(six) > 1:
        keys["IPV6ADDR_SECONDARIES"] = six[1:]
    if interface.accept_ra is not msgspec.UNSET:
        keys["IPV6_AUTOCONF"] = "yes" if interface.accept_ra else "no"
    if interface.dhcp6:
        keys["DHCPV6C"] = "yes"
    return keys | _servers(key, interface) | _overrides(key, interface)


def _servers(key: str, interface: Interface) -> dict[str, Value]:
    if interface.nameservers is msgspec.UNSET:
        return {}
    if len(interface.nameservers.addresses) > _MAX_SERVERS:
        raise unsupported(MANAGER, key, "nameservers", f"it takes {_MAX_SERVERS} 'addresses'")
    keys: dict[str, Value] = {f"DNS{number}": str(server) for number, server in enumerate(interface.nameservers.addresses, 1)}
    if interface.nameservers.search:
        keys["DOMAIN"] = list(map(str, interface.nameservers.search))
    return keys


def _overrides(key: str, interface: Interface) -> dict[str, Value]:
    """What both families share stands once; where they are to differ, it cannot be said."""
    keys: dict[str, Value] = {}
    for version in (4, 6):
        found = dhcp(interface, version)
        field = f"dhcp{version}-overrides"
        for word, value in ({} if found is None else _override(key, field, found, version)).items():
            if keys.setdefault(word, value) != value:
                raise unsupported(MANAGER, key, field, f"{word} is one setting for DHCPv4 and DHCPv6 together")
    return keys


def _override(key: str, field: str, found: DhcpOverrides, version: int) -> dict[str, Value]:
    check_domains(MANAGER, key, field, found)
    for word, value in (("use-hostname", found.use_hostname), ("use-mtu", found.use_mtu), ("use-routes", found.use_routes)):
        if value is False:
            raise unsupported(MANAGER, key, f"{field}.{word}", "dhclient's script takes it always")
    if version == 6 and found.route_metric is not msgspec.UNSET:
        raise unsupported(MANAGER, key, f"{field}.route-metric", "it is DHCPv4's")
    said = {
        "PEERDNS": found.use_dns,
        "PEERNTP": found.use_ntp,
        "DHCP_SEND_HOSTNAME": found.send_hostname,
        "DHCP_HOSTNAME": found.hostname,
        "METRIC": found.route_metric,
    }
    words = {True: "yes", False: "no"}
    return {
        word: words[value] if isinstance(value, bool) else value
        for word, value in said.items()
        if not isinstance(value, msgspec.UnsetType)
    }
