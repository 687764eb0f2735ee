# SPDX-License-Identifier: Apache-2.0
"""Addresses that cannot be wrong: of Ethernet, of IPv4 and IPv6 hosts and networks."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Final

from pv_channel.values import Value, matching

# ipaddress accepts any text behind a '%' as an IPv6 scope; an address here has none.
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)
_PREFIXED: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}", re.ASCII)
#: The limited broadcast address (RFC 919, section 7).
_BROADCAST: Final = IPv4Address("255.255.255.255")


class MacAddress(Value):
    """An Ethernet address, kept in lower case with colons."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """Six octets."""
        return matching(text, cls._PATTERN, "a MAC address like 00:16:3e:01:02:03").lower()


class Address(Value):
    """An IPv4 or IPv6 address of one host, in its canonical form."""

    __slots__ = ()
    _PATTERN: Final = _ADDRESS

    @classmethod
    def check(cls, text: str) -> str:
        """A unicast address without scope or prefix."""
        matching(text, cls._PATTERN, "an IPv4 or IPv6 address")
        try:
            address = ip_address(text)
        except ValueError:
            raise ValueError(f"expected an IPv4 or IPv6 address, got '{text}'") from None
        _unicast(address, text)
        return str(address)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self else 4


class InterfaceAddress(Value):
    """An address and its prefix length, ``10.0.0.5/24`` or ``fd00::5/64``, in canonical form."""

    __slots__ = ()
    _PATTERN: Final = _PREFIXED

    @classmethod
    def check(cls, text: str) -> str:
        """A unicast address that a host can have in that prefix."""
        matching(text, cls._PATTERN, "an address with a prefix length like 10.0.0.5/24")
        try:
            interface = ip_interface(text)
        except ValueError:
            raise ValueError(f"expected an address with a prefix length like 10.0.0.5/24, got '{text}'") from None
        _unicast(interface.ip, text)
        _host_of(interface, text)
        return str(interface)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self else 4

    @property
    def address(self) -> str:
        """Without the prefix length."""
        return self.partition("/")[0]

    @property
    def prefix(self) -> int:
        """The prefix length."""
        return int(self.partition("/")[2])


class Selector(Value):
    """Which packets a rule means: from or to one address or a network, in canonical form with its prefix length."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """A network without host bits, or one address."""
        if "/" not in text:
            address = Address.check(text)
            return f"{address}/{128 if ':' in address else 32}"
        return Destination.check(text)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self else 4


class Destination(Value):
    """Where a route leads: a network in canonical form, or ``default``."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """A network whose host bits are zero, or ``default`` (netplan's word for both families)."""
        if text == "default":
            return text
        matching(text, _PREFIXED, "a network like 10.1.0.0/16, or default")
        try:
            return str(ip_network(text))
        except ValueError:
            raise ValueError(f"expected a network without host bits like 10.1.0.0/16, or default, got '{text}'") from None

    @property
    def version(self) -> int | None:
        """4, 6, or None for ``default``."""
        if self == "default":
            return None
        return 6 if ":" in self else 4


def _unicast(address: IPv4Address | IPv6Address, text: str) -> None:
    if address.is_multicast or address.is_unspecified or address.is_loopback or address == _BROADCAST:
        raise ValueError(f"'{text}' is no address that one host has")


def _host_of(interface: IPv4Interface | IPv6Interface, text: str) -> None:
    network = interface.network
    if network.version == 4 and network.prefixlen < 31 and interface.ip in (network.network_address, network.broadcast_address):
        raise ValueError(f"'{text}' is the network's own or its broadcast address, no host's")
