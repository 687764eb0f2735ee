# SPDX-License-Identifier: Apache-2.0
"""All streams in one epoll: who is ready has its turn, who rests has none, and a descriptor used again is another stream's."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from host_agent.talk import streams
from host_agent.talk.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Ear:
    """A stream's two ends; what was told of it is counted."""

    def __init__(self, of: Streams) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self._of = of
        self.read = self.written = 0
        of.add(self.ours.fileno(), self)

    def readable(self) -> None:
        self.read += 1
        self.ours.recv(1)

    def writable(self) -> None:
        self.written += 1
        self._of.want_to_write(self.ours.fileno(), wanted=False)

    def end(self) -> None:
        self._of.remove(self.ours.fileno())
        self.ours.close()
        self.theirs.close()


async def turns(number: int = 5) -> None:
    """Of the loop."""
    for _ in range(number):
        await asyncio.sleep(0)


def run(story: Callable[[Streams], asyncio.Future[None] | object]) -> None:
    async def whole() -> None:
        of = Streams(asyncio.get_running_loop())
        await story(of)  # type: ignore[misc]
        of.close()

    asyncio.run(whole())


def test_who_has_something_to_read_is_told_and_nobody_else() -> None:
    async def story(of: Streams) -> None:
        one, other = Ear(of), Ear(of)
        one.theirs.send(b"xx")
        await turns()
        assert (one.read, other.read) == (2, 0)
        one.end()
        other.end()

    run(story)


def test_who_wants_to_write_is_told_once_it_can() -> None:
    async def story(of: Streams) -> None:
        ear = Ear(of)
        of.want_to_write(ear.ours.fileno(), wanted=True)
        await turns()
        assert (ear.read, ear.written) == (0, 1)
        ear.end()

    run(story)


def test_who_rests_is_told_nothing_not_even_that_the_other_end_went_until_it_has_rested() -> None:
    async def story(of: Streams) -> None:
        ear = Ear(of)
        of.rest(ear.ours.fileno())
        of.want_to_write(ear.ours.fileno(), wanted=True)
        ear.theirs.send(b"x")
        ear.theirs.close()
        await turns(50)
        assert (ear.read, ear.written) == (0, 0)
        of.resume(ear.ours.fileno(), writing=True)
        await turns()
        assert ear.read > 0
        assert ear.written == 1
        of.rest(ear.ours.fileno())
        ear.end()

    run(story)


def test_of_many_that_are_ready_each_has_its_turn_however_short_the_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(streams, "AT_ONCE", 7)

    async def story(of: Streams) -> None:
        ears = [Ear(of) for _ in range(30)]
        for ear in ears:
            ear.theirs.send(b"x" * 1000)
        await turns(30 * 4)
        assert min(ear.read for ear in ears) >= 2
        assert max(ear.read for ear in ears) <= 6
        for ear in ears:
            ear.end()

    run(story)


def test_a_stream_that_is_ended_by_another_is_told_no_more_and_its_descriptor_may_be_anothers() -> None:
    async def story(of: Streams) -> None:
        ears = [Ear(of) for _ in range(2)]
        first, second = ears
        heard = []

        def end_other() -> None:
            heard.append("first")
            first.ours.recv(1)
            number = second.ours.fileno()
            second.end()
            os.dup2(first.theirs.fileno(), number)  # a file of another's, by now
            os.close(number)

        first.readable = end_other  # type: ignore[method-assign]
        second.theirs.send(b"x")
        first.theirs.send(b"x")
        second.readable = lambda: heard.append("second")  # type: ignore[method-assign]
        await turns()
        assert heard in (["first"], ["second", "first"])
        first.end()

    run(story)
