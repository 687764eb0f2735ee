# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a domain's channel as the toolstack made it: dropped, never configured, misnamed, one too many."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final

from host_agent.channels.listing import path_of
from host_agent.doctor.diagnosis import Diagnosis, Layer, Seen, beyond

if TYPE_CHECKING:
    from host_agent.channels.toolstack import Console
    from host_agent.doctor.evidence import Case, Chardev

#: The kernel's driver takes the last digit of a console's id, and has eight terminals, one of which is the primary console's.
MAX_CONSOLE: Final = 9
MAX_CHANNELS: Final = 7
#: Names that are as alike as this differ by a letter or two.
_ALIKE: Final = 0.85
_VERSION: Final = re.compile(r"[.\d]+$")


def _dropped(case: Case) -> Seen | None:
    lost = _lost_chardevs(case)
    if case.console is not None or not lost or case.qemu is None:
        return None
    nodes = ", ".join(f"{one.id} ({one.name or 'no name'})" for one in case.consoles) or "none"
    return Seen(
        "xl dropped the channel: QEMU was given its end, and the guest was not",
        (
            *(f"QEMU (pid {case.qemu.pid}) has -chardev {_shown(one)}" for one in lost),
            f"no node /libxl/{case.domid}/device/console/N has that path and the name {case.channel}; there are: {nodes}",
        ),
        (("channel", case.channel), ("path", next((one.path for one in lost if one.path), "/run/pv-channel/NAME.sock"))),
    )


def _shown(chardev: Chardev) -> str:
    return f"{chardev.kind},id={chardev.id}" + (f",path={chardev.path}" if chardev.path else "")


def _lost_chardevs(case: Case) -> list[Chardev]:
    """The channels' ends that QEMU was told of, and that belong to no console."""
    if case.qemu is None or not case.is_running:
        return []
    paths = {console.path for console in case.consoles}
    sockets = [one for one in case.qemu.chardevs if one.kind == "socket" and one.path not in paths]
    ptys = [one for one in case.qemu.chardevs if one.kind == "pty"]
    has_no_node = len(ptys) - sum(1 for console in case.consoles if console.connection == "pty")
    return sockets + ptys[: max(has_no_node, 0)]


def _wrong_name(case: Case) -> Seen | None:
    if case.console is not None or not case.is_running:
        return None
    close = [console for console in case.consoles if _is_close(console.name, case.channel)]
    if not close:
        return None
    return Seen(
        f"the domain has no channel {case.channel}, but one whose name is almost that",
        tuple(f"/libxl/{case.domid}/device/console/{one.id}/name is {one.name}" for one in close),
        (("channel", case.channel), ("name", close[0].name)),
    )


def _is_close(name: str, wanted: str) -> bool:
    """Whether *name* is another version of *wanted*, or was mistyped."""
    bare, name = _VERSION.sub("", wanted).casefold(), name.casefold()
    return bool(name) and (_VERSION.sub("", name) == bare or SequenceMatcher(None, name, wanted.casefold()).ratio() >= _ALIKE)


def _none_configured(case: Case) -> Seen | None:
    if case.console is not None or not case.is_running:
        return None
    others = ", ".join(console.name for console in case.consoles if console.name)
    return Seen(
        f"the domain was started without a channel {case.channel}",
        (
            f"no node /libxl/{case.domid}/device/console/N/name is {case.channel}; channels that it has: {others or 'none'}",
            "QEMU has no end of another channel, either" if case.qemu is not None else "no QEMU of the domain is known",
        ),
        (("channel", case.channel),),
    )


def _no_frontend(case: Case) -> Seen | None:
    if case.console is None or case.console.has_frontend:
        return None
    node = f"/local/domain/{case.server}/device/console/{case.console.id}"
    return Seen("the guest's end of the channel is gone from xenstore", (f"{node} is missing, which a guest can do to itself",))


def _shared_path(case: Case) -> Seen | None:
    if not case.path_owners:
        return None
    return Seen(
        "another channel has the same path, and only the last QEMU to start has it",
        tuple(f"{case.place} is also the path of {owner}" for owner in case.path_owners[:8]),
    )


