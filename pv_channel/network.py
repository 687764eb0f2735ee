# SPDX-License-Identifier: Apache-2.0
"""cloud-init's network-config, version 2, as typed values: ethernets, static or by DHCP, IPv4 and IPv6.

Names and meaning are cloud-init's ("Networking config Version 2"), which are netplan's. What is not here is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from pv_channel.values import Address, Destination, DomainName, InterfaceAddress, InterfaceName, MacAddress

#: IPv6 needs links of this size (RFC 8200, section 5).
MIN_IPV6_MTU: Final = 1280
#: The kernel tells interfaces and addresses by the hundred with ease; a VM with more has another problem.
MAX_INTERFACES: Final = 64
MAX_PER_INTERFACE: Final = 128


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="kebab"):
    """A part of a network configuration."""


class Match(_Part, frozen=True):
    """Which interface is meant, by its MAC address."""

    macaddress: MacAddress


class Nameservers(_Part, frozen=True):
    """DNS servers and search domains."""

    addresses: Annotated[list[Address], msgspec.Meta(max_length=16)] = []
    search: Annotated[list[DomainName], msgspec.Meta(max_length=32)] = []


class Route(_Part, frozen=True):
    """A route to *to* by way of *via*; without *via*, straight out of the interface. *metric* as in ip-route(8)."""

    to: Destination
    via: Address | msgspec.UnsetType = msgspec.UNSET
    metric: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | msgspec.UnsetType = msgspec.UNSET
    on_link: bool = False

    def __post_init__(self) -> None:
        if self.via is msgspec.UNSET:
            if self.to == "default":
                raise ValueError("a default route needs 'via'")
        elif self.to.version not in (None, self.via.version):
            raise ValueError(f"'to' is IPv{self.to.version} and 'via' is IPv{self.via.version}")

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.via.version if self.via is not msgspec.UNSET else self.to.version or 4


class Ethernet(_Part, frozen=True):
    """One interface: the one named by its key, or the one that *match* finds."""

    match: Match | msgspec.UnsetType = msgspec.UNSET
    dhcp4: bool = False
    dhcp6: bool = False
    accept_ra: bool | msgspec.UnsetType = msgspec.UNSET
    addresses: Annotated[list[InterfaceAddress], msgspec.Meta(max_length=MAX_PER_INTERFACE)] = []
    gateway4: Address | msgspec.UnsetType = msgspec.UNSET
    gateway6: Address | msgspec.UnsetType = msgspec.UNSET
    routes: Annotated[list[Route], msgspec.Meta(max_length=MAX_PER_INTERFACE)] = []
    nameservers: Nameservers | msgspec.UnsetType = msgspec.UNSET
    mtu: Annotated[int, msgspec.Meta(ge=68, le=65535)] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        for field, gateway, version in (("gateway4", self.gateway4, 4), ("gateway6", self.gateway6, 6)):
            if gateway is not msgspec.UNSET and gateway.version != version:
                raise ValueError(f"'{field}' expected an IPv{version} address, got '{gateway}'")
        if len(set(self.addresses)) != len(self.addresses):
            raise ValueError("'addresses' names one address twice")
        uses_ipv6 = self.dhcp6 or self.gateway6 is not msgspec.UNSET or any(a.version == 6 for a in self.addresses)
        if uses_ipv6 and self.mtu is not msgspec.UNSET and self.mtu < MIN_IPV6_MTU:
            raise ValueError(f"'mtu' {self.mtu} is too small for IPv6, which needs {MIN_IPV6_MTU}")

    def all_routes(self) -> list[Route]:
        """The routes with gateway4 and gateway6 as the default routes that they mean."""
        gateways = [Route(Destination("default"), g) for g in (self.gateway4, self.gateway6) if g is not msgspec.UNSET]
        return gateways + list(self.routes)


class NetworkConfig(_Part, frozen=True):
    """The whole of ``network``. Interfaces that it does not name are left alone."""

    version: Literal[2]
    ethernets: Annotated[dict[str, Ethernet], msgspec.Meta(max_length=MAX_INTERFACES)] = {}

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for name, ethernet in self.ethernets.items():
            InterfaceName(name)
            if ethernet.match is not msgspec.UNSET:
                mac = ethernet.match.macaddress
                if mac in seen:
                    raise ValueError(f"'{seen[mac]}' and '{name}' both match {mac}")
                seen[mac] = name
