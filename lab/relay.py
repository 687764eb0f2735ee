# SPDX-License-Identifier: Apache-2.0
"""A stand-in for QEMU's console backend: a unix socket on dom0's side, a tty in hvc's first state on the guest's.

It has what makes a PV channel awkward: one client at a time, small rings, an echoing cooked tty until somebody makes it raw,
guest bytes that wait for the next client, and a backend that can die. What it cannot show, the real Xen in this folder does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import selectors
import socket
import struct
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

#: xen/include/public/io/console.h: the ring towards the guest, and the one towards dom0.
TO_GUEST_RING: Final = 1024
TO_HOST_RING: Final = 2048
#: QEMU's own buffer behind the ring towards dom0 (the node ``limit``): what comes when it is full is lost.
BACKEND_BUFFER: Final = 1024 * 1024

_WAKE_SECONDS: Final = 0.2


class Relay:
    """Relay bytes between the socket at *path* and a pty (`tty` is the guest's end) in a thread of its own."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._master, self._slave = pty.openpty()
        os.set_blocking(self._master, False)
        self.tty = os.ttyname(self._slave)
        self.cook()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.RLock()
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self._to_guest = b""
        self._to_host = bytearray()
        self._reading = True
        self._running = True
        #: Bytes that passed, and bytes that were lost because the backend's buffer was full.
        self.to_guest_total = self.to_host_total = self.lost = 0
        self._thread = threading.Thread(target=self._run, name=f"relay {self.path.name}", daemon=True)

    def __enter__(self) -> Self:
        self.listen()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def cook(self) -> None:
        """Put the tty into the state in which a guest finds an hvc on every first open (tty_std_termios: cooked, echoing)."""
        attributes = termios.tcgetattr(self._slave)
        attributes[0] = termios.ICRNL | termios.IXON
        attributes[1] = termios.OPOST | termios.ONLCR
        echo = termios.ECHO | termios.ECHOE | termios.ECHOK | termios.ECHOCTL
        attributes[3] = termios.ISIG | termios.ICANON | termios.IEXTEN | echo
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)

    def listen(self) -> None:
        """Make the socket, as a new QEMU does: whatever is at its path goes first."""
        with self._lock:
            self.path.unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(os.fspath(self.path))
            self._listener.listen(1)
            self._listener.setblocking(False)
        self._wake()

    def vanish(self, *, leave_file: bool = False) -> None:
        """The backend dies: the client gets EOF, the socket goes (a killed QEMU leaves its file), what was buffered is lost."""
        with self._lock:
            self.disconnect()
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            if not leave_file:
                self.path.unlink(missing_ok=True)
            self._to_host.clear()
            self._to_guest = b""
        self._wake()

    def disconnect(self) -> None:
        """The client gets EOF; the next one in the queue is served."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
        self._wake()

    def stop_reading(self) -> None:
        """From now on nothing that the guest writes leaves its ring, as behind a dead or stopped QEMU."""
        with self._lock:
            self._reading = False
        self._wake()

    def read_again(self) -> None:
        """End what `stop_reading` began."""
        with self._lock:
            self._reading = True
        self._wake()

    @property
    def in_ring(self) -> int:
        """Bytes that the guest wrote and nobody took out of its ring; above `TO_HOST_RING` a real guest's vCPU would hang."""
        return int(struct.unpack("i", fcntl.ioctl(self._master, termios.FIONREAD, b"\0\0\0\0"))[0])

    def close(self) -> None:
        """End the thread and everything it holds."""
        self._running = False
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self.vanish()
        for descriptor in (self._master, self._slave, self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._selector.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"w")

    def _run(self) -> None:
        while self._running:
            for key, ready in self._poll():
                with self._lock:
                    self._serve(key.fileobj, ready)

    def _poll(self) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready, of what may move now: nothing is read that has nowhere to go."""
        with self._lock:
            wanted: dict[object, int] = {self._wake_read: selectors.EVENT_READ}
            master = selectors.EVENT_READ if self._reading else 0
            wanted[self._master] = master | (selectors.EVENT_WRITE if self._to_guest else 0)
            if self._client is not None:
                room = selectors.EVENT_READ if len(self._to_guest) < TO_GUEST_RING else 0
                wanted[self._client] = room | (selectors.EVENT_WRITE if self._to_host else 0)
            elif self._listener is not None:
                wanted[self._listener] = selectors.EVENT_READ
            for known in list(self._selector.get_map().values()):
                if wanted.get(known.fileobj) != known.events:
                    self._selector.unregister(known.fileobj)
            registered = {known.fileobj for known in self._selector.get_map().values()}
            for fileobj, events in wanted.items():
                if events and fileobj not in registered:
                    self._selector.register(fileobj, events)  # type: ignore[arg-type]  # all of them have a descriptor
        return self._selector.select(_WAKE_SECONDS)

    def _serve(self, fileobj: object, ready: int) -> None:
        if fileobj == self._wake_read:
            os.read(self._wake_read, 4096)
        elif fileobj == self._master:
            self._serve_guest(ready)
        elif fileobj is self._client and self._client is not None:
            self._serve_client(self._client, ready)
        elif fileobj is self._listener and self._listener is not None and self._client is None:
            with contextlib.suppress(BlockingIOError):
                self._client, _ = self._listener.accept()
                self._client.setblocking(False)

    def _serve_guest(self, ready: int) -> None:
        with contextlib.suppress(BlockingIOError):
            if ready & selectors.EVENT_WRITE and self._to_guest:
                self._to_guest = self._to_guest[os.write(self._master, self._to_guest) :]
            if ready & selectors.EVENT_READ and self._reading:
                data = os.read(self._master, TO_HOST_RING)
                kept = data[: BACKEND_BUFFER - len(self._to_host)]
                self.to_host_total += len(data)
                self.lost += len(data) - len(kept)
                self._to_host += kept

    def _serve_client(self, client: socket.socket, ready: int) -> None:
        try:
            if ready & selectors.EVENT_READ:
                data = client.recv(TO_GUEST_RING - len(self._to_guest))
                if not data:
                    self.disconnect()
                    return
                self.to_guest_total += len(data)
                self._to_guest += data
            if ready & selectors.EVENT_WRITE and self._to_host:
                del self._to_host[: client.send(self._to_host)]
        except BlockingIOError:
            pass
        except OSError:  # ECONNRESET, EPIPE: the client left in the middle
            self.disconnect()
