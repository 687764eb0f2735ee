# SPDX-License-Identifier: Apache-2.0
"""The streams of all VMs in one epoll(7): those that can be read or written take turns, and the loop's other work is not kept.

The loop's own way costs each stream a handle, a key and two bound methods (docs/decisions/one-epoll-one-clock.md).
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

#: So many streams are asked for at once; those that are ready stand in the kernel's line, and whoever was served goes to its end.
AT_ONCE: Final = 256
#: How long they may keep the loop from everything else: timers, looks, the commit that what they said waits for.
SLICE_SECONDS: Final = 0.02


class Stream(Protocol):
    """One VM's. What goes wrong in it is its own affair."""

    def readable(self) -> None:
        """There is something to read, or the stream is over."""

    def writable(self) -> None:
        """There is room to write."""


class Streams:
    """By their descriptors."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._streams: dict[int, Stream] = {}
        self._left: list[tuple[int, int]] = []

    def add(self, descriptor: int, stream: Stream) -> None:
        """Tell *stream* from now on when it can be read."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._turn)
        self._streams[descriptor] = stream
        self._epoll.register(descriptor, select.EPOLLIN)

    def want_to_write(self, descriptor: int, *, wanted: bool) -> None:
        """Tell it also when it can be written, or no longer."""
        if self._epoll is not None:
            with suppress(FileNotFoundError):  # it rests, and tries again when it does not
                self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def rest(self, descriptor: int) -> None:
        """Tell it nothing for a while, not even that the other end has gone, which epoll would never cease to say."""
        if self._epoll is not None:
            self._epoll.unregister(descriptor)

    def resume(self, descriptor: int, *, writing: bool) -> None:
        """Tell it again."""
        if self._epoll is not None:
            self._epoll.register(descriptor, select.EPOLLIN | (select.EPOLLOUT if writing else 0))

    def remove(self, descriptor: int) -> None:
        """The stream is over; its descriptor is still open."""
        del self._streams[descriptor]
        if self._epoll is not None:
            with suppress(FileNotFoundError):  # it rests
                self._epoll.unregister(descriptor)

    def close(self) -> None:
        """No more."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _turn(self) -> None:
        """Serve those that are ready, for a slice of time; whoever is left comes first in the next turn."""
        if self._epoll is None:
            return
        end = self._loop.time() + SLICE_SECONDS
        ready = self._left or self._epoll.poll(0, AT_ONCE)
        self._left = []
        for position, (descriptor, events) in enumerate(ready, 1):
            self._serve(descriptor, events)
            if self._loop.time() >= end:
                self._left = ready[position:]
                break

    def _serve(self, descriptor: int, events: int) -> None:
        stream = self._streams.get(descriptor)
        if stream is None:  # ended by one that was served before it
            return
        if events & ~select.EPOLLOUT:
            stream.readable()
        if events & select.EPOLLOUT and self._streams.get(descriptor) is stream:
            stream.writable()
