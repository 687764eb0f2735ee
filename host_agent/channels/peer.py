# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a channel's stream, judged before a byte is written: root, we, or the VM's own QEMU.

Whoever can make a socket where a VM's is expected would otherwise be handed the connection. The guest still proves itself by its
key: this keeps a squatter from being greeted at all, and tells the operator of it.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import Unreachable, shown
from host_agent.files import others_may_write

if TYPE_CHECKING:
    from host_agent.channels.endpoint import Domain

#: The word of the `Unreachable` that says that somebody else is there.
SQUATTED: Final = "squatted"
#: The major numbers of Unix98 terminals' slaves, /dev/pts (linux/Documentation/admin-guide/devices.txt).
_PTS_MAJORS: Final = range(136, 144)
#: struct ucred: pid, uid, gid (unix(7), SO_PEERCRED).
_UCRED: Final = struct.Struct("=3i")


class Expected(NamedTuple):
    """Who may be there: processes and files of these *uids*, and the process *pid*, whose files may be *pid_uid*'s."""

    uids: frozenset[int]
    pid: int | None = None
    pid_uid: int | None = None


def expected(domain: Domain | None) -> Expected:
    """Root, we, and the QEMU of *domain*, which may have given up root."""
    ours = frozenset((0, os.geteuid()))
    if domain is None or domain.device_model is None:
        return Expected(ours)
    return Expected(ours, domain.device_model, _uid_of(domain.device_model))


def check_socket_file(path: Path, status: os.stat_result, who: Expected) -> None:
    """Raise `Unreachable` where the file *path*, which *status* is of, or its directory is somebody else's to decide about."""
    name = shown(path)
    if stat.S_ISLNK(status.st_mode):
        raise _squatted(f"{name}: a symbolic link, which QEMU never makes; cure: remove it, and give the VM's channel this path")
    if status.st_uid not in who.uids and status.st_uid != who.pid_uid:
        raise _squatted(f"{name}: a file of uid {status.st_uid}, not of root's or the VM's QEMU; cure: {_cure(path)}")
    complaint = others_may_write(path.parent)
    if complaint is not None:
        raise _squatted(f"{name}: anybody's socket could be here: {complaint}")


def check_listener(path: Path, end: socket.socket, who: Expected) -> None:
    """Raise `Unreachable` where the process that listens at the other end of *end*, connected at *path*, is somebody else's.

    The kernel's word is of the moment at which that process began to listen.
    """
    pid, uid, _ = _UCRED.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid not in who.uids and pid != who.pid:
        raise _squatted(
            f"{shown(path)}: process {pid} of uid {uid} listens here, which is neither root's nor the VM's QEMU;"
            f" cure: look at it (ps -fp {pid}) and end it, then {_cure(path)}"
        )


def check_client(name: str, end: socket.socket, who: Expected) -> None:
    """Raise `Unreachable` where the process that connected to our listener *name*, on *end*, is somebody else's."""
    pid, uid, _ = _UCRED.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid not in who.uids:
        raise _squatted(
            f"{shown(name)}: process {pid} of uid {uid} connected, which is neither root's nor ours; cure: a socket that"
            " only root may connect to (SocketMode=0600), or the connected socket of a QEMU that gave up root"
        )


def check_terminal(path: Path, status: os.stat_result, who: Expected) -> None:
    """Raise `Unreachable` where *path*, opened, is no terminal below /dev/pts, or somebody else's."""
    if not stat.S_ISCHR(status.st_mode) or os.major(status.st_rdev) not in _PTS_MAJORS:
        raise Unreachable("no-pty", f"{shown(path)}: not a terminal of a program (/dev/pts/N)")
    if status.st_uid not in who.uids and status.st_uid != who.pid_uid:
        raise _squatted(
            f"{shown(path)}: a terminal of uid {status.st_uid}, not of root's or the VM's QEMU;"
            " cure: compare it with the node 'tty' of the VM's console in xenstore"
        )


def _squatted(sentence: str) -> Unreachable:
    return Unreachable(SQUATTED, f"{sentence}; nothing was sent to it")


def _cure(path: Path) -> str:
    return f"chown root {shown(path.parent)}; chmod 700 {shown(path.parent)}; restart the VM"


def _uid_of(pid: int) -> int | None:
    """The user that the process runs as, or None where it is gone. Its directory in /proc is root's once it has changed user."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace")
    except OSError:
        return None
    found = [line.split() for line in text.splitlines() if line.startswith("Uid:")]
    return int(found[0][2]) if found else None
