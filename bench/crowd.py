# SPDX-License-Identifier: Apache-2.0
"""A crowd of guests behind unix sockets, in processes of their own: what they cost is not counted among what the host costs.

`python -m bench.crowd DIRECTORY FIRST COUNT FLOODING`: guests number FIRST and on, of which the first FLOODING ones flood.
"""

from __future__ import annotations

import gc
import os
import selectors
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from pv_channel import CHANNEL_NAME
from pv_channel.document import parse
from pv_channel.messages import Hello, ItemResult, Outcome, Ping, Pong, Provision, Result
from pv_channel.noise import KeyPair
from pv_channel.session import FromHost, Guest
from pv_channel.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A process may have 20,000 descriptors where this is measured; each guest has a listener and a connection.
_EACH: Final = 5000
_CHANNEL: Final = CHANNEL_NAME.encode("ascii")
#: What a flooding guest says, as fast as it is taken: whole lines that are none of ours, the dearest to look at.
FLOOD: Final = b"< AAAAAAAA BBBBBBBB 1 1 bm9uc2Vuc2U= 00000000\n" * 1024


def name(number: int) -> str:
    """What the VM *number* is called."""
    return f"vm{number:05d}"


class Crowd:
    """*count* guests at ``vmNNNNN.sock`` in *directory*, the first *flooding* of which flood whoever connects."""

    def __init__(self, directory: Path, count: int, flooding: int = 0) -> None:
        self._directory, self._count, self._flooding = directory, count, flooding
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for first in range(0, self._count, _EACH):
            words = (self._directory, first, min(_EACH, self._count - first), max(self._flooding - first, 0))
            command = [sys.executable, "-m", "bench.crowd", *map(str, words)]
            self._processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline() != b"listening\n":
                raise RuntimeError("the guests do not listen")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    @property
    def pids(self) -> list[int]:
        """The processes that they are in."""
        return [process.pid for process in self._processes]


class _Machine:
    """One guest: its key and what it has in force outlive its connections."""

    def __init__(self, *, floods: bool) -> None:
        self.key = KeyPair.generate()
        self.floods = floods
        self.hello = Hello("0.1.0")
        self.rest = b""
        self.end = self._boot()

    def _boot(self) -> Guest:
        return Guest(channel=_CHANNEL, uuid=None, key=self.key, trust=Trust(), hello=self.hello, random_bytes=os.urandom)

    def receive(self, data: bytes) -> bytes:
        """What comes back for these bytes."""
        for event in self.end.receive(data):
            if isinstance(event, FromHost):
                self._answer(event)
        return self.end.data_to_send()

    def restart(self) -> None:
        """A new stream."""
        self.end, self.rest = self._boot(), b""

    def _answer(self, event: FromHost) -> None:
        match event.message:
            case Ping(n):
                self.end.send(Pong(n))
            case Provision(raw):
                document = parse(bytes(raw))
                number = document.generation
                assert isinstance(number, int)
                self.hello = self.end.hello = Hello("0.1.0", number, str(document.instance_id), document.digest())
                items = [ItemResult("hostname", Outcome.APPLIED), ItemResult("network", Outcome.APPLIED)]
                self.end.send(Result(number, Outcome.APPLIED, items, milliseconds=12))


class _Stream(NamedTuple):
    end: socket.socket
    machine: _Machine


def serve(directory: Path, first: int, count: int, flooding: int) -> None:
    """Until killed."""
    selector = selectors.EpollSelector()
    for number in range(first, first + count):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(directory / f"{name(number)}.sock"))
        listener.listen(1)
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, _Stream(listener, _Machine(floods=number - first < flooding)))
    gc.freeze()
    print("listening", flush=True)
    listeners = {stream.data.end for stream in selector.get_map().values()}
    while True:
        for key, events in selector.select():
            stream: _Stream = key.data
            if stream.end in listeners:
                end, _ = stream.end.accept()
                end.setblocking(False)
                stream.machine.restart()
                interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.machine.floods else 0)
                selector.register(end, interest, _Stream(end, stream.machine))
            elif not _turn(stream, events):
                selector.unregister(stream.end)
                stream.end.close()


def _turn(stream: _Stream, events: int) -> bool:
    """Hear and answer; whether the stream goes on."""
    try:
        if events & selectors.EVENT_READ:
            data = stream.end.recv(65536)
            if not data:
                return False
            stream.machine.rest += stream.machine.receive(data)
        if stream.machine.rest:
            sent = stream.end.send(stream.machine.rest)
            stream.machine.rest = stream.machine.rest[sent:]
        if stream.machine.floods and events & selectors.EVENT_WRITE and not stream.machine.rest:
            sent = stream.end.send(FLOOD)
            stream.machine.rest = FLOOD[sent:]
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def main(words: Sequence[str]) -> None:
    """Serve, as told."""
    serve(Path(words[0]), *map(int, words[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
