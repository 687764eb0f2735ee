# SPDX-License-Identifier: Apache-2.0
"""systemd-networkd: a ``.network`` file per interface, a ``.netdev`` file for what is made of software; told of what changed.

networkd changes nothing of a device that it has created: where its ``.netdev`` file changes, the device is deleted, and created
anew when networkd reads its files again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.renderers import units

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig

NAME: Final = "systemd-networkd"
DIRECTORY: Final = "/etc/systemd/network"
#: Sorts before what distributions put there (``80-``, ``99-``): of the files that match, the first one counts.
PREFIX: Final = "10-pv-guest-agent-"
NETWORK: Final = ".network"
NETDEV: Final = ".netdev"
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
    from guest_agent.changes.files import RemoveFile
    from guest_agent.changes.network_device import RemakeDevice
    from guest_agent.changes.running import RunCommand
    from guest_agent.renderers import link
    from guest_agent.renderers.networkd_foreign import masked

    system = draft.system
    wanted = _files(network)
    masks = [
        *masked(network, draft, NETWORK, list(network.all())),
        *masked(network, draft, NETDEV, [key for key in network.all() if key not in network.ethernets]),
        *masked(network, draft, link.SUFFIX, [key for key, ethernet in network.ethernets.items() if link.needs_file(ethernet)]),
    ]
    changed = {path for path, text in wanted.items() if system.text(path) != text}
    gone = [path for path in ours(system) if path not in wanted and not path.endswith(link.SUFFIX)]
    for path in gone:
        draft.check(path)
    before, after = _to_reconfigure(network, system, changed)
    reload = [_NETWORKCTL, "reload"]
    changes: list[Change] = [RunCommand([], [_NETWORKCTL, "reconfigure", *before], RUNNING)] if before else []
    changes.append(RunCommand([], reload, RUNNING))  # undone in reverse order: files, deletions, reload, reconfigure
    remade = _to_remake(network, draft, changed)
    changes += [RemakeDevice(key, back=True) for key in remade]
    changes += [change for path, text in wanted.items() for change in draft.own(path, text.encode("ascii"), MODE)]
    changes += masks
    changes += [RemoveFile(path) for path in gone]
    changes += link.plan(network, draft)
    changes += [RemakeDevice(key) for key in remade if system.exists(f"/sys/class/net/{key}")]
    changes.append(RunCommand(reload, [], RUNNING))
    # Their members have left them by then, and do not fail.
    changes += [RemakeDevice(_key(path)) for path in gone if path.endswith(NETDEV)]
    if after:
        changes.append(RunCommand([_NETWORKCTL, "reconfigure", *after], [], RUNNING))
    return changes


def ours(system: System) -> list[str]:
    """The files that an earlier document made."""
    from guest_agent.renderers import link

    names = [name for name in system.names(DIRECTORY) if name.startswith(PREFIX) and name.endswith((NETWORK, NETDEV))]
    return [*(f"{DIRECTORY}/{name}" for name in names), *link.ours(system)]


def remarks(network: NetworkConfig, system: System) -> str:  # noqa: ARG001  every renderer is asked
    """Nothing."""
    return ""


def _files(network: NetworkConfig) -> dict[str, str]:
    """Each file and its content; raise `ItemError` for what networkd cannot do."""
    from guest_agent.renderers import networkd_netdev, networkd_network

    files = {f"{DIRECTORY}/{PREFIX}{key}{NETWORK}": networkd_network.render(key, network) for key in network.all()}
    devices = {key: networkd_netdev.render(key, network) for key in network.all()}
    return files | {f"{DIRECTORY}/{PREFIX}{key}{NETDEV}": text for key, text in devices.items() if text is not None}


def _key(path: str) -> str:
    return path.removeprefix(f"{DIRECTORY}/{PREFIX}").rpartition(".")[0]


def _to_remake(network: NetworkConfig, draft: Draft, changed: set[str]) -> list[str]:
    """The devices that networkd has to create, those that are there and are to be others among them."""
    system = draft.system
    made = [key for key in network.all() if f"{DIRECTORY}/{PREFIX}{key}{NETDEV}" in changed]
    for key in made:
        if system.exists(f"/sys/class/net/{key}") and not system.exists(f"{DIRECTORY}/{PREFIX}{key}{NETDEV}"):
            draft.conflict(f"/sys/class/net/{key}", f"an interface {key} is there already, and this agent did not make it")
    return made


def _to_reconfigure(network: NetworkConfig, system: System, changed: set[str]) -> tuple[list[str], list[str]]:
    """The interfaces that networkd knows and has to look at anew, by their names before and after.

    A device that it creates needs no word; what the device stands on, or is a member of, does.
    """
    from guest_agent.renderers.interfaces import matching, names_after

    made = {key for key in network.all() if f"{DIRECTORY}/{PREFIX}{key}{NETDEV}" in changed}
    beside = {key for key in network.all() if network.master(key) in made}
    beside |= {str(network.vlans[key].link) for key in made if key in network.vlans} | {network.master(key) or "" for key in made}
    before: list[str] = []
    after: list[str] = []
    for key in network.all():
        if key in made or not (f"{DIRECTORY}/{PREFIX}{key}{NETWORK}" in changed or key in beside):
            continue
        ethernet = network.ethernets.get(key)
        there = matching(system, key, ethernet) if ethernet else [key] if system.exists(f"/sys/class/net/{key}") else []
        before += there
        after += names_after(system, network, key) if there else []
    return before, after
