# SPDX-License-Identifier: Apache-2.0
"""A crowd of guests behind unix sockets, in processes of their own: what they cost is not counted among what dom0 costs.

`python -m bench.crowd DIRECTORY FIRST COUNT FLOOD`: the guests number FIRST and on listen, take connections, and read nothing
until a line comes on standard input: then they boot, all at once. Where FLOOD is 1 they are of the kind that floods. They
end with their standard input.
"""

from __future__ import annotations

import gc
import os
import selectors
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from bench.descriptors import connections
from host_agent.at_start import allow_many_files
from pv_channel import CHANNEL_NAME
from pv_channel.document import parse
from pv_channel.line import GUEST_SPEAKS, finish, header
from pv_channel.messages import Facts, Hello, ItemResult, Outcome, Ping, Pong, Provision, Result
from pv_channel.noise import KeyPair
from pv_channel.session import FromHost, Guest
from pv_channel.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Sequence

#: In one process: a guest has a listener and a connection, and a process may often have 20,000 descriptors.
_EACH: Final = 5000
_DESCRIPTORS: Final = 2
_CHANNEL: Final = CHANNEL_NAME.encode("ascii")
_BOOT_ID: Final = "0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"
_FACTS: Final = Facts("Debian GNU/Linux 12 (bookworm)", "6.1.0-18-amd64", "web1", _BOOT_ID, ["10.0.0.7/24"])
#: Of all that a stranger can say, a whole line of an earlier session costs dom0 most to look at.
FLOOD: Final = finish(header(GUEST_SPEAKS, b"A" * 8, b"B" * 8, 7, 7), b"nonsense") * 1024
_SOMETHING: Final = 65536


def name(number: int) -> str:
    """What the VM *number* is called."""
    return f"vm{number:05d}"


class Crowd:
    """*count* guests, from number *first* on, at ``vmNNNNN.sock`` in *directory*; of the kind that floods, or honest ones."""

    def __init__(self, directory: Path, count: int, first: int = 0, *, flood: bool = False) -> None:
        each, end = min(_EACH, connections(_DESCRIPTORS)), first + count
        self._words = [(directory, at, min(each, end - at), int(flood)) for at in range(first, end, each)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for words in self._words:
            command = [sys.executable, "-m", "bench.crowd", *map(str, words)]
            self._processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for process in self._processes:
            if process.stdout is None or process.stdout.readline() != b"listening\n":
                self.__exit__()
                raise RuntimeError("the guests do not listen")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def boot(self) -> None:
        """All at once."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.write(b"boot\n")
                process.stdin.flush()


class _Machine:
    """One guest: its key, and what it has in force, outlive its connections."""

    def __init__(self) -> None:
        self._key = KeyPair.generate()
        self._hello = Hello("0.1.0")
        self.restart()

    def restart(self) -> None:
        """A new stream."""
        self._end = Guest(
            channel=_CHANNEL, uuid=None, key=self._key, trust=Trust(), hello=self._hello, random_bytes=os.urandom
        )
        self._has_said_facts = False

    def receive(self, data: bytes) -> bytes:
        """What comes back for these bytes."""
        for event in self._end.receive(data):
            if isinstance(event, FromHost):
                self._answer(event)
        return self._end.data_to_send()

    def _answer(self, event: FromHost) -> None:
        match event.message:
            case Ping(n):
                self._end.send(Pong(n) if self._has_said_facts else Pong(n, _FACTS))
                self._has_said_facts = True
            case Provision(raw):
                document = parse(bytes(raw))
                number = document.generation
                if not isinstance(number, int):
                    raise RuntimeError("a document without a generation")
                self._hello = self._end.hello = Hello("0.1.0", number, str(document.instance_id), document.digest())
                items = [ItemResult("hostname", Outcome.APPLIED), ItemResult("network", Outcome.APPLIED)]
                self._end.send(Result(number, Outcome.APPLIED, items, milliseconds=12))


class _Process:
    """The guests of one process, and who is connected to them."""

    def __init__(self, *, flood: bool) -> None:
        self._flood = flood
        self._selector = selectors.EpollSelector()
        self._listeners: dict[socket.socket, _Machine] = {}
        self._streams: dict[socket.socket, _Machine] = {}
        self._is_up = False

    def listen(self, path: Path) -> None:
        """Another guest, at *path*."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(path))
        listener.listen(1)
        self._listeners[listener] = _Machine()
        self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until killed."""
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if not isinstance(key.fileobj, socket.socket):
                    self._boot()
                elif key.fileobj in self._listeners:
                    self._accept(key.fileobj)
                else:
                    self._turn(key.fileobj)

    def _boot(self) -> None:
        if not sys.stdin.readline():  # whoever measured is gone
            sys.exit()
        self._is_up = True
        for end in self._streams:
            self._follow(end)

    def _accept(self, listener: socket.socket) -> None:
        end, _ = listener.accept()
        end.setblocking(False)
        machine = self._streams[end] = self._listeners[listener]
        machine.restart()
        if self._is_up:
            self._follow(end)

    def _follow(self, end: socket.socket) -> None:
        self._selector.register(end, selectors.EVENT_WRITE if self._flood else selectors.EVENT_READ)

    def _turn(self, end: socket.socket) -> None:
        try:
            if self._flood:
                end.send(FLOOD)
                return
            data = end.recv(_SOMETHING)
            if data:
                end.sendall(self._streams[end].receive(data))
                return
        except OSError:  # the host has left
            pass
        self._selector.unregister(end)
        del self._streams[end]
        end.close()


def main(words: Sequence[str]) -> None:
    """Serve, as told."""
    allow_many_files()
    directory, first, count, flood = Path(words[0]), *map(int, words[1:])
    process = _Process(flood=bool(flood))
    for number in range(first, first + count):
        process.listen(directory / f"{name(number)}.sock")
    gc.freeze()
    print("listening", flush=True)
    process.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
