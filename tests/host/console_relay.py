# SPDX-License-Identifier: Apache-2.0
"""A console between a stubdomain and dom0, without Xen: a terminal inside, a unix socket in dom0, and the bytes between them."""

from __future__ import annotations

import os
import pty
import select
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


class ConsoleRelay:
    """In a `with`: *inside* is the terminal's path, *outside* is the socket's, where one client is served at a time."""

    def __init__(self, outside: Path) -> None:
        self.outside = outside
        self._master, self._slave = pty.openpty()
        self.inside = Path(os.ttyname(self._slave))
        self._ends = threading.Event()

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(self.outside))
        self._listener.listen(1)
        os.set_blocking(self._master, False)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._listener.close()
        os.close(self._master)
        os.close(self._slave)

    def _run(self) -> None:
        while not self._ends.is_set():
            ready, _, _ = select.select([self._listener], [], [], 0.05)
            if ready:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    self._relay(client)

    def _relay(self, client: socket.socket) -> None:
        inwards = b""
        while not self._ends.is_set():
            writable = [self._master] if inwards else []
            wanted = [self._master] if inwards else [self._master, client.fileno()]
            readable, taking, _ = select.select(wanted, writable, [], 0.05)
            if self._master in readable:
                client.sendall(os.read(self._master, 4096))
            if client.fileno() in readable:
                inwards = client.recv(4096)
                if not inwards:
                    return
            if self._master in taking:
                inwards = inwards[os.write(self._master, inwards[:512]) :]
