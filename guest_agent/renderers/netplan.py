# SPDX-License-Identifier: Apache-2.0
"""netplan: one file in its own words, which are the document's; netplan judges it, and has its manager do it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from pv_channel.network import NetworkConfig
    from pv_channel.routes import Route

NAME: Final = "netplan"
DIRECTORY: Final = "/etc/netplan"
#: After what installers (``00-``, ``01-``) and cloud-init (``50-``) write: netplan reads them in this order, and the last counts.
FILE: Final = f"{DIRECTORY}/60-pv-guest-agent.yaml"
#: netplan warns of files that others can read.
MODE: Final = 0o600
_PROGRAMS: Final = ("/usr/sbin/netplan", "/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate")
#: Of two files of one name, the one in the directory that is first here counts.
_DIRECTORIES: Final = ("/run/netplan", DIRECTORY, "/lib/netplan")
#: What is there while one of its managers runs.
_MANAGERS: Final = ("/run/systemd/netif/state", "/run/NetworkManager")


def is_active(system: System) -> bool:
    """Whether netplan writes the configuration of whatever manager runs: it is there, and has a file to go by."""
    return any(map(system.exists, _PROGRAMS)) and any(name.endswith(".yaml") for name in system.names(DIRECTORY))


def is_running(system: System) -> bool:
    """Whether one of its managers runs."""
    return any(map(system.exists, _MANAGERS))


def plan(network: NetworkConfig, draft: Draft) -> list[Change]:
    """What makes netplan have exactly these interfaces from us. It judges the file, even before any manager runs; raise
    `ItemError`, `OSError`."""
    from guest_agent.changes.files import RemoveFile
    from guest_agent.changes.running import RunCommand
    from guest_agent.renderers.link import renames

    running = next(filter(draft.system.exists, _MANAGERS), None)
    generate, apply = [NAME, "generate"], [NAME, "apply"]
    changes: list[Change] = [RunCommand([], apply, running)] if running else []
    changes.append(RunCommand([], generate))  # undone in reverse order: file, generate, apply
    for path in sorted(set(_others(network, draft))):
        draft.conflict(path, "it says something about one of the document's interfaces too, and netplan joins the two")
        changes.append(RemoveFile(path))
    if network.all():
        changes += draft.own(FILE, render(network).encode("ascii"), MODE)
    elif draft.system.exists(FILE):
        draft.check(FILE)
        changes.append(RemoveFile(FILE))
    # networkd is told by netplan to look for the new name; so is udev, at the next boot.
    changes += [RunCommand(generate, []), *renames(network, draft.system)]
    return [*changes, RunCommand(apply, [], running)] if running else changes


def ours(system: System) -> list[str]:
    """The file that an earlier document made."""
    return [FILE] if system.exists(FILE) else []


def remarks(network: NetworkConfig, system: System) -> str:  # noqa: ARG001  every renderer is asked
    """Nothing."""
    return ""


def render(network: NetworkConfig) -> str:
    """The whole file."""
    from guest_agent.renderers import block_yaml, sections
    from guest_agent.renderers.interfaces import driver_name

    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(network, enc_hook=str))
    for ethernet in values.get("ethernets", {}).values():
        if "driver" in ethernet.get("match", {}):
            ethernet["match"]["driver"] = driver_name(ethernet["match"]["driver"])
    for bridge in values.get("bridges", {}).values():
        if "parameters" in bridge:
            bridge["parameters"].setdefault("stp", True)  # netplan has it so where any other is there, and not where none is
    for kind in ("ethernets", "bonds", "bridges", "vlans"):
        for key, interface in values.get(kind, {}).items():
            _say_gateways_as_routes(interface, network.all()[key].all_routes())
    return sections.HEAD + block_yaml.dump({"network": values})


def _say_gateways_as_routes(interface: dict[str, Any], routes: list[Route]) -> None:
    """In the one way that every version of netplan takes, and does not call deprecated."""
    interface.pop("gateway4", None)
    interface.pop("gateway6", None)
    if routes:
        interface["routes"] = msgspec.json.decode(msgspec.json.encode(routes, enc_hook=str))
    for said, route in zip(interface.get("routes", []), routes, strict=True):
        if route.is_default:
            said["to"] = "0.0.0.0/0" if route.version == 4 else "::/0"


def _others(network: NetworkConfig, draft: Draft) -> Iterator[str]:
    """The files that have an interface of the document's, by its name or its address. They are searched, not understood: the
    guest has no reader of YAML."""
    from guest_agent.renderers.interfaces import matching, names_after

    system = draft.system
    names, addresses = set(network.all()), set()
    for key, ethernet in network.ethernets.items():
        names |= {*matching(system, key, ethernet), *names_after(system, network, key)}
        if ethernet.match is not msgspec.UNSET:
            # The key of a card that is matched names it within the document alone.
            addresses |= {str(ethernet.match.macaddress)} - {str(msgspec.UNSET)}
    for path in _files(system):
        text = "\n".join(line.partition(" #")[0] for line in draft.text(path).splitlines() if not line.lstrip().startswith("#"))
        if addresses & set(re.findall(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", text.lower())) or names & _names(text, names):
            yield path


def _names(text: str, names: set[str]) -> set[str]:
    """Those of *names* that *text* has a definition for, or matches by a pattern."""
    from fnmatch import fnmatchcase

    keys = set(re.findall(r"""["']?([A-Za-z0-9._-]+)["']?\s*:(?=\s|$)""", text))
    patterns = re.findall(r"""\bname["']?\s*:\s*["']?([A-Za-z0-9._*?\[\]-]+)""", text)
    return (keys & names) | {name for name in names for pattern in patterns if fnmatchcase(name, pattern)}


def _files(system: System) -> Iterator[str]:
    seen = {FILE.rpartition("/")[2]}
    for directory in _DIRECTORIES:
        for name in system.names(directory):
            if name.endswith(".yaml") and name not in seen:
                seen.add(name)
                yield f"{directory}/{name}"
