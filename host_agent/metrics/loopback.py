# SPDX-License-Identifier: Apache-2.0
"""A loopback address with a port, as an operator gives it, and a socket that listens there."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from host_agent.errors import HostError

_EXPECTED: Final = "expected 127.0.0.1:PORT or [::1]:PORT"
_MAX_PORT: Final = 0xFFFF


class Address(NamedTuple):
    """Where to listen."""

    host: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host)
        return f"{host}:{self.port}"


def address(text: str) -> Address:
    """What *text* says; raise `ValueError` with a sentence for what is not a loopback address and a port."""
    host, _, port = text.rpartition(":")
    try:
        found = IPv6Address(host[1:-1]) if host[:1] + host[-1:] == "[]" else IPv4Address(host)
    except ValueError:
        raise ValueError(_EXPECTED) from None
    if not (port.isascii() and port.isdigit() and int(port) <= _MAX_PORT):
        raise ValueError(_EXPECTED)
    if not found.is_loopback:
        raise ValueError(f"{found} is no loopback address, and metrics are for this host alone; {_EXPECTED}")
    return Address(found, int(port))


def bind(where: Address) -> socket.socket:
    """A socket that listens there; raise `HostError` where none can."""
    family = socket.AF_INET6 if isinstance(where.host, IPv6Address) else socket.AF_INET
    try:
        return socket.create_server((str(where.host), where.port), family=family)
    except OSError as exc:
        why = os.strerror(exc.errno or 0)
        raise HostError(f"--metrics-listen {where}: {why}; cure: another port, or end what listens there") from None
