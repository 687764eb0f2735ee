# SPDX-License-Identifier: Apache-2.0
"""The kinds of interface of network-config version 2: ethernets, bonds, bridges, VLANs, and what all of them can have."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from pv_channel.addresses import Address, Destination, InterfaceAddress, MacAddress
from pv_channel.names import DomainName, DriverName, Hostname, InterfaceName, InterfacePattern
from pv_channel.routes import Metric, Route, RoutingPolicy
from pv_channel.values import share_defaults

#: IPv6 needs links of this size (RFC 8200, section 5).
MIN_IPV6_MTU: Final = 1280
#: The kernel tells interfaces and addresses by the hundred with ease; a VM with more has another problem.
MAX_INTERFACES: Final = 64
MAX_PER_INTERFACE: Final = 128

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
PortPriority = Annotated[int, msgspec.Meta(ge=0, le=63)]
PathCost = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Members = Annotated[list[InterfaceName], msgspec.Meta(max_length=MAX_INTERFACES)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="kebab"):
    """A part of a network configuration."""


class Match(_Part, frozen=True):
    """Which interfaces are meant: those that fit everything that is said, by hardware address, present name, driver."""

    macaddress: MacAddress | msgspec.UnsetType = msgspec.UNSET
    name: InterfacePattern | msgspec.UnsetType = msgspec.UNSET
    driver: DriverName | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.macaddress is msgspec.UNSET and self.name is msgspec.UNSET and self.driver is msgspec.UNSET:
            raise ValueError("'match' needs 'macaddress', 'name' or 'driver'")


class Nameservers(_Part, frozen=True):
    """DNS servers and search domains."""

    addresses: Annotated[list[Address], msgspec.Meta(max_length=16)] = []
    search: Annotated[list[DomainName], msgspec.Meta(max_length=32)] = []


class DhcpOverrides(_Part, frozen=True):
    """What of a DHCP server's answer is used, and what is sent to it (netplan(5), "DHCP overrides")."""

    use_dns: bool | msgspec.UnsetType = msgspec.UNSET
    use_domains: bool | Literal["route"] | msgspec.UnsetType = msgspec.UNSET
    use_hostname: bool | msgspec.UnsetType = msgspec.UNSET
    use_mtu: bool | msgspec.UnsetType = msgspec.UNSET
    use_ntp: bool | msgspec.UnsetType = msgspec.UNSET
    use_routes: bool | msgspec.UnsetType = msgspec.UNSET
    send_hostname: bool | msgspec.UnsetType = msgspec.UNSET
    hostname: Hostname | msgspec.UnsetType = msgspec.UNSET
    route_metric: Metric | msgspec.UnsetType = msgspec.UNSET


class Interface(_Part, frozen=True):
    """What every kind of interface can have. *optional*: the boot does not wait for it."""

    dhcp4: bool = False
    dhcp6: bool = False
    dhcp4_overrides: DhcpOverrides | msgspec.UnsetType = msgspec.UNSET
    dhcp6_overrides: DhcpOverrides | msgspec.UnsetType = msgspec.UNSET
    accept_ra: bool | msgspec.UnsetType = msgspec.UNSET
    addresses: Annotated[list[InterfaceAddress], msgspec.Meta(max_length=MAX_PER_INTERFACE)] = []
    gateway4: Address | msgspec.UnsetType = msgspec.UNSET
    gateway6: Address | msgspec.UnsetType = msgspec.UNSET
    routes: Annotated[list[Route], msgspec.Meta(max_length=MAX_PER_INTERFACE)] = []
    routing_policy: Annotated[list[RoutingPolicy], msgspec.Meta(max_length=MAX_PER_INTERFACE)] = []
    nameservers: Nameservers | msgspec.UnsetType = msgspec.UNSET
    macaddress: MacAddress | msgspec.UnsetType = msgspec.UNSET
    mtu: Annotated[int, msgspec.Meta(ge=68, le=65535)] | msgspec.UnsetType = msgspec.UNSET
    optional: bool = False

    def __post_init__(self) -> None:
        for field, gateway, version in (("gateway4", self.gateway4, 4), ("gateway6", self.gateway6, 6)):
            if gateway is not msgspec.UNSET and gateway.version != version:
                raise ValueError(f"'{field}' expected an IPv{version} address, got '{gateway}'")
        if len(set(self.addresses)) != len(self.addresses):
            raise ValueError("'addresses' names one address twice")
        uses_ipv6 = self.dhcp6 or self.accept_ra is True or self.gateway6 is not msgspec.UNSET
        uses_ipv6 = uses_ipv6 or any(address.version == 6 for address in self.addresses)
        if uses_ipv6 and self.mtu is not msgspec.UNSET and self.mtu < MIN_IPV6_MTU:
            raise ValueError(f"'mtu' {self.mtu} is too small for IPv6, which needs {MIN_IPV6_MTU}")

    def all_routes(self) -> list[Route]:
        """The routes, with gateway4 and gateway6 as the default routes that they mean."""
        gateways = [Route(Destination("default"), g) for g in (self.gateway4, self.gateway6) if g is not msgspec.UNSET]
        return gateways + list(self.routes)

    @property
    def has_addresses(self) -> bool:
        """Whether it is to have an address of its own, or routes."""
        dynamic = self.dhcp4 or self.dhcp6 or self.accept_ra is True
        return bool(dynamic or self.addresses or self.all_routes() or self.routing_policy)


