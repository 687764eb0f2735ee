# SPDX-License-Identifier: Apache-2.0
"""ifupdown: one file in interfaces.d with a stanza per address (interfaces(5)), interfaces named as this machine names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.renderers import ifupdown_foreign, units

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig

NAME: Final = "ifupdown"
INTERFACES: Final = "/etc/network/interfaces"
DIRECTORY: Final = "/etc/network/interfaces.d"
FILE: Final = f"{DIRECTORY}/60-pv-guest-agent"
MODE: Final = 0o644
#: ifup keeps the interfaces that are up in this file; before networking.service there is none, and ifup will come.
STATE: Final = "/run/network/ifstate"
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
    from guest_agent.changes.files import RemoveFile
    from guest_agent.changes.running import RunCommand
    from guest_agent.renderers import link

    system = draft.system
    stanzas = _stanzas(network, draft)
    foreign = _without_foreign(set(stanzas), draft)
    old = system.text(FILE)
    touched = _touched(network, stanzas, old)
    # What stands on others goes down first and comes up last. Whoever made it, the files that ifdown goes by are the old ones.
    before = [*ifupdown_foreign.names(old), *(name for name in stanzas if name not in ifupdown_foreign.names(old))]
    down = [name for name in reversed(before) if (name in touched or name not in stanzas) and _is_up(system, name)]
    changes: list[Change] = [RunCommand(["ifdown", name], ["ifup", name], STATE) for name in down]
    changes += foreign
    if stanzas:
        changes += draft.own(FILE, "".join(text for _, text in stanzas.values()).encode("ascii"), MODE)
    elif system.exists(FILE):
        draft.check(FILE)
        changes.append(RemoveFile(FILE))
    changes += link.plan(network, draft)
    # A failed ifup is not in ifstate: only --force takes its half-made configuration down again.
    return changes + [RunCommand(["ifup", name], ["ifdown", "--force", name], STATE) for name in stanzas if name in touched]


def ours(system: System) -> list[str]:
    """The files that an earlier document made."""
    from guest_agent.renderers import link

    return [*([FILE] if system.exists(FILE) else []), *link.ours(system)]


def remarks(network: NetworkConfig, system: System) -> str:
    """What the operator should know although it is no failure."""
    servers = any(e.nameservers is not msgspec.UNSET and e.nameservers.addresses for e in network.all().values())
    if servers and not any(map(system.exists, _RESOLVERS)):
        return "; resolvconf is not installed, so the nameservers have no effect"
    return ""


def _stanzas(network: NetworkConfig, draft: Draft) -> dict[str, tuple[str, str]]:
    """Each interface's key and stanzas, by its name, what stands on others after them; raise `ItemError`."""
    from guest_agent.renderers import layers, naming, stanzas, stanzas_devices

    system, old = draft.system, ifupdown_foreign.names(draft.system.text(FILE))
    called = naming.names(system, network)
    found = {}
    for key in layers.bottom_up(network):
        device = stanzas_devices.device(key, network, called, system)
        if device is not None and key not in old and system.exists(f"/sys/class/net/{key}"):
            draft.conflict(f"/sys/class/net/{key}", f"an interface {key} is there already, and this agent did not make it")
        found[called[key]] = (key, stanzas.render(called[key], key, network.all()[key], device))
    return found


def _touched(network: NetworkConfig, stanzas: dict[str, tuple[str, str]], old: str) -> set[str]:
    """The names of those that change, and of all that stands on them: it goes with what it stands on."""
    from guest_agent.renderers import layers

    touched: set[str] = set()
    keys: set[str] = set()
    for name, (key, text) in stanzas.items():  # bottom up
        if text not in old or keys & set(layers.below(network, key)):
            touched.add(name)
            keys.add(key)
    return touched


def _without_foreign(names: set[str], draft: Draft) -> list[Change]:
    """What takes our interfaces out of others' files; raise `ItemError`, unless the document says to overwrite."""
    from guest_agent.changes.files import WriteFile

    changes: list[Change] = []
    common: dict[str, set[str]] = {}
    for path, name in foreign(draft.system):
        if name in names and draft.text(path):
            draft.conflict(path, f"it configures {name} already; remove that stanza, and ours will be the only one")
            common.setdefault(path, set()).add(name)
    for path, unwanted in common.items():
        stored = draft.read(path)
        if stored is not None:
            text = ifupdown_foreign.without(stored.content.decode("utf-8", "surrogateescape"), unwanted)
            changes.append(WriteFile(path, text.encode("utf-8", "surrogateescape")))
    return changes


def foreign(system: System) -> Iterator[tuple[str, str]]:
    """Each interface that somebody else's stanza configures: file and name."""
    paths = [INTERFACES, *(f"{DIRECTORY}/{name}" for name in system.names(DIRECTORY) if not name.startswith("."))]
    for path in paths:
        if path != FILE:
            for name in ifupdown_foreign.names(system.text(path)):
                yield path, name


def _is_up(system: System, name: str) -> bool:
    """Whether ifup brought *name* up: a line ``name=stanza`` of its state."""
    return any(line.partition("=")[0].strip() == name for line in system.text(STATE).splitlines())
