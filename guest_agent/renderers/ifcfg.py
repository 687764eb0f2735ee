# SPDX-License-Identifier: Apache-2.0
"""What RHEL's and SUSE's ``ifcfg-*`` files have in common: whose they are, which of them change, routes' and rules' words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from guest_agent.changes.files import RemoveFile
from guest_agent.failure import ItemError
from guest_agent.renderers import layers, naming, shell_file
from guest_agent.renderers.sections import HEAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig
    from pv_channel.routes import Route, RoutingPolicy

    #: What makes an interface's texts, by the beginnings of their files' names.
    Texts = Callable[[str, dict[str, str], NetworkConfig, System], dict[str, str]]

MODE: Final = 0o644


class Files(NamedTuple):
    """What a document makes of the files of ours: *wanted* texts by path, and paths that are *gone*.

    *changed* are the names of interfaces whose files are not what they were, by key, bottom up; *left* those that have none now.
    """

    wanted: dict[str, str]
    changed: dict[str, str]
    gone: list[str]
    left: list[str]


def ours(system: System, directory: str, prefixes: tuple[str, ...]) -> list[str]:
    """The files of ours: they have the names that everybody's have, and our first line."""
    paths = (f"{directory}/{name}" for name in system.names(directory) if name.startswith(prefixes))
    return [path for path in paths if _is_ours(system, path)]


def compare(draft: Draft, network: NetworkConfig, directory: str, prefixes: tuple[str, ...], texts: Texts) -> Files:
    """The files that there shall be beside those that there are; raise `ItemError` where one of another name would interfere."""
    system = draft.system
    names = naming.names(system, network)
    _check_others(draft, directory, names, network)
    wanted: dict[str, str] = {}
    changed: dict[str, str] = {}
    for key in layers.bottom_up(network):
        made = texts(key, names, network, system)
        paths = {prefix: f"{directory}/{prefix}{names[key]}" for prefix in prefixes}
        if any(system.text(path) != made.get(prefix, "") for prefix, path in paths.items()):
            changed[key] = names[key]
        wanted |= {paths[prefix]: text for prefix, text in made.items()}
    gone = [path for path in ours(system, directory, prefixes) if path not in wanted]
    start = f"{directory}/ifcfg-"
    return Files(wanted, changed, gone, [path.removeprefix(start) for path in gone if path.startswith(start)])


def own(draft: Draft, files: Files) -> list[Change]:
    """What writes those that are wanted and removes those that are gone; raise `ItemError` where one is somebody else's."""
    changes: list[Change] = []
    for path, text in files.wanted.items():
        if draft.system.exists(path) and path not in draft.before and not _is_ours(draft.system, path):
            draft.conflict(path, _whose(draft.system.text(path)))
        changes += draft.own(path, text.encode("ascii"), MODE)
    for path in files.gone:
        draft.check(path)
        changes.append(RemoveFile(path))
    return changes


def _check_others(draft: Draft, directory: str, names: dict[str, str], network: NetworkConfig) -> None:
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
