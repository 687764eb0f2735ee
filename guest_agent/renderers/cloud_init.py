# SPDX-License-Identifier: Apache-2.0
"""Whether cloud-init writes this machine's network configuration, at every boot, for whichever manager; and the end of that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.system import System

#: cloud-init's own way to leave the network alone (its documentation, "Disabling Network Configuration").
DISABLE: Final = "/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg"
_DISABLED: Final = "network: {config: disabled}"
_CURE: Final = f"write '{_DISABLED}' into {DISABLE}"
#: Where its renderers write, and by what the files are known: all by their names but those of sysconfig and wicked.
_RENDERED: Final = (
    ("/etc/netplan", re.compile(r"50-cloud-init\.yaml")),
    ("/etc/systemd/network", re.compile(r"10-cloud-init-.*\.(?:network|netdev|link)")),
    ("/etc/NetworkManager/system-connections", re.compile(r"cloud-init-.*\.nmconnection")),
    ("/etc/network/interfaces.d", re.compile(r"50-cloud-init(?:\.cfg)?")),
    ("/etc/sysconfig/network-scripts", re.compile(r"(?:ifcfg|route6?)-.*")),
    ("/etc/sysconfig/network", re.compile(r"(?:ifcfg|ifroute)-.*")),
)
_SIGN: Final = re.compile(r"created by cloud-init", re.IGNORECASE)


def stopped(draft: Draft) -> list[Change]:
    """What makes cloud-init leave the network alone, where it does not; raise `ItemError`, unless the document says to
    overwrite what others own."""
    files = rendered(draft.system) if owns_network(draft.system) else []
    if not files and DISABLE not in draft.before:
        return []
    if files:
        draft.conflict(files[0], f"cloud-init has written it, and does so again; {_CURE}, and remove this file")
    from guest_agent.changes.files import RemoveFile

    return [*draft.own(DISABLE, f"{_DISABLED}\n".encode("ascii")), *map(RemoveFile, files)]


def remark(system: System) -> str:
    """What the operator should know where cloud-init has not written yet, and may."""
    if owns_network(system) and not rendered(system):
        return f"; cloud-init is enabled here, and may write a network configuration of its own: {_CURE}"
    return ""


def owns_network(system: System) -> bool:
    """Whether it runs, and nobody has told it to leave the network alone."""
    from guest_agent.cloud_init import is_enabled

    if not is_enabled(system) or "network-config=disabled" in system.text("/proc/cmdline", 4096).split():
        return False
    directory = "/etc/cloud/cloud.cfg.d"
    parts = [f"{directory}/{name}" for name in system.names(directory) if name.endswith(".cfg")]
    return not any(_says_disabled(system.text(path)) for path in ("/etc/cloud/cloud.cfg", *parts))


def rendered(system: System) -> list[str]:
    """The files of network managers that it has written."""
    found = []
    for directory, pattern in _RENDERED:
        for name in filter(pattern.fullmatch, system.names(directory)):
            path = f"{directory}/{name}"
            if "sysconfig" not in directory or _SIGN.search(system.text(path, 4096)):
                found.append(path)
    return found


def _says_disabled(text: str) -> bool:
    """Whether a file of YAML has ``network: {config: disabled}``, in either of YAML's styles."""
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    word = r"""["']?"""
    return bool(re.search(rf"^{word}network{word}\s*:\s*\{{?\s*{word}config{word}\s*:\s*{word}disabled\b", lines, re.MULTILINE))
