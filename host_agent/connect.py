# SPDX-License-Identifier: Apache-2.0
"""One channel's byte stream: QEMU's unix socket, or the pty that it opened, as a non-blocking descriptor."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import termios
import tty
from typing import TYPE_CHECKING, Final

from host_agent.errors import Unreachable, shown

if TYPE_CHECKING:
    from pathlib import Path

#: sockaddr_un's path with its final NUL (unix(7)); QEMU has the same limit.
MAX_SOCKET_PATH_BYTES: Final = 107

_CURES: Final = {
    errno.ENOENT: ("missing", "no such socket: the VM is off, restarting, or its channel has another path"),
    errno.ECONNREFUSED: ("dead", "nobody listens on the socket: its QEMU is gone and left the file"),
    errno.EAGAIN: ("busy", "QEMU's queue of clients is full: other programs hold this channel (ss -xp shows which)"),
    errno.EACCES: ("forbidden", "no permission: channels are root's"),
    errno.ENOTSOCK: ("no-socket", "not a socket"),
    errno.ENODEV: ("missing", "no such device: the VM is off or restarting"),
    errno.EIO: ("dead", "the pty is hung up: its QEMU is gone"),
}


def connect_socket(path: Path) -> int:
    """A stream to the unix socket at *path*; raise `Unreachable`. That this succeeds says nothing: QEMU lets clients queue."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise Unreachable("too-long", f"{shown(path)}: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes")
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        end.connect(str(path))  # never waits: a full queue is EAGAIN (unix(7))
    except OSError as exc:
        end.close()
        raise _unreachable(path, exc) from None
    return end.detach()


def open_pty(path: Path) -> int:
    """A stream to the terminal at *path*, raw from now on, with nothing that waits in it lost; raise `Unreachable`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise _unreachable(path, exc) from None
    try:
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            raise Unreachable("no-pty", f"{shown(path)}: not a terminal")
        tty.setraw(descriptor, termios.TCSANOW)  # the default, TCSAFLUSH, discards what came before
    except OSError as exc:
        os.close(descriptor)
        raise _unreachable(path, exc) from None
    except (termios.error, Unreachable):
        os.close(descriptor)
        raise Unreachable("no-pty", f"{shown(path)}: not a terminal") from None
    return descriptor


def unread(descriptor: int) -> int:
    """About how many bytes that we wrote the other end has not read yet (SIOCOUTQ; the same number is a tty's TIOCOUTQ)."""
    try:
        answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
    except OSError:  # not a stream that can say
        return 0
    return int(struct.unpack("=i", answer)[0])


def _unreachable(path: Path, exc: OSError) -> Unreachable:
    number = exc.errno or 0
    if number == errno.ECONNREFUSED and path.exists() and not path.is_socket():  # what connect(2) says of a regular file
        number = errno.ENOTSOCK
    word, cure = _CURES.get(number, ("unreachable", exc.strerror or str(exc)))
    return Unreachable(word, f"{shown(path)}: {cure}")
