# SPDX-License-Identifier: Apache-2.0
"""ifupdown: one file in interfaces.d with a stanza per address (interfaces(5)), interfaces named as this machine names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.changes.files import RemoveFile
from guest_agent.changes.running import RunCommand
from guest_agent.failure import ItemError
from guest_agent.renderers import interfaces, units
from guest_agent.renderers.stanzas import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.interfaces import Ethernet
    from pv_channel.network import NetworkConfig

NAME: Final = "ifupdown"
INTERFACES: Final = "/etc/network/interfaces"
DIRECTORY: Final = "/etc/network/interfaces.d"
FILE: Final = f"{DIRECTORY}/60-pv-guest-agent"
MODE: Final = 0o644
#: ifup keeps the interfaces that are up in this file; before networking.service there is none, and ifup will come.
STATE: Final = "/run/network/ifstate"
#: How long a network card that udev is still bringing up may take.
NIC_SECONDS: Final = 5.0
#: What makes dns-nameservers lines take effect.
_RESOLVERS: Final = ("/sbin/resolvconf", "/usr/sbin/resolvconf")


def is_active(system: System) -> bool:
    """Whether ifup is there, is run at boot, and reads interfaces.d."""
    installed = system.exists("/sbin/ifup") or system.exists("/usr/sbin/ifup")
    enabled = units.is_enabled(system, "networking.service") or any(
        name.startswith("S") and name.endswith("networking") for name in system.names("/etc/rcS.d")
    )
    return installed and enabled and any(covers(line) for line in system.text(INTERFACES).splitlines())


def covers(line: str) -> bool:
    """Whether a line of interfaces(5) makes ifupdown read interfaces.d."""
    words = line.split()
    if len(words) < 2 or words[0] not in ("source", "source-directory"):
        return False
    # Relative to /etc/network; source takes a pattern (Debian's own is interfaces.d/*), source-directory the directory.
    patterns = (f"{DIRECTORY}/*", "interfaces.d/*") if words[0] == "source" else (DIRECTORY, "interfaces.d")
    return any(word.rstrip("/") in patterns for word in words[1:])


def is_running(system: System) -> bool:
    """Whether networking.service has run: before, ifup will come by itself."""
    return system.exists(STATE)


def plan(network: NetworkConfig, draft: Draft) -> list[Change]:
    """What makes ifupdown have exactly these interfaces from us; raise `ItemError` where one is not there, or is another's."""
    system = draft.system
    named = {_name(system, key, ethernet): ethernet for key, ethernet in network.ethernets.items()}
    if len(named) != len(network.ethernets):
        raise ItemError("conflict", "two parts of 'network' mean one interface, one by its name, one by its address")
    for path, name in foreign(system):
        if name in named:
            raise ItemError("conflict", f"{path} configures {name} already; remove that stanza, and ours will be the only one")
    stanzas = {name: render(name, ethernet) for name, ethernet in named.items()}
    old = system.text(FILE)
    same = {name for name, text in stanzas.items() if text in old}  # an interface that stays as it is stays up
    down = [name for name in _names(old) if name not in same and _is_up(system, name)]
    changes: list[Change] = [RunCommand(["ifdown", name], ["ifup", name], STATE) for name in down]
    if stanzas:
        changes += draft.own(FILE, "".join(stanzas.values()).encode("ascii"), MODE)
    else:
        changes.append(RemoveFile(FILE))
    # A failed ifup is not in ifstate: only --force takes its half-made configuration down again.
    return changes + [RunCommand(["ifup", name], ["ifdown", "--force", name], STATE) for name in stanzas if name not in same]


def ours(system: System) -> list[str]:
    """The file that an earlier document made."""
    return [FILE] if system.exists(FILE) else []


def remarks(network: NetworkConfig, system: System) -> str:
    """What the operator should know although it is no failure."""
    servers = any(e.nameservers is not msgspec.UNSET and e.nameservers.addresses for e in network.ethernets.values())
    if servers and not any(map(system.exists, _RESOLVERS)):
        return "; resolvconf is not installed, so the nameservers have no effect"
    return ""


def foreign(system: System) -> Iterator[tuple[str, str]]:
    """Each interface that somebody else's stanza configures: file and name."""
    paths = [INTERFACES, *(f"{DIRECTORY}/{name}" for name in system.names(DIRECTORY) if not name.startswith("."))]
    for path in paths:
        if path != FILE:
            for name in _names(system.text(path)):
                yield path, name


def _names(text: str) -> list[str]:
    """The interfaces that an interfaces(5) file has stanzas for."""
    stanzas = (line.split() for line in text.splitlines())
    return list(dict.fromkeys(words[1] for words in stanzas if len(words) > 1 and words[0] == "iface"))


def _name(system: System, key: str, ethernet: Ethernet) -> str:
    if ethernet.match is msgspec.UNSET:
        return key
    system.wait_for(lambda: interfaces.present(system, key, ethernet) is not None, NIC_SECONDS)
    name = interfaces.present(system, key, ethernet)
    if name is None:
        raise ItemError("no-interface", f"no interface of this machine has the address {ethernet.match.macaddress} ('{key}')")
    return name


def _is_up(system: System, name: str) -> bool:
    """Whether ifup brought *name* up: a line ``name=stanza`` of its state."""
    return any(line.partition("=")[0].strip() == name for line in system.text(STATE).splitlines())
