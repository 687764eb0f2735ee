# SPDX-License-Identifier: Apache-2.0
"""SUSE's wicked: its ``ifcfg-*`` files, and the nameservers in netconfig's one list for all interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.actions import block
from guest_agent.changes.files import WriteFile
from guest_agent.changes.running import RunCommand
from guest_agent.renderers import ifcfg, link, shell_file, units, wicked_file

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig

NAME: Final = "wicked"
DIRECTORY: Final = "/etc/sysconfig/network"
PREFIXES: Final = ("ifcfg-", "ifroute-", "ifrule-", "ifsysctl-")
#: netconfig(8) sources it: of two assignments the last one counts.
CONFIG: Final = f"{DIRECTORY}/config"
#: wickedd keeps its state here while it runs.
RUNNING: Final = "/run/wicked"
_ALIAS: Final = "/etc/systemd/system/network.service"


def is_active(system: System) -> bool:
    """Whether wicked is enabled, which makes it ``network.service``, or runs."""
    enabled = system.link(_ALIAS).endswith("/wicked.service") or units.is_enabled(system, "wicked.service")
    return enabled or is_running(system)


def is_running(system: System) -> bool:
    """Whether it can be told to look at its files again."""
    return system.exists(RUNNING)


def plan(network: NetworkConfig, draft: Draft) -> list[Change]:
    """What makes wicked have exactly these interfaces from us; raise `ItemError`, `OSError`."""
    files = ifcfg.compare(draft, network, DIRECTORY, PREFIXES, wicked_file.files)
    concerned = [*files.changed.values(), *files.left]
    reload = ["wicked", "ifreload", *concerned]
    changes: list[Change] = [RunCommand([], reload, RUNNING)] if concerned else []
    changes += [*_servers(network, draft), *ifcfg.own(draft, files), *link.plan(network, draft)]
    return [*changes, RunCommand(reload, [], RUNNING)] if concerned else changes


def ours(system: System) -> list[str]:
    """The files that an earlier document made."""
    return [*ifcfg.ours(system, DIRECTORY, PREFIXES), *link.ours(system)]


def remarks(network: NetworkConfig, system: System) -> str:  # noqa: ARG001  every renderer is asked
    """Nothing."""
    return ""


def _servers(network: NetworkConfig, draft: Draft) -> list[Change]:
    """What makes netconfig know the document's nameservers and search domains: our block at the end of its configuration."""
    given = [found.nameservers for found in network.all().values() if found.nameservers is not msgspec.UNSET]
    servers = dict.fromkeys(str(server) for servers in given for server in servers.addresses)
    domains = dict.fromkeys(str(domain) for servers in given for domain in servers.search)
    keys = {"NETCONFIG_DNS_STATIC_SERVERS": list(servers), "NETCONFIG_DNS_STATIC_SEARCHLIST": list(domains)}
    lines = [shell_file.assignment(word, values) for word, values in keys.items() if values]
    stored = draft.read(CONFIG)
    old = b"" if stored is None else stored.content
    parted = block.part(old)
    new = block.insert(parted.foreign, len(parted.foreign), lines)
    if new == old:
        return []
    update = ["netconfig", "update", "-f"]
    return [RunCommand([], update, RUNNING), WriteFile(CONFIG, new, over=old), RunCommand(update, [], RUNNING)]
