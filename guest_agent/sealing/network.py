# SPDX-License-Identifier: Apache-2.0
"""Who else configures the network of a template: the installer's stanzas and cloud-init's files, and how they step aside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from guest_agent.renderers import ifupdown
from guest_agent.sealing.step import matching, removals, write

if TYPE_CHECKING:
    from guest_agent.sealing.step import Step
    from guest_agent.system import System

CLOUD_INIT: Final = "/usr/bin/cloud-init"
#: How cloud-init is told to leave the network alone ("Network configuration", "Disabling network configuration").
DISABLING: Final = "/etc/cloud/cloud.cfg.d/99-pv-guest-agent-network.cfg"
_DISABLE: Final = b"# Written by pv-guest-agent seal: the host configures the network.\nnetwork: {config: disabled}\n"
_DISABLED: Final = re.compile(r"""^network:\s*\{?\s*["']?config["']?:\s*["']?disabled\b""", re.MULTILINE)

#: What cloud-init and Ubuntu's installer render, by directory.
RENDERED: Final = {
    "/etc/netplan": r"50-cloud-init\.yaml|\d\d-installer-config.*\.yaml",
    "/etc/systemd/network": r"\d\d-cloud-init-.*\.(?:network|link|netdev)",
    "/etc/NetworkManager/system-connections": r"cloud-init-.*\.nmconnection",
    "/etc/network/interfaces.d": r"50-cloud-init(?:\.cfg)?",
}

_MARK: Final = "# pv-guest-agent seal: "
_SOURCE: Final = f"source {ifupdown.DIRECTORY}/*\n"
#: Words that begin a stanza (interfaces(5)); ``auto``, ``allow-*`` and the like are stanzas of one line, with names.
_STANZAS: Final = ("iface", "mapping", "rename", "template")
_NAMES: Final = re.compile(r"auto|allow-\S+|no-auto-down|no-scripts")


def cloud_init_has_it(system: System) -> bool:
    """Whether cloud-init is installed, runs, and has not been told to leave the network alone."""
    if not system.exists(CLOUD_INIT) or system.exists("/etc/cloud/cloud-init.disabled"):
        return False
    configured = ["/etc/cloud/cloud.cfg", *matching(system, "/etc/cloud/cloud.cfg.d", lambda name: name.endswith(".cfg"))]
    return not any(_DISABLED.search(system.text(path)) for path in configured)


def others(system: System) -> list[str]:
    """Files of others that configure interfaces, or will: each in a sentence."""
    found = [f"{path} configures {name}" for path, name in ifupdown.foreign(system) if not _is_loopback(name)]
    found += [f"{path} was written for this machine" for path in _rendered(system)]
    return found + ["cloud-init configures the network at each first boot"] * cloud_init_has_it(system)


def steps(system: System) -> list[Step]:
    """What makes them all step aside."""
    found = removals(system, _rendered(system))
    gone = _rendered(system)
    for path in dict.fromkeys(path for path, name in ifupdown.foreign(system) if not _is_loopback(name)):
        if path not in gone:
            text = without_interfaces(system.text(path))
            reads = path != ifupdown.INTERFACES or any(map(ifupdown.covers, text.splitlines()))
            found += write(system, path, f"{text}{'' if reads else _SOURCE}".encode())
    if cloud_init_has_it(system):
        found += write(system, DISABLING, _DISABLE)
    return found


def _rendered(system: System) -> list[str]:
    return [path for directory, names in RENDERED.items() for path in matching(system, directory, re.compile(names).fullmatch)]


def without_interfaces(text: str) -> str:
    """An interfaces(5) file in which every stanza of an interface other than the loopback is a comment."""
    kept: list[str] = []
    out = continued = False
    for line in text.splitlines():
        words = line.split()
        if words and not continued and not words[0].startswith("#"):
            if words[0] in _STANZAS:
                out = not (words[0] == "iface" and len(words) > 1 and _is_loopback(words[1]))
            elif _NAMES.fullmatch(words[0]):
                out = not all(map(_is_loopback, words[1:]))
                loopbacks = [name for name in words[1:] if _is_loopback(name)]
                if out and loopbacks:
                    kept.append(" ".join([words[0], *loopbacks]))
            elif words[0] in ("source", "source-directory"):
                out = False
        continued = line.endswith("\\") and not (words and words[0].startswith("#") and not continued)
        kept.append(f"{_MARK}{line}" if out and words and not words[0].startswith("#") else line)
    return "".join(f"{line}\n" for line in kept)


def _is_loopback(name: str) -> bool:
    return name.partition(":")[0] == "lo"