def _too_many(case: Case) -> Seen | None:
    if case.console is None:
        return None
    number = _number(case.console)
    count = len([one for one in case.consoles if 0 < _number(one) <= number])
    if number <= MAX_CONSOLE and count <= MAX_CHANNELS:
        return None
    what = f"its console's id is {number}" if number > MAX_CONSOLE else f"it is channel {count} of the domain"
    return Seen(
        "the guest's kernel has no terminal left for this channel",
        (f"{what}: Linux gives terminals to the first {MAX_CHANNELS} channels, with ids up to {MAX_CONSOLE}",),
    )


def _number(console: Console) -> int:
    return int(console.id) if console.id.isascii() and console.id.isdecimal() else 0


def _no_kind(case: Case) -> Seen | None:
    if case.console is None or case.console.connection in ("socket", "pty"):
        return None
    where = f"/libxl/{case.server}/device/console/{case.console.id}/connection"
    return Seen("the channel is neither a socket nor a terminal", (f"{where} is {case.console.connection or 'missing'}",))


def _no_place(case: Case) -> Seen | None:
    if case.console is None or case.console.connection not in ("socket", "pty") or path_of(case.console):
        return None
    node = f"/libxl/{case.server}/device/console/{case.console.id}/path"
    if case.console.connection == "pty":
        node = f"/local/domain/{case.server}/device/console/{case.console.id}/tty"
    return Seen(
        "where the channel is in dom0 is not known",
        (f"{node} is missing, is not dom0's, or is no path that can be used",),
    )


_BEYOND: Final = beyond(Layer.CHANNEL)
_ENTRY: Final = 'channel = [ "connection=socket,name={channel},path=PATH" ]'

DIAGNOSES: Final = (
    Diagnosis(
        "xl-dropped-first-entry", Layer.CHANNEL,
        "xl 4.11 to 4.17, 4.18 before .5, 4.19 before .2 and 4.20.0 drop the first 'channel=' entry without an error",
        "put a sacrifice before it, and create the VM anew: channel = [ \"connection=pty,name=org.example.unused\","
        ' "connection=socket,name={channel},path={path}" ]; or upgrade xl to 4.18.5, 4.19.2 or 4.20.1',
        _dropped, (Layer.CHANNEL, *_BEYOND),
    ),
    Diagnosis(
        "wrong-name", Layer.CHANNEL,
        "a channel's name is almost ours: mistyped, or of another version",
        "correct 'name={name}' to 'name={channel}' in the VM's configuration, and create it anew;"
        " or serve that one: pv-host-agent serve --channel {name}",
        _wrong_name, (Layer.CHANNEL, *_BEYOND),
    ),
    Diagnosis(
        "no-channel-configured", Layer.CHANNEL,
        "the domain has no channel of our name",
        f"now: pv-host-agent plug {{domain}}; for good: in the VM's configuration {_ENTRY} (README.md has it for libvirt)",
        _none_configured, _BEYOND,
    ),
    Diagnosis(
        "odd-connection", Layer.CHANNEL,
        "the channel's connection is of a kind that nobody serves",
        "connection=socket in the VM's configuration, in lower case, and create it anew",
        _no_kind, _BEYOND,
    ),
    Diagnosis(
        "no-place", Layer.CHANNEL,
        "the toolstack did not write down where the channel's socket or terminal is, or not where only dom0 can write",
        "is its QEMU up (pv-host-agent channels)? else: xl shutdown the VM, and create it anew",
        _no_place, _BEYOND,
    ),
    Diagnosis(
        "shared-path", Layer.CHANNEL,
        "two channels were given one path",
        "give each channel its own path=, and create the VMs anew",
        _shared_path, _BEYOND,
    ),
    Diagnosis(
        "too-many-channels", Layer.CHANNEL,
        "Linux has terminals for seven channels of a guest, whose consoles' ids are at most 9",
        "put our entry among the first seven of 'channel =', and create the VM anew",
        _too_many, (Layer.KERNEL, Layer.AGENT),
    ),
    Diagnosis(
        "no-frontend", Layer.CHANNEL,
        "the guest has removed its own end from xenstore",
        "reboot the VM (xl reboot {domain}); a guest that does it again is not to be helped from dom0",
        _no_frontend, (Layer.KERNEL, Layer.AGENT),
    ),
)  # fmt: skip
