# SPDX-License-Identifier: Apache-2.0
"""One interface's ``.network`` file (systemd.network(5)), with netplan's meaning of the document's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent.renderers import sections
from guest_agent.renderers.interfaces import driver_name
from guest_agent.renderers.sections import given
from guest_agent.renderers.unsupported import unsupported
from pv_channel.interfaces import DhcpOverrides, Ethernet

if TYPE_CHECKING:
    from pv_channel.interfaces import Interface
    from pv_channel.network import NetworkConfig
    from pv_channel.routes import Route, RoutingPolicy


def render(key: str, network: NetworkConfig) -> str:
    """The whole file; raise `ItemError` for what networkd cannot do."""
    interface = network.all()[key]
    return sections.text(
        [
            match(key, interface),
            _link(interface),
            _network(key, interface, network),
            *map(_route, interface.all_routes()),
            *map(_rule, interface.routing_policy),
            *_dhcp(key, interface),
            _port(key, network),
        ]
    )


def match(key: str, interface: Interface) -> list[str]:
    """By the hardware's own address where the document says one: a bond's member, or one with ``macaddress``, has another."""
    if not isinstance(interface, Ethernet) or interface.match is msgspec.UNSET:
        return ["[Match]", f"Name={key}"]
    wanted = interface.match
    if wanted.macaddress is not msgspec.UNSET:
        # Nothing more: a name that was matched is gone once the interface has the one of set-name.
        return ["[Match]", f"PermanentMACAddress={wanted.macaddress}"]
    driver = msgspec.UNSET if wanted.driver is msgspec.UNSET else driver_name(wanted.driver)
    # A VLAN of the card may have a name that fits, and has another type.
    return ["[Match]", *given("Name", wanted.name), *given("Driver", driver), "Type=ether"]


def _link(interface: Interface) -> list[str]:
    lines = ["[Link]", *given("MTUBytes", interface.mtu), *given("MACAddress", interface.macaddress)]
    return [*lines, "RequiredForOnline=no"] if interface.optional else lines


def _network(key: str, interface: Interface, network: NetworkConfig) -> list[str]:
    dhcp = {(False, False): "no", (True, False): "ipv4", (False, True): "ipv6", (True, True): "yes"}
    master = network.master(key)
    # Without accept-ra networkd decides as the kernel would, and link-local addresses are IPv6's alone, and a member has none.
    lines = [
        "[Network]",
        f"DHCP={dhcp[interface.dhcp4, interface.dhcp6]}",
        f"LinkLocalAddressing={'no' if master else 'ipv6'}",
        *given("IPv6AcceptRA", interface.accept_ra),
        *(f"Address={address}" for address in interface.addresses),
    ]
    if interface.nameservers is not msgspec.UNSET:
        lines += [f"DNS={address}" for address in interface.nameservers.addresses]
        if interface.nameservers.search:
            lines.append(f"Domains={' '.join(interface.nameservers.search)}")
    if key not in network.ethernets:
        lines.append("ConfigureWithoutCarrier=yes")  # a bridge without ports has none, and shall have its addresses
    lines += [f"VLAN={vlan}" for vlan in network.vlans_on(key)]
    return lines if master is None else lines + _membership(key, master, network)


def _membership(key: str, master: str, network: NetworkConfig) -> list[str]:
    if master in network.bridges:
        return [f"Bridge={master}"]
    parameters = network.bonds[master].parameters
    primary = parameters is not msgspec.UNSET and parameters.primary == key
    return [f"Bond={master}", *(["PrimarySlave=yes"] if primary else [])]


def _route(route: Route) -> list[str]:
    lines = ["[Route]"]
    if route.to != "default":
        lines.append(f"Destination={route.to}")
    if route.via is not msgspec.UNSET:
        lines.append(f"Gateway={route.via}")
    elif route.version == 4:
        lines.append("Scope=link")
    lines += [*given("PreferredSource", route.source), *given("Metric", route.metric), *given("Table", route.table)]
    return [*lines, "GatewayOnLink=yes"] if route.on_link else lines


def _rule(rule: RoutingPolicy) -> list[str]:
    return [
        "[RoutingPolicyRule]",
        *given("From", rule.source),
        *given("To", rule.to),
        f"Table={rule.table}",
        *given("Priority", rule.priority),
        *given("FirewallMark", rule.mark),
        *given("TypeOfService", rule.type_of_service),
    ]


def _dhcp(key: str, interface: Interface) -> list[list[str]]:
    four = _overrides(interface.dhcp4_overrides) if interface.dhcp4 else DhcpOverrides()
    six = _overrides(interface.dhcp6_overrides) if interface.dhcp6 else DhcpOverrides()
    # Up to systemd 254 DHCPv4's words are used for both; from then on each has its own.
    if interface.dhcp4 and interface.dhcp6 and (four.hostname, four.send_hostname) != (six.hostname, six.send_hostname):
        why = "it sends one host name; say the same of 'hostname' and 'send-hostname' in 'dhcp4-overrides'"
        raise unsupported("systemd-networkd", key, "dhcp6-overrides", why)
    naming = four if interface.dhcp4 else six
    # netplan's default, where the document itself has no word on the size.
    use_mtu = True if interface.dhcp4 and interface.mtu is msgspec.UNSET else msgspec.UNSET
    both = [*given("SendHostname", naming.send_hostname), *given("Hostname", naming.hostname)]
    return [
        [
            "[DHCPv4]",
            *_common(four),
            *given("UseMTU", use_mtu if four.use_mtu is msgspec.UNSET else four.use_mtu),
            *given("UseRoutes", four.use_routes),
            *given("RouteMetric", four.route_metric),
            *both,
        ],
        # DHCPv6 tells neither routes nor sizes; the routes beside it come with router advertisements.
        ["[DHCPv6]", *_common(six), *(both if interface.dhcp6 else [])],
        ["[IPv6AcceptRA]", *given("RouteMetric", six.route_metric)],
    ]


def _overrides(overrides: DhcpOverrides | msgspec.UnsetType) -> DhcpOverrides:
    return DhcpOverrides() if overrides is msgspec.UNSET else overrides


def _common(overrides: DhcpOverrides) -> list[str]:
    return [
        *given("UseDNS", overrides.use_dns),
        *given("UseDomains", overrides.use_domains),
        *given("UseHostname", overrides.use_hostname),
        *given("UseNTP", overrides.use_ntp),
    ]


def _port(key: str, network: NetworkConfig) -> list[str]:
    """A bridge's word on one of its ports."""
    bridge = network.bridges.get(network.master(key) or "")
    if bridge is None or bridge.parameters is msgspec.UNSET:
        return []
    cost, priority = bridge.parameters.path_cost.get(key), bridge.parameters.port_priority.get(key)
    return ["[Bridge]", *([] if cost is None else [f"Cost={cost}"]), *([] if priority is None else [f"Priority={priority}"])]


