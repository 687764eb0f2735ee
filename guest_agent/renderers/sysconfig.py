# SPDX-License-Identifier: Apache-2.0
"""RHEL's network-scripts, where the old service ``network`` runs them; NetworkManager, where it is in charge, gets profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.changes.running import RunCommand
from guest_agent.renderers import ifcfg, link, naming, shell_file, sysconfig_file, units

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig

NAME: Final = "network-scripts"
DIRECTORY: Final = "/etc/sysconfig/network-scripts"
PREFIXES: Final = ("ifcfg-", "route-", "route6-", "rule-", "rule6-")
#: The service keeps this while it is started.
RUNNING: Final = "/run/lock/subsys/network"
_RUN_LEVELS: Final = tuple(f"/etc/rc.d/rc{level}.d" for level in (2, 3, 4, 5))
_NET: Final = "/sys/class/net"


def is_active(system: System) -> bool:
    """Whether the scripts are there and the service that runs them at boot is enabled, or runs."""
    started = (name for level in _RUN_LEVELS for name in system.names(level))
    enabled = units.is_enabled(system, "network.service") or any(
        name.startswith("S") and name.endswith("network") for name in started
    )
    return system.exists(f"{DIRECTORY}/ifup-eth") and (enabled or is_running(system))


def is_running(system: System) -> bool:
    """Whether the service has brought its interfaces up; before, it will find our files when it does."""
    return system.exists(RUNNING)


def plan(network: NetworkConfig, draft: Draft) -> list[Change]:
    """What makes the scripts have exactly these interfaces from us; raise `ItemError`, `OSError`."""
    system = draft.system
    files = ifcfg.compare(draft, network, DIRECTORY, PREFIXES, sysconfig_file.files)
    changed = files.changed
    down = _downs(system, {*changed.values(), *files.left})
    ups = [changed[key] for key in changed if _comes_alone(network, key, changed) and naming.is_there(system, network, key)]
    changes: list[Change] = [RunCommand(["ifdown", name], ["ifup", name], RUNNING) for name in down]
    changes += [*link.plan(network, draft), *ifcfg.own(draft, files)]
    return changes + [RunCommand(["ifup", name], ["ifdown", name], RUNNING) for name in ups]


def ours(system: System) -> list[str]:
    """The files that an earlier document made."""
    return [*ifcfg.ours(system, DIRECTORY, PREFIXES), *link.ours(system)]


def remarks(network: NetworkConfig, system: System) -> str:  # noqa: ARG001  every renderer is asked
    """What is optional for the boot: the scripts know no such thing."""
    names = [key for key, interface in network.all().items() if interface.optional]
    return f"; the boot waits for 'optional' {', '.join(names)} too" if names else ""


def _downs(system: System, names: set[str]) -> list[str]:
    """Those of *names* that are there with an older file, what stands on another before it."""
    found = []
    for name in sorted(names):
        values = shell_file.read(system.text(f"{DIRECTORY}/ifcfg-{name}"))
        if values and system.exists(f"{_NET}/{name}"):
            kinds = (values.get("TYPE") == "Bridge", values.get("VLAN") == "yes", values.get("BONDING_MASTER") == "yes", True)
            found.append((kinds.index(True), name))
    return [name for _, name in sorted(found)]


def _comes_alone(network: NetworkConfig, key: str, changed: dict[str, str]) -> bool:
    """Whether it is brought up for itself: a bond brings its members up. A bridge's go before it, and make it."""
    master = network.master(key)
    return master not in network.bonds or master not in changed
