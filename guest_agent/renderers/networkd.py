# SPDX-License-Identifier: Apache-2.0
"""systemd-networkd: one ``.network`` file per interface (systemd.network(5)), with netplan's meaning of the document's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.changes.files import RemoveFile
from guest_agent.changes.running import RunCommand
from guest_agent.renderers import interfaces, units

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.interfaces import Ethernet
    from pv_channel.network import NetworkConfig
    from pv_channel.routes import Route

NAME: Final = "systemd-networkd"
DIRECTORY: Final = "/etc/systemd/network"
#: Sorts before what distributions put there (``80-``, ``99-``): of the files that match, the first one counts.
PREFIX: Final = "10-pv-guest-agent-"
SUFFIX: Final = ".network"
MODE: Final = 0o644
#: networkd writes this while it runs, and only then can be told to look again.
RUNNING: Final = "/run/systemd/netif/state"
_NETWORKCTL: Final = "networkctl"


def is_active(system: System) -> bool:
    """Whether networkd is enabled, or runs."""
    return units.is_enabled(system, "systemd-networkd.service") or system.exists(RUNNING)


def is_running(system: System) -> bool:
    """Whether it can be told to look at its files again."""
    return system.exists(RUNNING)


def plan(network: NetworkConfig, draft: Draft) -> list[Change]:
    """What makes networkd have exactly these interfaces from us; those of others are left alone. Raise `ItemError`, `OSError`."""
    system = draft.system
    wanted = {_path(key): render(key, ethernet) for key, ethernet in network.ethernets.items()}
    gone = [path for path in ours(system) if path not in wanted]
    changed = [key for key in network.ethernets if system.text(_path(key)) != wanted[_path(key)]]
    present = [name for key in changed if (name := interfaces.present(system, key, network.ethernets[key]))]
    reload, reconfigure = [_NETWORKCTL, "reload"], [_NETWORKCTL, "reconfigure", *present]
    changes: list[Change] = [RunCommand([], reconfigure, RUNNING)] if present else []
    changes.append(RunCommand([], reload, RUNNING))  # undone in reverse order: files, reload, reconfigure
    changes += [change for path, text in wanted.items() for change in draft.own(path, text.encode("ascii"), MODE)]
    changes += [RemoveFile(path) for path in gone]
    changes.append(RunCommand(reload, [], RUNNING))
    if present:
        changes.append(RunCommand(reconfigure, [], RUNNING))
    return changes


def _path(key: str) -> str:
    return f"{DIRECTORY}/{PREFIX}{key}{SUFFIX}"


def ours(system: System) -> list[str]:
    """The files that an earlier document made."""
    return [f"{DIRECTORY}/{name}" for name in system.names(DIRECTORY) if name.startswith(PREFIX) and name.endswith(SUFFIX)]


def remarks(network: NetworkConfig, system: System) -> str:  # noqa: ARG001  every renderer is asked
    """Nothing."""
    return ""


def render(key: str, ethernet: Ethernet) -> str:
    """The whole file for one interface."""
    sections = [_match(key, ethernet), _link(ethernet), _network(ethernet), *map(_route, ethernet.all_routes())]
    head = "# Written by pv-guest-agent; the next document from the host replaces this file.\n"
    return head + "\n".join("\n".join(lines) + "\n" for lines in sections if lines)


def _match(key: str, ethernet: Ethernet) -> list[str]:
    if ethernet.match is msgspec.UNSET:
        return ["[Match]", f"Name={key}"]
    # A VLAN or a bridge on top has the same address, and another type.
    return ["[Match]", f"MACAddress={ethernet.match.macaddress}", "Type=ether"]


def _link(ethernet: Ethernet) -> list[str]:
    return [] if ethernet.mtu is msgspec.UNSET else ["[Link]", f"MTUBytes={ethernet.mtu}"]


def _network(ethernet: Ethernet) -> list[str]:
    dhcp = {(False, False): "no", (True, False): "ipv4", (False, True): "ipv6", (True, True): "yes"}
    # Without accept-ra networkd decides as the kernel would, and link-local addresses are IPv6's alone: both as netplan has it.
    lines = ["[Network]", f"DHCP={dhcp[ethernet.dhcp4, ethernet.dhcp6]}", "LinkLocalAddressing=ipv6"]
    if ethernet.accept_ra is not msgspec.UNSET:
        lines.append(f"IPv6AcceptRA={'yes' if ethernet.accept_ra else 'no'}")
    lines += [f"Address={address}" for address in ethernet.addresses]
    if ethernet.nameservers is not msgspec.UNSET:
        lines += [f"DNS={address}" for address in ethernet.nameservers.addresses]
        if ethernet.nameservers.search:
            lines.append(f"Domains={' '.join(ethernet.nameservers.search)}")
    return lines


def _route(route: Route) -> list[str]:
    lines = ["[Route]"]
    if route.to != "default":
        lines.append(f"Destination={route.to}")
    if route.via is not msgspec.UNSET:
        lines.append(f"Gateway={route.via}")
    elif route.version == 4:
        lines.append("Scope=link")
    if route.metric is not msgspec.UNSET:
        lines.append(f"Metric={route.metric}")
    if route.on_link:
        lines.append("GatewayOnLink=yes")
    return lines
