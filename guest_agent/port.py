# SPDX-License-Identifier: Apache-2.0
"""The channel's tty: raw, exclusive, and with what dom0 wrote before we opened it.

A PV console is cooked on every first open and its termios is reset on the last close (Linux, drivers/tty/hvc). What the host sent
before that open is waiting in it: a greeting. Nothing here may flush.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import termios
import time
from typing import TYPE_CHECKING, Final

import serial

if TYPE_CHECKING:
    from typing import Self

#: A tty hands out at most 4 KiB at a time (N_TTY_BUF_SIZE); asking for more costs nothing.
READ_BYTES: Final = 64 * 1024
#: One `read` takes everything that is there, so that of many queued greetings the session sees the last; and no more than this.
DRAIN_BYTES: Final = 128 * 1024
#: The guest never has more under way than the ring takes, so a write that waits this long has nobody behind it.
WRITE_SECONDS: Final = 5.0
#: Linux, Documentation/admin-guide/devices.txt: the hypervisor consoles.
_HVC_MAJOR: Final = 229
#: A tty that is gone or going answers with one of these (hvc_open: ENODEV; a hung-up tty: EIO; no driver: ENXIO).
_GONE: Final = frozenset({errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.EBADF})


class PortGone(Exception):  # noqa: N818 -- it says what became of the port
    """The tty has nobody behind it any more, or not yet: close it, find the channel again, go on."""


class PortAbsent(PortGone):
    """There was nobody behind the tty when it was to be opened."""


class PortBusy(PortGone):
    """Another program holds the tty."""


class PortRefused(Exception):  # noqa: N818 -- it says what becomes of the request
    """This path is not, or must not be, a channel; opening it again would not help."""


class _Unflushed(serial.Serial):
    """pyserial's port, whose own `open` would flush the input and leave VMIN at 0, where an empty read can mean two things."""

    def _reset_input_buffer(self) -> None:
        """Keep what dom0 wrote before the open: it is the greeting."""

    def _reconfigure_port(self, force_update: bool = False) -> None:  # noqa: ARG002 -- pyserial's own signature
        """Lock, then raw at once and in one step. TCSANOW: TCSAFLUSH discards the queued input (termios(3))."""
        fd = self.fileno_of_open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise PortBusy(f"{self.port}: another program holds it") from exc
        if os.geteuid() == 0:
            # Keeps everyone but root out. An agent without root (a test, a demo on a pty) could not reopen a pty itself:
            # a pty keeps the flag until its master closes (Linux, tty_ioctl.c), a console loses it on the last close.
            fcntl.ioctl(fd, termios.TIOCEXCL)
        _, _, cflag, _, ispeed, ospeed, cc = termios.tcgetattr(fd)
        cflag &= ~(termios.CSIZE | termios.PARENB | termios.CSTOPB | termios.CRTSCTS)
        cflag |= termios.CS8 | termios.CREAD | termios.CLOCAL
        cc[termios.VMIN], cc[termios.VTIME] = 1, 0
        termios.tcsetattr(fd, termios.TCSANOW, [0, 0, cflag, 0, ispeed, ospeed, cc])

    def fileno_of_open(self) -> int:
        """The descriptor while `open` is still at work, when `fileno` refuses."""
        if self.fd is None:
            raise PortGone(f"{self.port}: not open")
        return self.fd


class Port:
    """An open channel tty. Every way of its going away is a `PortGone`; termios is left as it is on close."""

    def __init__(self, path: str) -> None:
        """Open *path*; raise `PortRefused` for what must not be opened, `PortBusy`, or `PortAbsent`."""
        refuse_primary_console(path)
        self.path = path
        try:
            self._serial = _Unflushed(path, exclusive=True)
        except serial.SerialException as exc:
            raise _unopened(path, exc.errno) from exc
        except (OSError, termios.error) as exc:
            raise _unopened(path, exc.args[0]) from exc
        self._fd = self._serial.fileno()
        self._readable = select.poll()
        self._readable.register(self._fd, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self._fd, select.POLLOUT)

    def read(self, seconds: float) -> bytes:
        """Everything that is there, up to `DRAIN_BYTES`; waits at most *seconds* for a first byte, and then returns nothing."""
        if not self._readable.poll(max(seconds, 0) * 1000):
            return b""
        chunks: list[bytes] = []
        size = 0
        while size < DRAIN_BYTES:
            try:
                chunk = os.read(self._fd, min(READ_BYTES, DRAIN_BYTES - size))
            except BlockingIOError:
                break
            except OSError as exc:
                gone = os.strerror(exc.errno or errno.EIO)
                chunk = b""
            else:
                gone = "end of file"  # a hung-up tty: the domain was saved and restored, or the channel unplugged
            if not chunk:
                if chunks:
                    break  # the next read meets it again
                raise PortGone(f"{self.path}: {gone}")
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)

    def write(self, data: bytes, seconds: float = WRITE_SECONDS) -> None:
        """Write all of *data*; raise `PortGone` where it is not all taken within *seconds*."""
        deadline = time.monotonic() + seconds
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
                continue
            except BlockingIOError:
                pass
            except OSError as exc:
                raise PortGone(f"{self.path}: {os.strerror(exc.errno or errno.EIO)}") from exc
            left = deadline - time.monotonic()
            if left <= 0 or not self._writable.poll(left * 1000):
                raise PortGone(f"{self.path}: {len(rest)} bytes not taken within {seconds:g} s")

    def close(self) -> None:
        """Close it; harmless to repeat."""
        self._serial.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def refuse_primary_console(path: str) -> None:
    """Raise `PortRefused` where *path* is the domain's primary console, by whatever name."""
    real = os.path.realpath(path)
    try:
        device = os.stat(real).st_rdev  # noqa: PTH116 -- pathlib is 4 ms that the start does without
    except OSError:  # not there: opening it says so better
        device = 0
    if real.endswith("/hvc0") or device == os.makedev(_HVC_MAJOR, 0):
        raise PortRefused(
            f"{path}: that is hvc0, the domain's primary console: the kernel's messages, a login and SysRq (^O) are on it. "
            "A channel is one of /dev/hvc1 to /dev/hvc7; `pv-guest-agent channels` shows which."
        )


def _unopened(path: str, number: int | None) -> Exception:
    """What a failed open or set-up of *path* means."""
    reason = os.strerror(number) if number else "no terminal"
    if number == errno.EBUSY:
        return PortBusy(f"{path}: another program holds it")
    if number in _GONE:
        return PortAbsent(f"{path}: {reason}")
    return PortRefused(f"{path}: {reason}; expected a tty that this user may read and write")