class Ethernet(Interface, frozen=True):
    """A network card: the one named by its key, or those that *match* finds; *set_name* is what it is called from then on."""

    match: Match | msgspec.UnsetType = msgspec.UNSET
    set_name: InterfaceName | msgspec.UnsetType = msgspec.UNSET
    wakeonlan: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.set_name is not msgspec.UNSET and (self.match is msgspec.UNSET or self.match.macaddress is msgspec.UNSET):
            raise ValueError("'set-name' needs 'match' with 'macaddress': two cards cannot have one name")


BondMode = Literal["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]


class BondParameters(_Part, frozen=True):
    """The kernel's bonding options by netplan's names (netplan(5), "bonds")."""

    mode: BondMode = "balance-rr"
    lacp_rate: Literal["slow", "fast"] | msgspec.UnsetType = msgspec.UNSET
    mii_monitor_interval: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    min_links: Annotated[int, msgspec.Meta(ge=0, le=64)] | msgspec.UnsetType = msgspec.UNSET
    transmit_hash_policy: (
        Literal["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"] | msgspec.UnsetType
    ) = msgspec.UNSET
    ad_select: Literal["stable", "bandwidth", "count"] | msgspec.UnsetType = msgspec.UNSET
    all_slaves_active: bool | msgspec.UnsetType = msgspec.UNSET
    arp_interval: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    arp_ip_targets: Annotated[list[Address], msgspec.Meta(max_length=16)] = []
    arp_validate: Literal["none", "active", "backup", "all"] | msgspec.UnsetType = msgspec.UNSET
    arp_all_targets: Literal["any", "all"] | msgspec.UnsetType = msgspec.UNSET
    up_delay: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    down_delay: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    fail_over_mac_policy: Literal["none", "active", "follow"] | msgspec.UnsetType = msgspec.UNSET
    gratuitous_arp: Annotated[int, msgspec.Meta(ge=0, le=255)] | msgspec.UnsetType = msgspec.UNSET
    packets_per_slave: Annotated[int, msgspec.Meta(ge=0, le=65535)] | msgspec.UnsetType = msgspec.UNSET
    primary_reselect_policy: Literal["always", "better", "failure"] | msgspec.UnsetType = msgspec.UNSET
    learn_packet_interval: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | msgspec.UnsetType = msgspec.UNSET
    primary: InterfaceName | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        share_defaults(self)
        if any(target.version != 4 for target in self.arp_ip_targets):
            raise ValueError("'arp-ip-targets' are IPv4 addresses")


class Bond(Interface, frozen=True):
    """Several interfaces as one."""

    interfaces: Members = []
    parameters: BondParameters | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        _once(self.interfaces)
        primary = msgspec.UNSET if self.parameters is msgspec.UNSET else self.parameters.primary
        if primary is not msgspec.UNSET and primary not in self.interfaces:
            raise ValueError(f"'primary' {primary} is none of 'interfaces'")


class BridgeParameters(_Part, frozen=True):
    """The kernel's bridge options by netplan's names (netplan(5), "bridges")."""

    ageing_time: Seconds | msgspec.UnsetType = msgspec.UNSET
    priority: Annotated[int, msgspec.Meta(ge=0, le=65535)] | msgspec.UnsetType = msgspec.UNSET
    port_priority: Annotated[dict[str, PortPriority], msgspec.Meta(max_length=MAX_INTERFACES)] = {}
    forward_delay: Seconds | msgspec.UnsetType = msgspec.UNSET
    hello_time: Seconds | msgspec.UnsetType = msgspec.UNSET
    max_age: Seconds | msgspec.UnsetType = msgspec.UNSET
    path_cost: Annotated[dict[str, PathCost], msgspec.Meta(max_length=MAX_INTERFACES)] = {}
    stp: bool = True


class Bridge(Interface, frozen=True):
    """A switch inside the guest."""

    interfaces: Members = []
    parameters: BridgeParameters | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        _once(self.interfaces)
        if self.parameters is not msgspec.UNSET:
            strangers = sorted({*self.parameters.port_priority, *self.parameters.path_cost} - set(self.interfaces))
            if strangers:
                raise ValueError(f"'parameters' names '{strangers[0][:40]}', which is none of 'interfaces'")


class Vlan(Interface, frozen=True, kw_only=True):
    """The frames of *link* that bear the tag *id* (IEEE 802.1Q)."""

    id: Annotated[int, msgspec.Meta(ge=0, le=4094)]
    link: InterfaceName


def _once(members: list[Any]) -> None:
    if len(set(members)) != len(members):
        raise ValueError("'interfaces' names one interface twice")
