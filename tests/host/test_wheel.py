# SPDX-License-Identifier: Apache-2.0
"""The one clock that everything waits on: nobody is woken early, nobody is forgotten, and many at once do not keep the loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from host_agent.talk import wheel
from host_agent.talk.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Sleeper:
    def __init__(self, woken: Callable[[], None]) -> None:
        self.wake = woken


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)


def test_they_are_woken_in_the_order_of_their_times_and_not_before() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        clock, woken, began = Wheel(loop), list[tuple[int, float]](), loop.time()
        for number, seconds in enumerate((0.2, 0.05, 0.1, -5.0)):
            clock.wake_at(began + seconds, Sleeper(lambda number=number: woken.append((number, loop.time() - began))))  # type: ignore[misc]
        await until(lambda: len(woken) == 4)
        assert [number for number, _ in woken] == [3, 1, 2, 0]
        assert all(at >= seconds for (_, at), seconds in zip(woken, (-5.0, 0.05, 0.1, 0.2), strict=True))

    asyncio.run(story())


def test_who_is_forgotten_is_not_woken_and_the_others_of_its_slot_are() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        clock, woken = Wheel(loop), list[str]()
        when = loop.time() + 0.05
        one, other = Sleeper(lambda: woken.append("one")), Sleeper(lambda: woken.append("other"))
        slot = clock.wake_at(when, one)
        assert clock.wake_at(when, other) == slot
        clock.forget(slot, one)
        clock.forget(slot, one)
        clock.forget(slot + 1000, one)
        await until(lambda: bool(woken))
        await asyncio.sleep(0.05)
        assert woken == ["other"]

    asyncio.run(story())


def test_those_that_are_due_together_leave_the_loop_to_others_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "SLICE_SECONDS", 0.0)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        clock, woken, turns = Wheel(loop), list[int](), 0
        for number in range(100):
            clock.wake_at(loop.time(), Sleeper(lambda number=number: woken.append(number)))  # type: ignore[misc]
        while len(woken) < 100:
            await asyncio.sleep(0)
            turns += 1
        assert woken == list(range(100))
        assert turns >= 100

    asyncio.run(story())


def test_who_sets_itself_anew_when_woken_is_woken_again_and_a_fault_in_one_stops_nobody() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        faults = list[object]()
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        clock, woken = Wheel(loop), list[int]()

        def again() -> None:
            woken.append(1)
            clock.wake_at(loop.time(), sleeper)

        def fail() -> None:
            raise ZeroDivisionError

        sleeper = Sleeper(again)
        clock.wake_at(loop.time(), Sleeper(fail))
        clock.wake_at(loop.time(), sleeper)
        await until(lambda: len(woken) >= 5)
        assert [type(fault) for fault in faults] == [ZeroDivisionError]

    asyncio.run(story())


def test_what_is_far_shares_its_slot_with_more() -> None:
    async def story() -> None:
        clock, now = Wheel(asyncio.get_running_loop()), asyncio.get_running_loop().time()
        far = {clock.wake_at(now + 30 + number / 100, Sleeper(lambda: None)) for number in range(100)}
        assert len(far) <= 11
        assert all(slot * wheel.GRAIN_SECONDS >= now + 30 for slot in far)

    asyncio.run(story())
