# SPDX-License-Identifier: Apache-2.0
"""A guest that floods: how much of it is read, who waits because of it, and what the others notice."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from host_agent.documents.document_file import Wanted
from host_agent.keys import Identity
from host_agent.ledger.ledger import Ledger
from host_agent.talk.conversation import Conversation
from host_agent.talk.drive import READ_BYTES, Batch, Drive, Waiting
from host_agent.talk.intake import BURST_BYTES, BYTES_PER_SECOND, Intake
from host_agent.talk.notices import Notice, What
from host_agent.talk.timing import Timing
from pv_channel.document import from_values
from pv_channel.greeting import NO_UUID
from pv_channel.line import MAX_LINE_BYTES
from pv_channel.messages import MAX_GUEST_MESSAGE_BYTES
from pv_channel.noise import KeyPair
from tests.host.fakes import CHANNEL, PLAIN, FakeGuest


def test_the_longest_message_of_a_guest_is_read_at_once() -> None:
    intake = Intake()
    in_lines = 2 * MAX_GUEST_MESSAGE_BYTES
    assert not any(intake.took(MAX_LINE_BYTES, 5.0) for _ in range(in_lines // MAX_LINE_BYTES))


def test_who_says_more_rests_for_as_long_as_that_takes_at_the_slower_rate() -> None:
    intake = Intake()
    assert not intake.took(BURST_BYTES, 5.0)
    assert intake.took(BYTES_PER_SECOND, 5.0)
    assert intake.resumes == pytest.approx(6.0)


def test_in_the_long_run_it_is_the_slower_rate_however_it_comes() -> None:
    intake, now, taken = Intake(), 0.0, 0
    while now < 100.0:
        taken += 100
        now = intake.resumes if intake.took(100, now) else now
    assert taken <= BURST_BYTES + 101 * BYTES_PER_SECOND


def test_a_silence_earns_one_burst_and_no_more() -> None:
    intake = Intake()
    assert not intake.took(BURST_BYTES, 0.0)
    assert not intake.took(BURST_BYTES, 1000.0)
    assert intake.took(READ_BYTES, 1000.0)


class Streams:
    """Conversations over socketpairs in one loop, as many as a test asks for; what each was told is in *heard*."""

    def __init__(self, work: Path) -> None:
        self.ledger = Ledger.open(work / "state")
        self.batch = Batch(self.ledger, asyncio.get_running_loop())
        self.heard: dict[str, list[What]] = {}
        self.drives: list[Drive] = []

    def begin(self, name: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        document = from_values(PLAIN)
        what = Wanted(name, NO_UUID, document, document.digest())
        self.ledger.want(what.key, name, None, what.digest)
        heard = self.heard[name] = []

        def tell(notice: Notice) -> None:
            heard.append(notice.what)

        def conversation(now: float) -> Conversation:
            return Conversation(what, CHANNEL, IDENTITY, self.ledger, tell, now=now, timing=Timing())

        self.drives.append(Drive(ours.detach(), self.batch, Waiting(conversation, asyncio.get_running_loop().create_future())))
        self.drives[-1].begin()
        return theirs

    async def end(self) -> None:
        for drive in self.drives:
            drive.leave("the test is over")
        await asyncio.sleep(0)
        self.batch.close()
        self.ledger.close()


IDENTITY = Identity(KeyPair.generate())


def pour(into: socket.socket, flood: bytes) -> int:
    """As much as it takes now."""
    try:
        return into.send(flood)
    except BlockingIOError:
        return 0


def descriptors() -> int:
    """How many are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def answer(guest: FakeGuest, end: socket.socket) -> None:
    """What comes is answered; it takes its turn."""
    await asyncio.sleep(0.001)
    try:
        data = end.recv(65536)
    except BlockingIOError:
        return
    end.sendall(guest.receive(data))


@pytest.mark.parametrize("flood", [b"\n" * 4096, b"x\n" * 2048, b"y" * 4096, b"< AAAAAAAA BBBBBBBB 1 1 bm8= 00000000\n" * 100])
def test_a_flood_is_not_read_past_its_share_and_an_honest_neighbour_is_provisioned(tmp_path: Path, flood: bytes) -> None:
    """Whatever it is made of. What the kernel buffers for the flooding guest is the flooding guest's own to wait for."""

    async def story() -> None:
        streams = Streams(tmp_path)
        floods, quiet, guest = streams.begin("floods"), streams.begin("quiet"), FakeGuest()
        poured, took = 0, 1
        async with asyncio.timeout(60):
            while took or What.SETTLED not in streams.heard["quiet"]:
                took = pour(floods, flood)
                poured += took
                await answer(guest, quiet)
        assert BURST_BYTES < streams.batch.counts.received < poured
        assert What.LOST not in streams.heard["quiet"]
        floods.close()
        await streams.end()
        quiet.close()

    asyncio.run(story())


def test_a_guest_that_closes_while_it_rests_is_heard_of_when_it_has_rested(tmp_path: Path) -> None:
    async def story() -> None:
        streams = Streams(tmp_path)
        floods = streams.begin("floods")
        async with asyncio.timeout(60):
            while streams.batch.counts.received <= BURST_BYTES:
                pour(floods, b"x\n" * 2048)
                await asyncio.sleep(0.001)
            floods.close()
            while streams.batch.counts.streams:
                await asyncio.sleep(0.05)
        await streams.end()

    asyncio.run(story())


def test_nothing_is_left_open(tmp_path: Path) -> None:
    async def story() -> None:
        before = descriptors()
        streams = Streams(tmp_path)
        ends = [streams.begin(f"vm{number}") for number in range(20)]
        await asyncio.sleep(0.05)
        await streams.end()
        for end in ends:
            end.close()
        assert descriptors() <= before

    asyncio.run(story())
