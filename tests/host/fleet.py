# SPDX-License-Identifier: Apache-2.0
"""Hundreds of fake guests behind their sockets, all served by one thread."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tests.host.fakes import FakeGuest

if TYPE_CHECKING:
    from pathlib import Path


class Fleet:
    """A guest per name, at ``NAME.sock`` in *directory*."""

    def __init__(self, directory: Path, names: list[str]) -> None:
        self.guests = {name: FakeGuest() for name in names}
        self._directory = directory
        #: Connections that are open now, and all that ever were.
        self.connected = self.accepted = 0
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._selector = selectors.DefaultSelector()
        self._listeners = [self._listen(name) for name in self.guests]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _listen(self, name: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(self._directory / f"{name}.sock"))
        listener.listen(2)
        self._selector.register(listener, selectors.EVENT_READ, (name, True))
        return listener

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.05):
                assert isinstance(key.fileobj, socket.socket)
                name, is_listener = key.data
                if is_listener:
                    self._accept(key.fileobj, name)
                else:
                    self._serve(key.fileobj, name)

    def _accept(self, listener: socket.socket, name: str) -> None:
        client, _ = listener.accept()
        self.guests[name].restart()
        self.connected += 1
        self.accepted += 1
        self._selector.register(client, selectors.EVENT_READ, (name, False))

    def _serve(self, client: socket.socket, name: str) -> None:
        with suppress(OSError):  # the host left first, or was killed
            data = client.recv(65536)
            if data:
                client.sendall(self.guests[name].receive(data))
                return
        self._selector.unregister(client)
        client.close()
        self.connected -= 1
