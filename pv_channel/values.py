# SPDX-License-Identifier: Apache-2.0
"""Strings that cannot be wrong: what stands in a document for a name or an address is checked once, by making one of these.

Each is a `str` that was accepted; making one from anything else raises `ValueError` with what was expected. Every value
here ends in configuration files with a syntax of their own, so the alphabets are narrow (no blank, quote, `$`, newline).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Final, Self

from pv_channel.text import printable

#: HOST_NAME_MAX of Linux (gethostname(2)); a longer name is refused, never cut.
MAX_HOSTNAME_BYTES: Final = 64
#: A domain name in its written form (RFC 1035, section 2.3.4).
MAX_FQDN_BYTES: Final = 253

_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
# ipaddress accepts any text behind a '%' as an IPv6 scope; an address here has none.
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)
_PREFIXED: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}", re.ASCII)


#: The limited broadcast address (RFC 919, section 7).
_BROADCAST: Final = IPv4Address("255.255.255.255")


class Value(str):
    """A checked string. `check` gives the form that is kept, or raises `ValueError`."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """*text* in its kept form; raise `ValueError` where it cannot be one."""
        return super().__new__(cls, cls.check(text))

    @classmethod
    def check(cls, text: str) -> str:
        """The form of *text* to keep, or `ValueError`."""
        raise ValueError(f"nothing checks that '{printable(text, 40)}' is a {cls.__name__}")  # every subclass has its own check


def _matching(text: str, pattern: re.Pattern[str], expected: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"expected {expected}, got '{printable(text, 40)}'")
    return text


def _dns_name(text: str, limit: int, what: str) -> str:
    if not 1 <= len(text) <= limit or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        rule = f"{what} of letters, digits, '-' and dots, at most {limit} bytes, labels of at most 63"
        raise ValueError(f"expected {rule}, got '{printable(text, 40)}'")
    return text


class Hostname(Value):
    """What sethostname(2) and /etc/hostname take, by systemd's rule (hostname(5)); not ``localhost``, not an IPv4 address."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """A name of at most 64 bytes."""
        _dns_name(text, MAX_HOSTNAME_BYTES, "a hostname")
        if text.lower().startswith("localhost") or text.lower().endswith((".localhost", ".localdomain")):
            raise ValueError(f"'{text}' is every machine's name; expected one of its own")
        if text.rpartition(".")[2].isdigit():
            raise ValueError(f"'{text}' reads as an IPv4 address; expected a name")
        return text


class Fqdn(Hostname):
    """A fully qualified domain name: a hostname's rule with room for the domain, and at least one dot."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """A name of at most 253 bytes whose first label is a hostname."""
        _dns_name(text, MAX_FQDN_BYTES, "a domain name")
        first, dot, _ = text.partition(".")
        if not dot:
            raise ValueError(f"expected a name with a domain, got '{text}'")
        if text.rpartition(".")[2].isdigit():
            raise ValueError(f"'{text}' reads as an IPv4 address; expected a name")
        Hostname.check(first)
        return text

    @property
    def short(self) -> str:
        """The first label."""
        return self.partition(".")[0]


class DomainName(Value):
    """A DNS search domain."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """A name of at most 253 bytes."""
        return _dns_name(text, MAX_FQDN_BYTES, "a domain name")


class InstanceId(Value):
    """cloud-init's ``instance-id``: a new one says that this is a new machine."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """1 to 128 of letters, digits, ``. _ : -``."""
        return _matching(text, cls._PATTERN, "1 to 128 of letters, digits and . _ : -")


class VmUuid(Value):
    """A VM's uuid as xl writes it."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """The usual form, kept in lower case."""
        return _matching(text.lower(), cls._PATTERN, "a uuid like 01234567-89ab-cdef-0123-456789abcdef")


class UserName(Value):
    """A login name by useradd(8)'s rule."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """1 to 32 of a-z, 0-9, ``_ -``."""
        return _matching(text, cls._PATTERN, "a login name: a-z or _, then up to 31 of a-z 0-9 _ -")


class InterfaceName(Value):
    """A network interface's name (netdevice(7), IFNAMSIZ), without the characters that configuration files give a meaning."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """1 to 15 of letters, digits, ``. _ -``; not ``lo``, ``all`` or ``default``."""
        if text in ("lo", "all", "default"):
            raise ValueError(f"'{text}' is no interface to configure")
        return _matching(text, cls._PATTERN, "an interface name: 1 to 15 of letters, digits and . _ -")


class MacAddress(Value):
    """An Ethernet address, kept in lower case with colons."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """Six octets."""
        return _matching(text.lower(), cls._PATTERN, "a MAC address like 00:16:3e:01:02:03")


class Address(Value):
    """An IPv4 or IPv6 address of one host, in its canonical form."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """A unicast address without scope or prefix."""
        _matching(text, _ADDRESS, "an IPv4 or IPv6 address")
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

    @classmethod
    def check(cls, text: str) -> str:
        """A unicast address that a host can have in that prefix."""
        _matching(text, _PREFIXED, "an address with a prefix length like 10.0.0.5/24")
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


class Destination(Value):
    """Where a route leads: a network in canonical form, or ``default``."""

    __slots__ = ()

    @classmethod
    def check(cls, text: str) -> str:
        """A network whose host bits are zero, or ``default`` (netplan's word for both families)."""
        if text == "default":
            return text
        _matching(text, _PREFIXED, "a network like 10.1.0.0/16, or default")
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
