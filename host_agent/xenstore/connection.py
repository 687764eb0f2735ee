# SPDX-License-Identifier: Apache-2.0
"""One connection to xenstored: an answer finds its request, a request has a deadline, and what watches tell waits in a queue."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple, cast

from host_agent.xenstore.errors import Garbled, Lost, refused
from host_agent.xenstore.wire import Event, Message, MessageReader, Operation, encode, error_word, event

#: A daemon that has not answered by then is stuck, or replaced by another; xenstored itself answers within milliseconds.
ANSWER_SECONDS: Final = 20.0
#: Requests on their way at once. More would only wait in the daemon, where dom0's toolstack waits too.
MAX_IN_FLIGHT: Final = 32
#: Events that wait to be fetched; past that they are dropped, and whoever fetches is told to look at everything.
MAX_EVENTS: Final = 4096
_LAST_REQUEST: Final = 0xFFFFFFFF


class Events(NamedTuple):
    """What watches told since the last time; *missed* if that is not all, and everything must be looked at again."""

    events: list[Event]
    missed: bool


class _Asked(NamedTuple):
    operation: Operation
    path: str
    answer: asyncio.Future[bytes]


class Connection(asyncio.Protocol):
    """The protocol of asyncio's transport. Once `closed` it stays so, and whatever is asked of it raises `Lost`."""

    def __init__(self, answer_seconds: float = ANSWER_SECONDS, max_events: int = MAX_EVENTS) -> None:
        self._answer_seconds, self._max_events = answer_seconds, max_events
        self._reader = MessageReader()
        self._asked: dict[int, _Asked] = {}
        self._last = 0
        self._turn = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._events: deque[Event] = deque()
        self._missed = False
        self._something = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._reason = "there is no connection to xenstored yet"

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._transport is None

    async def ask(self, operation: Operation, payload: bytes, path: str, transaction: int = 0) -> bytes:
        """The answer's payload; raise `Refused` where the daemon says an error, `Lost` where there is no answer."""
        async with self._turn:
            number, answer = self._send(operation, payload, path, transaction)
            try:
                async with asyncio.timeout(self._answer_seconds):
                    return await answer
            except TimeoutError:
                self.close(f"xenstored did not answer within {self._answer_seconds:g} s")
                raise Lost(self._reason) from None
            finally:
                self._asked.pop(number, None)

    async def wait_for_events(self) -> None:
        """Return once there are events to take; raise `Lost` when there can be none any more."""
        await self._something.wait()
        if self.closed:
            raise Lost(self._reason)

    def take_events(self) -> Events:
        """All events that came since the last time, perhaps none."""
        taken = Events(list(self._events), self._missed)
        self._events.clear()
        self._missed = False
        if not self.closed:
            self._something.clear()
        return taken

    def close(self, reason: str = "the connection to xenstored was closed") -> None:
        """End it now; whoever waits for an answer gets `Lost` with *reason*."""
        if self._transport is not None:
            self._transport.abort()
            self._end(reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended, unless it was us who ended it."""
        self._end("xenstored closed the connection" if exc is None else f"the connection to xenstored broke: {exc}")

    def data_received(self, data: bytes) -> None:
        """Bytes of the daemon's; ones that are not its protocol end the connection."""
        try:
            for message in self._reader.feed(data):
                self._take(message)
        except Garbled as exc:
            self.close(str(exc))

    def _send(self, operation: Operation, payload: bytes, path: str, transaction: int) -> tuple[int, asyncio.Future[bytes]]:
        if self._transport is None:
            raise Lost(self._reason)
        number = self._last % _LAST_REQUEST + 1
        self._transport.write(encode(operation, number, transaction, payload, path))
        self._last = number
        answer = asyncio.get_running_loop().create_future()
        self._asked[number] = _Asked(operation, path, answer)
        return number, answer

    def _take(self, message: Message) -> None:
        if message.operation == Operation.WATCH_EVENT:
            self._queue(event(message.payload))
            return
        asked = self._asked.get(message.request)
        if asked is None or asked.answer.done():  # whoever asked was cancelled
            return
        if message.operation == Operation.ERROR:
            asked.answer.set_exception(refused(error_word(message.payload), asked.path))
        elif message.operation == asked.operation:
            asked.answer.set_result(message.payload)
        else:
            raise Garbled(f"xenstored answered a request of kind {asked.operation:d} with one of kind {message.operation}")

    def _queue(self, happened: Event) -> None:
        if len(self._events) < self._max_events:
            self._events.append(happened)
        else:
            self._missed = True
        self._something.set()

    def _end(self, reason: str) -> None:
        if self._transport is None:
            return
        self._transport, self._reason = None, reason
        for asked in self._asked.values():
            if not asked.answer.done():
                asked.answer.set_exception(Lost(reason))
        self._something.set()
