# SPDX-License-Identifier: Apache-2.0
"""What dom0 is told of this machine: its system, kernel, name and boot, its addresses and ssh host keys, as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pv_channel.messages import MAX_ADDRESSES, MAX_TEXT, Facts
from pv_channel.text import printable

if TYPE_CHECKING:
    from guest_agent.system import System

_OS_RELEASE: Final = ("/etc/os-release", "/usr/lib/os-release")
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
#: More than any of these files holds.
_MAX_BYTES: Final = 16 * 1024


def facts(system: System, host_keys: list[str]) -> Facts:
    """What *system* is now, with these *host_keys*. What cannot be read is left out; no file and no `OSError` make it raise.

    Of a machine that is not live only its files are told: the kernel that runs us is another's.
    """
    name = system.kernel.hostname() if system.live else _first_line(system, "/etc/hostname")
    return Facts(
        os=printable(_pretty_name(system), MAX_TEXT),
        kernel=printable(system.kernel.release(), MAX_TEXT) if system.live else "",
        hostname=printable(name, MAX_TEXT),
        boot_id=printable(_first_line(system, _BOOT_ID), MAX_TEXT) if system.live else "",
        addresses=_addresses(system) if system.live else [],
        host_keys=host_keys,
    )


def _pretty_name(system: System) -> str:
    """os-release(5)'s name for people."""
    text = next(filter(None, (_text(system, path) for path in _OS_RELEASE)), "")
    for line in text.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip("'\"")
    return ""


def _addresses(system: System) -> list[str]:
    """Those by which others reach this machine, with their prefix lengths."""
    import socket  # loaded here: the start does without

    try:
        held = [one for one in system.kernel.addresses() if one.is_of_use and len(one.address) in (4, 16)]
    except OSError:
        return []
    shown = [(len(one.address), one.address, one.prefix) for one in held]
    families = {4: socket.AF_INET, 16: socket.AF_INET6}
    return [f"{socket.inet_ntop(families[size], raw)}/{prefix}" for size, raw, prefix in sorted(set(shown))][:MAX_ADDRESSES]


def _first_line(system: System, path: str) -> str:
    return next(iter(_text(system, path).splitlines()), "").strip()


def _text(system: System, path: str) -> str:
    try:
        return system.text(path, _MAX_BYTES)
    except OSError:
        return ""
