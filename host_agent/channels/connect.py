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

from host_agent.channels.descriptors import leave_some, none_left
from host_agent.channels.peer import check_listener, check_socket_file, check_terminal, expected
from host_agent.errors import Unreachable, shown

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.channels.endpoint import Endpoint
    from host_agent.channels.peer import Expected

#: sockaddr_un's path with its final NUL (unix(7)); QEMU has the same limit.
MAX_SOCKET_PATH_BYTES: Final = 107
#: The words of the `Unreachable` that says that there is no socket, and of the one that says that its QEMU is gone.
MISSING: Final = "missing"
DEAD: Final = "dead"

_CURES: Final = {
    errno.ENOENT: (MISSING, "no such socket: the VM is off, restarting, or its channel has another path"),
    errno.ECONNREFUSED: (DEAD, "nobody listens on the socket: its QEMU is gone and left the file"),
    errno.EAGAIN: ("busy", "QEMU's queue of clients is full: other programs hold this channel (ss -xp shows which)"),
    errno.EACCES: ("forbidden", "no permission: channels are root's"),
}
_PTY_CURES: Final = _CURES | {
    errno.ENOENT: (MISSING, "no such terminal: the VM is off or restarting"),
    errno.ENODEV: (MISSING, "no such device: the VM is off or restarting"),
    errno.ENXIO: (MISSING, "no such device: the VM is off or restarting"),
    errno.EIO: (DEAD, "the terminal is hung up: its QEMU is gone"),
}

#: This process has as many as it may, or the whole system has.
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)


def open_stream(endpoint: Endpoint) -> int:
    """A stream to *endpoint*, whose other end was judged; raise `Unreachable`."""
    who = expected(endpoint.domain)
    return open_pty(endpoint.path, who) if endpoint.is_pty else connect_socket(endpoint.path, who)


def connect_socket(path: Path, who: Expected, by: Path | None = None) -> int:
    """A stream to the unix socket at *path*, or reached *by* another link to it; raise `Unreachable`.

    That this succeeds says nothing of the guest: QEMU lets clients queue.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise Unreachable("too-long", f"{shown(path)}: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes")
    try:
        file = os.open(by or path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return _connect_to(path, file, who)
        finally:
            os.close(file)
    except OSError as exc:
        raise _unreachable(path, exc) from None


def _connect_to(path: Path, file: int, who: Expected) -> int:
    """Connect to the very file that was judged, whatever stands at *path* by now."""
    status = os.fstat(file)
    check_socket_file(path, status, who)
    if not stat.S_ISSOCK(status.st_mode):
        raise Unreachable("no-socket", f"{shown(path)}: not a socket")
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        leave_some(path, end.fileno())
        end.connect(f"/proc/self/fd/{file}")  # never waits: a full queue is EAGAIN (unix(7))
        check_listener(path, end, who)
    except (OSError, Unreachable):
        end.close()
        raise
    return end.detach()


def open_pty(path: Path, who: Expected) -> int:
    """A stream to the terminal at *path*, raw from now on, with nothing that waits in it lost; raise `Unreachable`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as exc:
        raise _unreachable(path, exc, _PTY_CURES) from None
    try:
        leave_some(path, descriptor)
        check_terminal(path, os.fstat(descriptor), who)
        tty.setraw(descriptor, termios.TCSANOW)  # the default, TCSAFLUSH, discards what came before
    except Unreachable:
        os.close(descriptor)
        raise
    except OSError as exc:
        os.close(descriptor)
        raise _unreachable(path, exc, _PTY_CURES) from None
    except termios.error as exc:
        os.close(descriptor)
        raise _unreachable(path, OSError(*exc.args), _PTY_CURES) from None
    return descriptor


def unread(descriptor: int) -> int:
    """About how many bytes that we wrote the other end has not read yet (SIOCOUTQ; the same number is a tty's TIOCOUTQ)."""
    try:
        answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
    except OSError:  # not a stream that can say
        return 0
    return int(struct.unpack("=i", answer)[0])


def _unreachable(path: Path, exc: OSError, cures: dict[int, tuple[str, str]] = _CURES) -> Unreachable:
    if exc.errno in _NO_DESCRIPTORS:
        return none_left(path)
    word, cure = cures.get(exc.errno or 0, ("unreachable", exc.strerror or str(exc)))
    return Unreachable(word, f"{shown(path)}: {cure}")
