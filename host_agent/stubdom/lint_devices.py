# SPDX-License-Identifier: Apache-2.0
"""Which disks, nics and screens a QEMU inside a stubdomain can have: /dev/xvda to xvdz, one nic with its vif, none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from host_agent.stubdom.lint_finding import Finding
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from host_agent.stubdom.lint_options import Option

#: The target's disks, in their order; a set of descriptors stands for a CD that is changed by QMP.
_DISK: Final = re.compile(r"/dev/xvd[a-z]|/dev/fdset/[0-9]+", re.ASCII)
MAX_DISKS: Final = 26
_WHOLE: Final = frozenset(("hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb", "mtdblock", "pflash", "sd"))
_PROTOCOL: Final = re.compile(r"(?:raw|host_device|host_cdrom|file):(.*)", re.ASCII | re.DOTALL)
_SCREENS: Final = frozenset(("vnc", "spice", "sdl", "gtk", "curses"))
_NO_SCREEN: Final = ("none", "")
_SHOWN: Final = 80


def disks(said: Sequence[Option], _target: int | None, _has: Sequence[str]) -> Iterator[Finding]:
    """PV disks of the stubdomain's, at most 26."""
    seen: set[str] = set()
    for option in said:
        for path in _disk_paths(option):
            if _DISK.fullmatch(path):
                seen.add(path)
                continue
            why = f"the disk {printable(path, _SHOWN)} is dom0's: a stubdomain has its target's as /dev/xvda to xvdz, in order"
            yield Finding("disk", option.number, why, "name it by its place: the first is /dev/xvda, format=host_device")
    drives = [option for option in said if _is_drive(option)]
    for option in drives[MAX_DISKS:]:
        why = f"more than {MAX_DISKS} emulated disks, and a stubdomain has no further letter"
        yield Finding("disks", option.number, why, "leave it out: the guest has it as a PV disk")


def _is_drive(option: Option) -> bool:
    return option.name in ("drive", *_WHOLE) or (option.name in ("", "blockdev") and bool(_disk_paths(option)))


def _disk_paths(option: Option) -> list[str]:
    """The files that an option makes disks of; an empty drive has none."""
    if option.name in _WHOLE or option.name == "":
        found = [option.text]
    elif option.name in ("drive", "blockdev"):
        found = option.all("file", "filename")
    else:
        return []
    # Of a -blockdev, file= may name another block device.
    found = [path for path in found if option.name != "blockdev" or "/" in path]
    return [_bare(path) for path in found if path and path != '""']


def _bare(path: str) -> str:
    matched = _PROTOCOL.fullmatch(path)
    return matched[1] if matched else path


def nics(said: Sequence[Option], _target: int | None, _has: Sequence[str]) -> Iterator[Finding]:
    """One, on a tap of the stubdomain's whose name is said."""
    emulated = [option for option in said if _is_nic(option)]
    for option in emulated[1:]:
        why = "a second nic, and a stubdomain has one"
        yield Finding("nics", option.number, why, "leave it out: the guest has it as a PV nic")
    for option in said:
        if option.name not in ("netdev", "net", "nic") or option.kind not in ("tap", "bridge"):
            continue
        if option.all("fd", "fds", "vhostfd", "vhostfds"):
            yield Finding("descriptor", option.number, "a descriptor of dom0's does not come along", "say ifname= instead of fd=")
        elif not any(option.all("ifname")):
            why = f"-{option.name} without ifname=: QEMU would invent a tap, and the stubdomain's vif stays unused"
            yield Finding("ifname", option.number, why, "say ifname=, as libxl does: vifDOMID.0-emu")
        for script in option.all("script", "downscript", "helper"):
            if script not in ("no", ""):
                why = f"the script {printable(script, _SHOWN)} is dom0's"
                yield Finding("script", option.number, why, "say script=no,downscript=no: the stubdomain sees to its vif")


def _is_nic(option: Option) -> bool:
    return (
        (option.name == "device" and bool(option.all("netdev")))
        or (option.name == "net" and option.kind == "nic")
        or (option.name == "nic" and option.kind != "none")
    )


def graphics(said: Sequence[Option], _target: int | None, _has: Sequence[str]) -> Iterator[Finding]:
    """No screen: nothing inside shows one, and nothing outside reaches one."""
    for option in said:
        wanted = option.name in _SCREENS or option.name == "display"
        if wanted and not (option.name in ("vnc", "display") and option.kind in _NO_SCREEN and option.value):
            why = f"-{option.name} {printable(option.text, 40)}".rstrip() + ": a stubdomain has no graphics output"
            yield Finding("graphics", option.number, why, "say -display none")
        elif option.name == "chardev" and option.kind.startswith("spice"):
            yield Finding("graphics", option.number, "a chardev of spice's, and a stubdomain has no spice", "leave it out")
