# SPDX-License-Identifier: Apache-2.0
"""One interface as stanzas of interfaces(5). Its lines reach a shell, so every value is checked once more before."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from pv_channel.interfaces import Ethernet
    from pv_channel.routes import Route

#: Nothing that a shell gives a meaning.
_SAFE: Final = re.compile(r"[A-Za-z0-9.:/_-]+", re.ASCII)
_HEAD: Final = "# {}: written by pv-guest-agent; the next document from the host replaces this file.\n"


def render(name: str, ethernet: Ethernet) -> str:
    """The stanzas that make the interface *name* be *ethernet*; raise `ItemError` for a value that may not stand in them."""
    name = _safe(name)
    stanzas = _stanzas(name, ethernet)
    stanzas[0] += _first(name, ethernet)
    stanzas[-1] += [line for route in ethernet.all_routes() for line in _route(name, route)]
    body = "\n".join("\n    ".join(stanza) + "\n" for stanza in stanzas)
    return f"{_HEAD.format(name)}auto {name}\n{body}\n"


def _stanzas(name: str, ethernet: Ethernet) -> list[list[str]]:
    """Each a line ``iface`` and its options: DHCP first, then one per address, IPv4 before IPv6; at least one."""
    stanzas = [[f"iface {name} inet dhcp"]] if ethernet.dhcp4 else []
    stanzas += [_static(name, "inet", address) for address in ethernet.addresses if address.version == 4]
    six = [[f"iface {name} inet6 dhcp"]] if ethernet.dhcp6 else []
    six += [_static(name, "inet6", address) for address in ethernet.addresses if address.version == 6]
    return (stanzas + _with_accept_ra(name, ethernet, six)) or [[f"iface {name} inet manual"]]


def _static(name: str, family: str, address: str) -> list[str]:
    return [f"iface {name} {family} static", f"address {_safe(address)}"]


def _with_accept_ra(name: str, ethernet: Ethernet, six: list[list[str]]) -> list[list[str]]:
    """IPv6's stanzas with the document's word about router advertisements: 2 accepts them on a router too, as ``auto`` does."""
    if ethernet.accept_ra is msgspec.UNSET:
        return six
    if not six:
        return [[f"iface {name} inet6 auto"] if ethernet.accept_ra else [f"iface {name} inet6 manual", _refuse_ra(name)]]
    return [[*stanza, f"accept_ra {2 if ethernet.accept_ra else 0}"] for stanza in six]


def _refuse_ra(name: str) -> str:
    # With slashes, so that a dot in the name is one (sysctl(8)).
    return f"pre-up sysctl -q -e -w net/ipv6/conf/{name}/accept_ra=0"


def _first(name: str, ethernet: Ethernet) -> list[str]:
    """What belongs to the interface rather than to an address."""
    lines = []
    if ethernet.mtu is not msgspec.UNSET:
        lines.append(f"pre-up ip link set dev {name} mtu {ethernet.mtu}")
    if ethernet.nameservers is not msgspec.UNSET:
        if ethernet.nameservers.addresses:
            lines.append(f"dns-nameservers {' '.join(map(_safe, ethernet.nameservers.addresses))}")
        if ethernet.nameservers.search:
            lines.append(f"dns-search {' '.join(map(_safe, ethernet.nameservers.search))}")
    return lines


def _route(name: str, route: Route) -> list[str]:
    """ifup's and ifdown's commands for a route; taking down a route that went with its interface is no failure."""
    what = [f"-{route.version}", "route", "{}", _safe(route.to)]
    if route.via is not msgspec.UNSET:
        what += ["via", _safe(route.via)]
    what += ["dev", name]
    if route.metric is not msgspec.UNSET:
        what += ["metric", str(route.metric)]
    if route.on_link:
        what.append("onlink")
    command = f"ip {' '.join(what)}"
    return [f"up {command.format('replace')}", f"down {command.format('del')} || true"]


def _safe(value: str) -> str:
    if not _SAFE.fullmatch(value):
        raise ItemError("unsafe-value", f"'{value}' may not stand in a file that a shell reads")
    return str(value)
