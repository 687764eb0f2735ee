# SPDX-License-Identifier: Apache-2.0
"""Fakes for the host's tests: a guest that answers as it is told to, and a QEMU whose socket leads to it."""

from __future__ import annotations

import os
import pty
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Self

from pv_channel import CHANNEL_NAME
from pv_channel.document import Document, parse
from pv_channel.messages import Hello, ItemResult, Outcome, Ping, Pong, Provision, Result
from pv_channel.noise import KeyPair
from pv_channel.session import FromHost, Guest, Opened
from pv_channel.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pv_channel.messages import HostMessage

CHANNEL = CHANNEL_NAME.encode("ascii")
PLAIN = {"instance-id": "i-1", "local-hostname": "web1"}


class FakeGuest:
    """A machine with an agent: its key, and what it has applied, outlive the streams it is reached by."""

    def __init__(self, *, key: KeyPair | None = None, uuid: bytes | None = None, trust: Trust | None = None) -> None:
        self.key = key or KeyPair.generate()
        self.uuid, self.trust = uuid, trust or Trust()
        self.hello = Hello("0.1.0")
        self.applied: list[Document] = []
        self.pinged = 0
        #: What it answers; a test replaces this.
        self.answer: Callable[[HostMessage, Guest], None] = self.comply
        self.opened: list[Opened] = []
        self.restart()

    def restart(self) -> None:
        """A new stream, a new boot: nothing of a session is left."""
        self.end = Guest(
            channel=CHANNEL, uuid=self.uuid, key=self.key, trust=self.trust, hello=self.hello, random_bytes=os.urandom
        )

    def receive(self, data: bytes) -> bytes:
        """What comes back for these bytes."""
        for event in self.end.receive(data):
            if isinstance(event, FromHost):
                self.answer(event.message, self.end)
            elif isinstance(event, Opened):
                self.opened.append(event)
        return self.end.data_to_send()

    def comply(self, message: HostMessage, end: Guest) -> None:
        """Do as the host says."""
        if isinstance(message, Provision):
            if self.has(message):
                end.send(self.result(message, Outcome.UNCHANGED))
            else:
                self.apply(message)
                end.send(self.result(message))
        else:
            self.pong(message, end)

    def pong(self, message: HostMessage, end: Guest) -> None:
        """Answer a question, and nothing else."""
        if isinstance(message, Ping):
            self.pinged += 1
            end.send(Pong(message.n))

    def has(self, message: Provision) -> bool:
        """Whether just this is in force."""
        document = parse(bytes(message.document))
        in_force = (self.hello.instance_id, self.hello.generation, self.hello.digest)
        return in_force == (str(document.instance_id), document.generation, document.digest())

    def apply(self, message: Provision) -> None:
        """Be what the document says, and say so in the next handshake."""
        document = parse(bytes(message.document))
        self.applied.append(document)
        generation = document.generation
        assert isinstance(generation, int)
        self.hello = Hello("0.1.0", generation, str(document.instance_id), document.digest())
        self.end.hello = self.hello

    def result(self, message: Provision, outcome: Outcome = Outcome.APPLIED) -> Result:
        """An answer with one item."""
        generation = parse(bytes(message.document)).generation
        assert isinstance(generation, int)
        if outcome in (Outcome.APPLIED, Outcome.UNCHANGED):
            return Result(generation, outcome, [ItemResult("hostname", outcome)], ["ssh-ed25519 AAAA host"], milliseconds=5)
        item = ItemResult("hostname", Outcome.FAILED, "command-failed", "hostnamectl", ["line \x1b[31mone", "line two"])
        return Result(generation, outcome, [item])


class FakePty:
    """A terminal at *path*, as QEMU makes it for ``connection=pty``, with *guest* behind it."""

    def __init__(self, guest: FakeGuest) -> None:
        self.guest = guest
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self.controller, self._terminal = pty.openpty()
        self.path = os.ttyname(self._terminal)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self.controller)
        os.close(self._terminal)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.controller, selectors.EVENT_READ)
            while not self._stop.is_set():
                if selector.select(0.02):
                    os.write(self.controller, self.guest.receive(os.read(self.controller, 65536)))


class FakeQemu:
    """A unix socket at *path*, served one client at a time by a thread, with *guest* (or nobody: None) behind it."""

    def __init__(self, path: Path, guest: FakeGuest | None) -> None:
        self.path, self.guest = path, guest
        self.accepted = 0
        self._cut = threading.Event()
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self.listener = socket.socket(socket.AF_UNIX)
        self.path.unlink(missing_ok=True)
        self.listener.bind(os.fspath(self.path))
        self.listener.listen(1)
        self.listener.settimeout(0.02)
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.listener.close()
        self.path.unlink(missing_ok=True)

    def cut(self) -> None:
        """Close the present client's connection."""
        self._cut.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self.listener.accept()
            except TimeoutError:
                continue
            self.accepted += 1
            self._cut.clear()
            with client, selectors.DefaultSelector() as selector:
                selector.register(client, selectors.EVENT_READ)
                self._serve(client, selector)

    def _serve(self, client: socket.socket, selector: selectors.BaseSelector) -> None:
        while not self._stop.is_set() and not self._cut.is_set():
            if self.guest is None:
                self._stop.wait(0.02)  # takes the connection, reads nothing, says nothing
                continue
            if selector.select(0.02):
                try:
                    data = client.recv(65536)
                    if not data:
                        return
                    client.sendall(self.guest.receive(data))
                except OSError:  # the host left first, or was killed
                    return
