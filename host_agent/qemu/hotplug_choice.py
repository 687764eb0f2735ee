# SPDX-License-Identifier: Apache-2.0
"""What a channel that is to be plugged gets: a console's id that nobody has spoilt, and a path that nobody uses."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.channels.ends import NOTHING, SOCKET, ends
from host_agent.channels.toolstack import wrong_with
from host_agent.errors import HostError, shown
from host_agent.files import PRIVATE_DIRECTORY, others_may_write
from host_agent.install import SOCKETS
from host_agent.qemu.hotplug_chardev import PREFIX
from host_agent.stubdom.console_map import FIRST_OF_TARGET, MAX_CONSOLES
from pv_channel import CHANNEL_NAME
from pv_channel.errors import LocalError
from pv_channel.greeting import channel_name, uuid_text
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from host_agent.channels.endpoint import Domain
    from host_agent.channels.toolstack import Console

#: Linux has terminals for so many channels, and takes only the last digit of a console's id.
MAX_CHANNELS: Final = 7
IDS: Final = range(1, 10)
#: Of a stubdomain's consoles, those that can be its target's.
IDS_IN_STUBDOMAIN: Final = range(FIRST_OF_TARGET, MAX_CONSOLES)
DIRECTORY: Final = Path("/", SOCKETS)
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", re.ASCII)


def check_name(name: str) -> None:
    """Raise `HostError` where *name* cannot be a channel's."""
    try:
        channel_name(name)
    except LocalError as exc:
        raise HostError(f"--name {printable(name, 100)}: {exc}") from None


def free_ids(used: Collection[int], labels: Collection[str], ids: range = IDS) -> list[int]:
    """Those of *ids* that a new console can have, best first; raise `HostError` where there is none.

    *used* are those of which anything is in xenstore, *labels* what QEMU has: one without nodes is of a console that went wrong.
    """
    channels = sorted(set(used) - {0})
    if len(channels) >= MAX_CHANNELS:
        raise HostError(
            f"{len(channels)} channels are in use (consoles {', '.join(map(str, channels))}), and Linux has terminals for"
            f" {MAX_CHANNELS}; cure: unplug another one first"
        )
    free = [id_ for id_ in ids if id_ not in channels and f"{PREFIX}{id_}" not in labels]
    if not free:
        spoilt = ", ".join(str(id_) for id_ in ids if id_ not in channels)
        raise HostError(
            f"no console's id is left: QEMU still has ends of channels that are gone ({spoilt}); cure: unplug them by their ids,"
            " or reboot the VM, which starts another QEMU"
        )
    return free


def path_of(domain: Domain, name: str, directory: Path = DIRECTORY) -> Path:
    """Where a channel's socket goes for which the operator names no path."""
    vm = domain.name if _FILE_NAME.fullmatch(domain.name) else uuid_text(domain.uuid)
    return directory / (f"{vm}.sock" if name == CHANNEL_NAME else f"{vm}.{name}.sock")


def check_path(path: Path, consoles: Iterable[Console], domains: Sequence[Domain]) -> None:
    """Raise `HostError` where a channel's socket cannot be at *path*: QEMU would remove what stands there, whatever it is."""
    wrong = wrong_with(os.fspath(path))
    if wrong:
        raise HostError(f"{shown(path)} cannot be a channel's path: it {wrong}; cure: another --path")
    _check_directory(path.parent)
    for console in consoles:
        if console.path == os.fspath(path):
            owner = next((domain.name for domain in domains if domain.domid == console.domid), "a domain")
            raise HostError(
                f"{shown(path)} is the path of channel {printable(console.name, 100)} of {printable(owner, 100)}"
                f" ({console.domid}); cure: another --path"
            )
    here = ends([os.fspath(path)])[os.fspath(path)]
    if here.listener is not None:
        who = ", ".join(map(str, here.listener.processes)) or "a process"
        raise HostError(f"{shown(path)} is in use: {who} listens there; cure: another --path")
    if here.kind not in (NOTHING, SOCKET):
        raise HostError(f"{shown(path)} is no socket, and QEMU would remove it; cure: another --path")


def _check_directory(directory: Path) -> None:
    """Raise `HostError` where others could take the socket's place. The agents' own directory is made where it is missing."""
    try:
        if directory == DIRECTORY:
            directory.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        complaint = others_may_write(directory)
    except OSError as exc:
        raise HostError(f"{shown(directory)}: {exc.strerror}; cure: make it (mkdir -m 700), or another --path") from None
    if complaint is not None:
        raise HostError(complaint)
