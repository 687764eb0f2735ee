# SPDX-License-Identifier: Apache-2.0
"""One clock for everything that waits: what is due in the same hundredth of a second is woken in one turn of the loop.

A timer of the loop's own for each VM costs three times the memory, and a comparison in Python for each step of its heap
(docs/decisions/one-epoll-one-clock.md).
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import ceil
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

#: Nothing is woken early, and what is near nothing later than this, unless there is much to do.
GRAIN_SECONDS: Final = 0.01
#: Who waits for longer than this may wait for so many grains more, in the company of more others: a slot costs memory.
_FAR_SECONDS: Final = 2.0
_FAR_GRAINS: Final = 10
#: How long those that are due may keep the loop from everybody else.
SLICE_SECONDS: Final = 0.005


class Sleeper(Protocol):
    """Whoever waits. What goes wrong in `wake` is its own affair."""

    def wake(self) -> None:
        """It is time."""


class Wheel:
    """The slots of time, of which each has those that are due in it, first come, first woken."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, dict[Sleeper, None]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def wake_at(self, when: float, sleeper: Sleeper) -> int:
        """Wake *sleeper* at *when*, or soon where that is past; its slot, for `forget`."""
        now = self._loop.time()
        slot = ceil(max(when, now) / GRAIN_SECONDS)
        if when - now > _FAR_SECONDS:
            slot += -slot % _FAR_GRAINS
        sleepers = self._slots.get(slot)
        if sleepers is None:
            sleepers = self._slots[slot] = {}
            heappush(self._order, slot)
            self._set_timer()
        sleepers[sleeper] = None
        return slot

    def forget(self, slot: int, sleeper: Sleeper) -> None:
        """Do not wake it in that slot any more."""
        self._slots.get(slot, {}).pop(sleeper, None)

    def _set_timer(self) -> None:
        """Come back when the first slot is due."""
        when = self._order[0] * GRAIN_SECONDS
        if self._timer is None or when < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._turn)

    def _turn(self) -> None:
        """Wake those that are due, for a slice of time; the others follow in the next turn."""
        self._timer = None
        now = self._loop.time()
        end = now + SLICE_SECONDS
        try:
            while self._order and self._order[0] * GRAIN_SECONDS <= now:
                sleepers = self._slots[self._order[0]]
                while sleepers:
                    sleeper = next(iter(sleepers))
                    del sleepers[sleeper]
                    sleeper.wake()
                    if self._loop.time() >= end:
                        return
                del self._slots[heappop(self._order)]
        finally:
            if self._order:
                self._set_timer()
