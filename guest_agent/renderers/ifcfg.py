# SPDX-License-Identifier: Apache-2.0
"""What RHEL's and SUSE's ``ifcfg-*`` files have in common: whose they are, and the words of routes and rules beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.changes.files import RemoveFile
from guest_agent.failure import ItemError
from guest_agent.renderers import shell_file
from guest_agent.renderers.sections import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig
    from pv_channel.routes import Route, RoutingPolicy

MODE: Final = 0o644


def ours(system: System, directory: str, prefixes: tuple[str, ...]) -> list[str]:
    """The files of ours: they have the names that everybody's have, and our first line."""
    paths = (f"{directory}/{name}" for name in system.names(directory) if name.startswith(prefixes))
    return [path for path in paths if _is_ours(system, path)]


def own(draft: Draft, wanted: dict[str, str], gone: Iterable[str]) -> list[Change]:
    """What writes the files of *wanted* and removes those of *gone*; raise `ItemError` where one is somebody else's."""
    changes: list[Change] = []
    for path, text in wanted.items():
        if draft.system.exists(path) and path not in draft.before and not _is_ours(draft.system, path):
            draft.conflict(path, _whose(draft.system.text(path)))
        changes += draft.own(path, text.encode("ascii"), MODE)
    for path in gone:
        draft.check(path)
        changes.append(RemoveFile(path))
    return changes


def check_others(draft: Draft, directory: str, names: dict[str, str], network: NetworkConfig) -> None:
    """Raise `ItemError` where a file of another name is for an interface of *names*: both would be brought up."""
    macs = {
        str(ethernet.match.macaddress): names[key]
        for key, ethernet in network.ethernets.items()
        if ethernet.match is not msgspec.UNSET and ethernet.match.macaddress is not msgspec.UNSET
    }
    for file in shell_file.profiles(draft.system.names(directory)):
        values = shell_file.read(draft.text(f"{directory}/{file}"))
        name = values.get("DEVICE") or macs.get(values.get("HWADDR", "").lower(), "")
        if name in names.values() and file != f"ifcfg-{name}" and values.get("ONBOOT", "yes").lower() != "no":
            raise ItemError("conflict", f"{directory}/{file} is for {name} too; remove it, and ours is the only one")


def route(route: Route, name: str) -> list[str]:
    """ip-route(8)'s words."""
    words = [str(route.to), *(["via", str(route.via)] if route.via is not msgspec.UNSET else []), "dev", name]
    return words + route_options(route)


def route_options(route: Route) -> list[str]:
    """Those of them that say neither where to nor by which way."""
    words = ["metric", str(route.metric)] if route.metric is not msgspec.UNSET else []
    words += ["table", str(route.table)] if route.table is not msgspec.UNSET else []
    words += ["src", str(route.source)] if route.source is not msgspec.UNSET else []
    return words + (["onlink"] if route.on_link else [])


def rule(rule: RoutingPolicy) -> list[str]:
    """ip-rule(8)'s words."""
    words = ["from", str(rule.source)] if rule.source is not msgspec.UNSET else []
    words += ["to", str(rule.to)] if rule.to is not msgspec.UNSET else []
    words += ["fwmark", str(rule.mark)] if rule.mark is not msgspec.UNSET else []
    # ip takes the digits for hexadecimal ones.
    words += ["tos", f"0x{rule.type_of_service:02x}"] if rule.type_of_service is not msgspec.UNSET else []
    words += ["priority", str(rule.priority)] if rule.priority is not msgspec.UNSET else []
    return [*words, "table", str(rule.table)]


def _is_ours(system: System, path: str) -> bool:
    return system.text(path).startswith(HEAD)


def _whose(text: str) -> str:
    if "cloud-init" in text.partition("\n")[0]:
        return (
            "cloud-init wrote it; have it leave the network alone (/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg with "
            "'network: {config: disabled}') and remove the file"
        )
    return "somebody else's, an installer's or an administrator's; remove it, and the document's takes its place"
