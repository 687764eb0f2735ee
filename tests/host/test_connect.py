# SPDX-License-Identifier: Apache-2.0
"""The byte streams: each way of not being there has a name, and what lies unread is known."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import termios
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.channels.connect import open_stream, unread
from host_agent.channels.endpoint import Endpoint
from host_agent.documents.document_file import Wanted
from host_agent.errors import Unreachable
from host_agent.keys import Identity
from host_agent.ledger.ledger import Ledger
from host_agent.talk.conversation import Conversation
from host_agent.talk.drive import Batch, Drive, Waiting
from host_agent.talk.timing import Timing
from pv_channel.document import from_values
from pv_channel.greeting import NO_UUID
from pv_channel.noise import KeyPair
from tests.host.fakes import CHANNEL, PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(tmp_path / "vm.sock"))
        made.listen(0)
        yield made


def connect_socket_object(path: Path) -> socket.socket:
    return socket.socket(fileno=open_stream(Endpoint(path)))


def word_of(path: Path) -> str:
    with pytest.raises(Unreachable) as caught:
        os.close(open_stream(Endpoint(path)))
    assert str(path)[:60] in str(caught.value)
    return caught.value.word


def test_each_way_of_not_being_there_has_a_word(tmp_path: Path, listener: socket.socket) -> None:
    assert word_of(tmp_path / "nowhere") == "missing"
    assert word_of(tmp_path / ("x" * 120)) == "too-long"
    (tmp_path / "file").write_text("")
    assert word_of(tmp_path / "file") == "no-socket"
    path = Path(listener.getsockname())
    with connect_socket_object(path):  # a backlog of 0 has room for one
        assert word_of(path) == "busy"
    listener.close()
    assert word_of(path) == "dead"


def test_what_the_other_end_has_not_read_is_known(listener: socket.socket) -> None:
    descriptor = open_stream(Endpoint(Path(listener.getsockname())))
    client, _ = listener.accept()
    assert unread(descriptor) == 0
    os.write(descriptor, b"x" * 300)
    assert unread(descriptor) > 0
    client.recv(1000)
    assert unread(descriptor) == 0
    client.close()
    os.close(descriptor)


def test_a_pty_is_raw_and_keeps_what_came_before() -> None:
    controller, terminal = pty.openpty()
    os.write(controller, b"before\n")
    descriptor = open_stream(Endpoint(Path(os.ttyname(terminal)), is_pty=True))
    assert not termios.tcgetattr(descriptor)[3] & (termios.ECHO | termios.ICANON)
    assert os.read(descriptor, 100) == b"before\n"
    for each in (descriptor, controller, terminal):
        os.close(each)
    with pytest.raises(Unreachable, match="no such terminal"):
        open_stream(Endpoint(Path("/dev/pts/4294967"), is_pty=True))
    with pytest.raises(Unreachable, match="not a terminal"):
        open_stream(Endpoint(Path("/dev/null"), is_pty=True))


def conversation(what: Wanted, identity: Identity, ledger: Ledger, timing: Timing, now: float) -> Conversation:
    return Conversation(what, CHANNEL, identity, ledger, lambda notice: None, now=now, timing=timing)


def test_greetings_do_not_pile_up_before_a_guest_that_reads_nothing(tmp_path: Path) -> None:
    """The driver asks the kernel: hundreds of turns, one greeting."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    timing = Timing(first_greetings=(), greeting_every=0.002)
    document = from_values(PLAIN)
    what = Wanted("vm", NO_UUID, document, document.digest())
    identity = Identity(KeyPair.generate())

    async def story() -> None:
        ledger = Ledger.open(tmp_path / "state")
        batch = Batch(ledger, asyncio.get_running_loop())
        closed = asyncio.get_running_loop().create_future()
        begin = partial(conversation, what, identity, ledger, timing)
        drive = Drive(ours.detach(), batch, Waiting(begin, closed))
        drive.begin()
        await asyncio.sleep(0.3)
        assert theirs.recv(65536).count(b"\n>") == 1
        await asyncio.sleep(0.05)
        assert theirs.recv(65536).count(b"\n>") == 1
        theirs.close()
        assert "closed the connection" in await closed
        ledger.close()

    asyncio.run(story())
