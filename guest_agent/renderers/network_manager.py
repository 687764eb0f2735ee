# SPDX-License-Identifier: Apache-2.0
"""NetworkManager: one profile per interface, a key file in system-connections that only root may read, or it is ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.changes.files import RemoveFile
from guest_agent.changes.running import RunCommand
from guest_agent.renderers import layers, link, naming, units
from guest_agent.renderers import network_manager_profile as profile

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig

NAME: Final = "NetworkManager"
DIRECTORY: Final = "/etc/NetworkManager/system-connections"
PREFIX: Final = "pv-guest-agent-"
SUFFIX: Final = ".nmconnection"
MODE: Final = 0o600
#: NetworkManager makes this when it starts.
RUNNING: Final = "/run/NetworkManager/devices"
_SERVICE: Final = "NetworkManager.service"
_PROGRAMS: Final = ("/usr/bin/nmcli", "/bin/nmcli")
#: A DHCP client of NetworkManager's gives up after 45 s.
_UP: Final = ("nmcli", "--wait", "60", "connection", "up", "uuid")
_LOAD: Final = ("nmcli", "connection", "load")


def is_active(system: System) -> bool:
    """Whether NetworkManager is enabled, or runs, and can be told something."""
    return any(map(system.exists, _PROGRAMS)) and (units.is_enabled(system, _SERVICE) or is_running(system))


def is_running(system: System) -> bool:
    """Whether it can be told to look at its files again."""
    return system.exists(RUNNING)


def plan(network: NetworkConfig, draft: Draft) -> list[Change]:
    """What makes NetworkManager have exactly these profiles from us; raise `ItemError`, `OSError`."""
    from guest_agent.renderers.network_manager_others import rival

    system = draft.system
    other = rival(draft, network, PREFIX)
    if other is not None:
        draft.conflict(other.path, other.whose())
    wanted = {key: profile.render(key, network, system) for key in layers.bottom_up(network)}
    gone = [path for path in _profiles(system) if path not in map(_path, wanted)]
    for path in gone:
        draft.check(path)
    changed = [key for key, text in wanted.items() if system.text(_path(key)) != text]
    before = [key for key in (*changed, *map(_key, gone)) if system.exists(_path(key))]
    load = [*_LOAD, *map(_path, changed), *gone]
    # Undone in reverse order: files, names, load, up.
    changes: list[Change] = [RunCommand([], [*_UP, profile.uuid(key)], RUNNING) for key in before[::-1]]
    changes += [RunCommand([], load, RUNNING), *link.plan(network, draft)]
    changes += [change for key, text in wanted.items() for change in draft.own(_path(key), text.encode("ascii"), MODE)]
    changes += [RemoveFile(path) for path in gone]
    # It says what it could not load, and ends with status 0.
    changes.append(RunCommand(load, [], RUNNING, quiet=True))
    return changes + [RunCommand(command, [], RUNNING) for command in _ups(network, changed, system)]


def ours(system: System) -> list[str]:
    """The files that an earlier document made."""
    return [*_profiles(system), *link.ours(system)]


def remarks(network: NetworkConfig, system: System) -> str:  # noqa: ARG001  every renderer is asked
    """What is optional for the boot: NetworkManager knows no such thing."""
    names = [key for key, interface in network.all().items() if interface.optional]
    return f"; NetworkManager-wait-online waits for 'optional' {', '.join(names)} too" if names else ""


def _profiles(system: System) -> list[str]:
    return [f"{DIRECTORY}/{name}" for name in system.names(DIRECTORY) if name.startswith(PREFIX) and name.endswith(SUFFIX)]


def _path(key: str) -> str:
    return f"{DIRECTORY}/{PREFIX}{key}{SUFFIX}"


def _key(path: str) -> str:
    return path.removeprefix(f"{DIRECTORY}/{PREFIX}").removesuffix(SUFFIX)


def _ups(network: NetworkConfig, changed: list[str], system: System) -> list[list[str]]:
    """The commands that bring up what changed and what stands on it, on cards that are there; a member comes with its master."""
    commands = []
    stirred = set(changed)
    for key in layers.bottom_up(network):
        if key in network.vlans and network.vlans[key].link in stirred:
            stirred.add(key)
        if key in stirred and network.master(key) not in stirred and naming.is_there(system, network, key):
            commands += [[*_UP, profile.uuid(key), *devices] for devices in _devices(network, key, system)]
    return commands


def _devices(network: NetworkConfig, key: str, system: System) -> list[list[str]]:
    """What nmcli has to be told of the interface: the names of all that fit a pattern, else nothing."""
    names = naming.cards(system, network, key) if naming.is_pattern(network, key) else []
    return [["ifname", name] for name in names] or [[]]
