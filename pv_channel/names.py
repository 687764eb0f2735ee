# SPDX-License-Identifier: Apache-2.0
"""Names that cannot be wrong: of machines, domains, instances, users, groups and interfaces."""

from __future__ import annotations

import re
from typing import Final

from pv_channel.text import printable
from pv_channel.values import Value, matching

#: HOST_NAME_MAX of Linux (gethostname(2)); a longer name is refused, never cut.
MAX_HOSTNAME_BYTES: Final = 64
#: A domain name in its written form (RFC 1035, section 2.3.4).
MAX_FQDN_BYTES: Final = 253

_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)


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
        """A name of at most 253 bytes; not an IPv4 address."""
        _dns_name(text, MAX_FQDN_BYTES, "a domain name")
        if text.rpartition(".")[2].isdigit():
            raise ValueError(f"'{text}' reads as an IPv4 address; expected a domain name")
        return text


class InstanceId(Value):
    """cloud-init's ``instance-id``: a new one says that this is a new machine."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """1 to 128 of letters, digits, ``. _ : -``."""
        return matching(text, cls._PATTERN, "1 to 128 of letters, digits and . _ : -")


class VmUuid(Value):
    """A VM's uuid as xl writes it."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """The usual form, kept in lower case."""
        return matching(text, cls._PATTERN, "a uuid like 01234567-89ab-cdef-0123-456789abcdef").lower()


class UserName(Value):
    """A login name by useradd(8)'s rule."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """1 to 32 of a-z, 0-9, ``_ -``."""
        return matching(text, cls._PATTERN, "a login name: a-z or _, then up to 31 of a-z 0-9 _ -")


class GroupName(UserName):
    """A group's name, by the same rule (groupadd(8))."""

    __slots__ = ()


class InterfaceName(Value):
    """A network interface's name (netdevice(7), IFNAMSIZ), without the characters that configuration files give a meaning."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """1 to 15 of letters, digits, ``. _ -``; not ``lo``, ``all`` or ``default``."""
        if text in ("lo", "all", "default"):
            raise ValueError(f"'{text}' is no interface to configure")
        return matching(text, cls._PATTERN, "an interface name: 1 to 15 of letters, digits and . _ -")


class InterfacePattern(Value):
    """Which interfaces are meant, by name: a shell pattern of fnmatch(3) without braces."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[A-Za-z0-9*?\[][A-Za-z0-9._*?\[\]-]{0,31}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """1 to 32 of letters, digits and ``. _ - * ? [ ]``."""
        return matching(text, cls._PATTERN, "an interface name, which may hold * ? [ ]")


class DriverName(Value):
    """A kernel module that drives a network card, as ``ethtool -i`` names it."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """1 to 32 of letters, digits, ``_ -``."""
        return matching(text, cls._PATTERN, "a driver's name like xen_netfront")
