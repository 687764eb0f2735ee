# SPDX-License-Identifier: Apache-2.0
"""One interface as stanzas of interfaces(5). Its lines reach a shell, so every value is checked once more before."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from guest_agent.failure import ItemError
from guest_agent.renderers import ifcfg
from guest_agent.renderers.unsupported import unsupported
from pv_channel.interfaces import DhcpOverrides

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pv_channel.interfaces import Interface
    from pv_channel.routes import Route, RoutingPolicy

NAME: Final = "ifupdown"
#: Nothing that a shell gives a meaning.
_SAFE: Final = re.compile(r"[A-Za-z0-9.:/_,+-]+", re.ASCII)
_HEAD: Final = "# {}: written by pv-guest-agent; the next document from the host replaces this file.\n"
#: What a DHCP client does anyway, and what ifupdown has no word for where it shall not.
_AS_CLIENTS_DO: Final = ("use_dns", "use_domains", "use_hostname", "use_mtu", "use_ntp", "use_routes", "send_hostname")


class Device(NamedTuple):
    """A device of software: the commands that make it ready before it is brought up, and options of its first stanza.

    *made*: they make it, so that it goes when it is down, and what an ifup that failed half-way has left goes before.
    """

    made: bool = False
    commands: Sequence[Sequence[str]] = ()
    options: Sequence[str] = ()


def render(name: str, key: str, interface: Interface, device: Device | None = None) -> str:
    """The stanzas that make the interface *name* be *interface*; raise `ItemError` for what may not or cannot stand in them."""
    name = _safe(name)
    stanzas = _stanzas(name, key, interface)
    remove = f"ip link del dev {name} 2>/dev/null || true"
    if device is not None:
        stanzas[0] += [f"pre-up {remove}"] if device.made else []
        stanzas[0] += [*device.options, *(f"pre-up {_command(words)}" for words in device.commands)]
    stanzas[0] += _first(name, interface, hardware=device is None)
    stanzas[-1] += [line for rule in interface.routing_policy for line in _rule(rule)]
    stanzas[-1] += [line for route in interface.all_routes() for line in _route(name, route)]
    stanzas[-1] += [f"post-down {remove}"] if device is not None and device.made else []
    body = "\n".join("\n    ".join(stanza) + "\n" for stanza in stanzas)
    # What is hotplugged comes when it comes, and the boot does not wait. Nobody plugs in a device of software.
    when = "allow-hotplug" if interface.optional and device is None else "auto"
    return f"{_HEAD.format(name)}{when} {name}\n{body}\n"


def _stanzas(name: str, key: str, interface: Interface) -> list[list[str]]:
    """Each a line ``iface`` and its options: DHCP first, then one per address, IPv4 before IPv6; at least one."""
    stanzas = [[f"iface {name} inet dhcp", *_dhcp4(key, interface)]] if interface.dhcp4 else []
    stanzas += [_static(name, "inet", address) for address in interface.addresses if address.version == 4]
    _check_dhcp6(key, interface)
    six = [[f"iface {name} inet6 dhcp"]] if interface.dhcp6 else []
    six += [_static(name, "inet6", address) for address in interface.addresses if address.version == 6]
    return (stanzas + _with_accept_ra(name, interface, six)) or [[f"iface {name} inet manual"]]


def _static(name: str, family: str, address: str) -> list[str]:
    return [f"iface {name} {family} static", f"address {_safe(address)}"]


def _dhcp4(key: str, interface: Interface) -> list[str]:
    overrides = _overrides(key, "dhcp4-overrides", interface.dhcp4_overrides)
    return [] if overrides.route_metric is msgspec.UNSET else [f"metric {overrides.route_metric}"]


def _check_dhcp6(key: str, interface: Interface) -> None:
    if interface.dhcp6 and _overrides(key, "dhcp6-overrides", interface.dhcp6_overrides).route_metric is not msgspec.UNSET:
        raise unsupported(NAME, key, "dhcp6-overrides.route-metric", "the kernel makes IPv6's routes of what routers say")


def _overrides(key: str, field: str, overrides: DhcpOverrides | msgspec.UnsetType) -> DhcpOverrides:
    """What is overridden, if ifupdown can: what its DHCP clients do is in files of their own."""
    if overrides is msgspec.UNSET:
        return DhcpOverrides()
    other = [word for word in _AS_CLIENTS_DO if getattr(overrides, word) not in (True, msgspec.UNSET)]
    other += ["hostname"] if overrides.hostname is not msgspec.UNSET else []
    if other:
        raise unsupported(NAME, key, f"{field}.{other[0].replace('_', '-')}", "its DHCP clients read that in files of their own")
    return overrides


def _with_accept_ra(name: str, interface: Interface, six: list[list[str]]) -> list[list[str]]:
    """IPv6's stanzas with the document's word about router advertisements: 2 accepts them on a router too, as ``auto`` does."""
    if interface.accept_ra is msgspec.UNSET:
        return six
    if not six:
        return [[f"iface {name} inet6 auto"] if interface.accept_ra else [f"iface {name} inet6 manual", _refuse_ra(name)]]
    return [[*stanza, f"accept_ra {2 if interface.accept_ra else 0}"] for stanza in six]


def _refuse_ra(name: str) -> str:
    # With slashes, so that a dot in the name is one (sysctl(8)).
    return f"pre-up sysctl -q -e -w net/ipv6/conf/{name}/accept_ra=0"


def _first(name: str, interface: Interface, *, hardware: bool) -> list[str]:
    """What belongs to the interface rather than to an address."""
    lines = []
    if hardware and interface.macaddress is not msgspec.UNSET:
        lines.append(f"pre-up {_command(['ip', 'link', 'set', 'dev', name, 'address', interface.macaddress])}")
    if interface.mtu is not msgspec.UNSET:
        lines.append(f"pre-up ip link set dev {name} mtu {interface.mtu}")
    if interface.nameservers is not msgspec.UNSET:
        if interface.nameservers.addresses:
            lines.append(f"dns-nameservers {' '.join(map(_safe, interface.nameservers.addresses))}")
        if interface.nameservers.search:
            lines.append(f"dns-search {' '.join(map(_safe, interface.nameservers.search))}")
    return lines


def _route(name: str, route: Route) -> list[str]:
    """ifup's and ifdown's commands for a route; taking down a route that went with its interface is no failure."""
    family, what = f"-{route.version}", ifcfg.route(route, name)
    return [
        f"up {_command(['ip', family, 'route', 'replace', *what])}",
        f"down {_command(['ip', family, 'route', 'del', *what])} || true",
    ]


def _rule(rule: RoutingPolicy) -> list[str]:
    """The same for a rule, of which the kernel would have two: one that an ifdown has left is taken down first."""
    family, what = f"-{rule.version}", ifcfg.rule(rule)
    remove = f"{_command(['ip', family, 'rule', 'del', *what])} 2>/dev/null || true"
    return [f"up {remove}", f"up {_command(['ip', family, 'rule', 'add', *what])}", f"down {remove}"]


def _command(words: Iterable[str]) -> str:
    return " ".join(map(_safe, words))


def _safe(value: str) -> str:
    if not _SAFE.fullmatch(value):
        raise ItemError("unsafe-value", f"'{value}' may not stand in a file that a shell reads")
    return str(value)
