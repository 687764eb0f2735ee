# SPDX-License-Identifier: Apache-2.0
"""Options of bonds and bridges: the kernel's and ifupdown's names for them, and version 2's."""

from __future__ import annotations

from typing import Any, Final

from host_agent.documents.formats.fields import Fields, as_number
from pv_channel.errors import BadDocument
from pv_channel.text import printable

#: The kernel's name, with hyphens (bonding.rst), and netplan's.
BOND: Final = {
    "mode": "mode",
    "lacp-rate": "lacp-rate",
    "miimon": "mii-monitor-interval",
    "min-links": "min-links",
    "xmit-hash-policy": "transmit-hash-policy",
    "ad-select": "ad-select",
    "all-slaves-active": "all-slaves-active",
    "arp-interval": "arp-interval",
    "arp-ip-target": "arp-ip-targets",
    "arp-validate": "arp-validate",
    "arp-all-targets": "arp-all-targets",
    "updelay": "up-delay",
    "downdelay": "down-delay",
    "fail-over-mac": "fail-over-mac-policy",
    "num-grat-arp": "gratuitous-arp",
    "packets-per-slave": "packets-per-slave",
    "primary-reselect": "primary-reselect-policy",
    "lp-interval": "learn-packet-interval",
    "primary": "primary",
}
#: The kernel takes an option's number for its word.
_BY_NUMBER: Final = {
    "mode": ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"),
    "lacp-rate": ("slow", "fast"),
    "xmit-hash-policy": ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"),
    "ad-select": ("stable", "bandwidth", "count"),
    "arp-validate": ("none", "active", "backup", "all"),
    "arp-all-targets": ("any", "all"),
    "fail-over-mac": ("none", "active", "follow"),
    "primary-reselect": ("always", "better", "failure"),
}
#: bridge-utils-interfaces(5) and netplan's; the two that are a value for each port are not here.
BRIDGE: Final = {
    "bridge_ageing": "ageing-time",
    "bridge_bridgeprio": "priority",
    "bridge_fd": "forward-delay",
    "bridge_hello": "hello-time",
    "bridge_maxage": "max-age",
}
PER_PORT: Final = {"bridge_pathcost": "path-cost", "bridge_portprio": "port-priority"}


def bond_parameters(values: object, path: str) -> list[tuple[str, object, str]]:
    """Version 2's name, the value, and the path of each option in a mapping like ``{bond-mode: 802.3ad, bond_miimon: 100}``."""
    params = Fields(values, path)
    found = []
    for name in list(values) if isinstance(values, dict) else []:
        plain = str(name).replace("_", "-").removeprefix("bond-")
        plain = "num-grat-arp" if plain == "num-unsol-na" else plain  # one number of the kernel's by two names
        if name in params and plain in BOND:
            found.append((BOND[plain], _bond_value(plain, params, str(name)), params.at(str(name))))
    params.finish("version 2")
    return found


def _bond_value(plain: str, params: Fields, name: str) -> object:
    if plain == "all-slaves-active":
        return params.flag(name)
    if plain == "arp-ip-target":
        return [value for value, _ in params.words(name)]
    value = as_number(params.take(name))
    words = _BY_NUMBER.get(plain, ())
    return words[value] if isinstance(value, int) and value in range(len(words)) else value


def bridge_parameters(params: Fields) -> list[tuple[str, object, str]]:
    """The same for the ``params`` of a bridge; the caller finishes them."""
    found: list[tuple[str, object, str]] = []
    for name, ours in BRIDGE.items():
        if name in params:
            found.append((ours, params.number(name), params.at(name)))
    if "bridge_stp" in params:
        found.append(("stp", params.flag("bridge_stp"), params.at("bridge_stp")))
    for name, ours in PER_PORT.items():
        ports = dict(_port(value, path) for value, path in params.entries(name))
        if ports:
            found.append((ours, ports, params.at(name)))
    return found


def _port(value: object, path: str) -> tuple[str, object]:
    """A port and its number, of a text like ``eth0 50``."""
    port, _, number = str(value).strip().partition(" ")
    if not isinstance(as_number(number.strip()), int):
        raise BadDocument(path, f"expected a port and a number like 'eth0 50', got '{printable(value, 40)}'")
    return port, as_number(number.strip())


def as_bond_parameters(parameters: dict[str, Any], names: dict[str, str], style: str) -> dict[str, Any]:
    """Version 2's ``parameters`` of a bond by the kernel's names in *style* (``bond-{}``); *names* are the interfaces'."""
    there = {theirs: ours for ours, theirs in BOND.items()}
    written = {style.format(there[name]): value for name, value in parameters.items()}
    primary = style.format("primary")
    return written | ({primary: names[written[primary]]} if primary in written else {})


def as_bridge_parameters(parameters: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Version 2's ``parameters`` of a bridge by ifupdown's names."""
    written: dict[str, Any] = {name: parameters[ours] for name, ours in BRIDGE.items() if ours in parameters}
    if "stp" in parameters:
        written["bridge_stp"] = "on" if parameters["stp"] else "off"
    for name, ours in PER_PORT.items():
        if ours in parameters:
            written[name] = [f"{names[port]} {value}" for port, value in parameters[ours].items()]
    return written
