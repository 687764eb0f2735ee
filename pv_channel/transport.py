# SPDX-License-Identifier: Apache-2.0
"""One sealed session's lines: numbered, split and joined, acknowledged, and never more of them under way than the ring takes.

Nothing is sent twice: a gap, a bad tag or a wrong acknowledgement ends the session, and the two sides shake hands again.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pv_channel.errors import Malformed
from pv_channel.line import (
    GUEST_SPEAKS,
    HOST_SPEAKS,
    MAX_LINE_BYTES,
    MAX_SEQUENCE,
    NO_SESSION,
    Line,
    finish,
    header,
    payload_room,
)
from pv_channel.messages import MAX_GUEST_MESSAGE_BYTES, MAX_HOST_MESSAGE_BYTES
from pv_channel.noise import TAG_BYTES, CipherState

#: The first byte of a sealed payload: the message goes on in the next line, or ends in this one.
#: An empty payload only acknowledges.
MORE: Final = b"+"
LAST: Final = b"."
#: What stands behind a line's payload: a blank, the CRC-32, the newline.
_TRAILER_BYTES: Final = 10


class Flow(msgspec.Struct, frozen=True):
    """How one role sends. *line_bytes* and *in_flight_bytes* bound what it sends.

    *ack_after* is how much it hears before it says so; *acks_count* is whether bare acknowledgements it hears add to that:
    on one side only, or the two would answer each other for ever. *reserved_bytes* is what messages leave free of what may be
    in flight: on the side whose acknowledgements count, for those; on the other, for what it says outside the session.
    """

    direction: bytes
    line_bytes: int
    in_flight_bytes: int
    reserved_bytes: int
    ack_after: int
    acks_count: bool
    max_message_bytes: int


#: A PV console's ring towards dom0 holds 2,048 bytes, and a guest that writes into a full one whose QEMU is dead hangs a vCPU
#: (Linux, drivers/tty/hvc/hvc_xen.c, domU_write_console). What is left over is for the tty's own echo.
GUEST_IN_FLIGHT_BYTES: Final = 1900
#: The host acknowledges this often, so that what a guest may be waiting for (less than this) and a line of its fit together.
_HOST_ACK_AFTER: Final = 475
_GUEST_LINE_BYTES: Final = 700
#: Kept free by the guest for its answer to a new greeting: a host that died with all that was in flight must get one.
GUEST_RESERVED_BYTES: Final = 512
#: Kept free by the host for its acknowledgements, else each side could wait for the other's. One for each 475 of 1,900 bytes is
#: four, of at most 72 bytes each; a guest that hears one acknowledges it with its next line.
HOST_RESERVED_BYTES: Final = 1024

HOST_FLOW: Final = Flow(
    HOST_SPEAKS,
    line_bytes=MAX_LINE_BYTES,
    # Against a guest that never acknowledges: what dom0 buffers for it. The ring itself has back-pressure in this direction.
    in_flight_bytes=64 * 1024,
    reserved_bytes=HOST_RESERVED_BYTES,
    ack_after=_HOST_ACK_AFTER,
    acks_count=True,
    max_message_bytes=MAX_GUEST_MESSAGE_BYTES,
)
GUEST_FLOW: Final = Flow(
    GUEST_SPEAKS,
    line_bytes=_GUEST_LINE_BYTES,
    in_flight_bytes=GUEST_IN_FLIGHT_BYTES,
    reserved_bytes=GUEST_RESERVED_BYTES,
    ack_after=4096,
    acks_count=False,
    max_message_bytes=MAX_HOST_MESSAGE_BYTES,
)


#: What a session goes on from: its ids, both ciphers' states, the last line sent, heard and acknowledged, what is owed, and each
#: line that is under way.
TransportState = tuple[
    tuple[bytes, bytes], tuple[bytes, int], tuple[bytes, int], int, int, int, int, list[tuple[bytes, int, int]]
]


class InFlight:
    """What was sent and not yet acknowledged, over all sessions of one stream: bytes stay in a ring when a session ends."""

    __slots__ = ("_limit", "_lines", "used")

    def __init__(self, limit: int) -> None:
        self._lines: list[tuple[bytes, int, int]] = []
        self._limit = limit
        self.used = 0

    @property
    def room(self) -> int:
        """How many more bytes may be sent."""
        return self._limit - self.used

    def sent(self, session: bytes, sequence: int, size: int) -> None:
        """A line of *size* bytes was sent."""
        self._lines.append((session, sequence, size))
        self.used += size

    def acknowledge(self, session: bytes, sequence: int) -> bool:
        """The peer has read that line, so also everything before it; whether that was news.

        Nothing else is taken for it, be it in the same session: a guest may say a line 0 again behind a line 5.
        """
        heard = 0
        for position, (of, number, size) in enumerate(self._lines, 1):
            heard += size
            if number == sequence and of == session:
                self.used -= heard
                del self._lines[:position]
                return True
        return False

    @property
    def lines(self) -> list[tuple[bytes, int, int]]:
        """Each line that is under way: its session, its number, its size."""
        return list(self._lines)

    def holds(self, session: bytes, sequence: int) -> bool:
        """Whether that line was sent and is not acknowledged."""
        return any(number == sequence and of == session for of, number, _ in self._lines)


class Transport:
    """A sealed session seen from one role: lines in, messages out, and the other way round."""

    __slots__ = (
        "_acknowledged", "_flow", "_in_flight", "_last_sent", "_owed", "_parts", "_parts_bytes", "_queue", "_queued_from",
        "_receiving", "_sending", "ids", "last_heard",
    )  # fmt: skip

    def __init__(
        self, flow: Flow, ids: tuple[bytes, bytes], ciphers: tuple[CipherState, CipherState], in_flight: InFlight
    ) -> None:
        self.ids = ids
        self._flow = flow
        self._sending, self._receiving = ciphers
        self._in_flight = in_flight
        self._last_sent = 0
        #: The number of the last line that was opened; a line with no higher one is a replay, harmless and to be dropped.
        self.last_heard = 0
        self._acknowledged = -1
        self._owed = 0
        self._parts: list[bytes] | None = None
        self._parts_bytes = 0
        self._queue: list[bytes] | None = None
        self._queued_from = 0

    @property
    def unsent(self) -> int:
        """Bytes of messages that wait for room."""
        return sum(map(len, self._queue or ())) - self._queued_from

    def open(self, line: Line) -> bytes | None:
        """The message that *line* completes, if it does.

        Raise `Malformed` for a gap and for what no honest peer sends, `NotAuthenticated` for a bad tag; then the session is over.
        """
        if line.sequence != self.last_heard + 1:
            raise Malformed(f"a gap: line {line.sequence} after line {self.last_heard}")
        plaintext = self._receiving.decrypt_with_ad(line.header, line.payload)
        if line.acknowledgement > self._last_sent:
            raise Malformed("an acknowledgement of what was never sent")
        self.last_heard = line.sequence
        if line.acknowledgement > self._acknowledged:
            self._acknowledged = line.acknowledgement
            self._in_flight.acknowledge(self.ids[1], line.acknowledgement)
        if plaintext or self._flow.acks_count:
            self._owed += len(line.header) + (len(line.payload) + 2) // 3 * 4 + _TRAILER_BYTES
        return self._join(plaintext) if plaintext else None

    def count(self, size: int) -> bool:
        """Count a line from outside the session among what is under way; False, and nothing changed, where there is no room."""
        if size > self._in_flight.room - self._flow.reserved_bytes:
            return False
        self._in_flight.sent(NO_SESSION, 0, size)
        return True

    def rest(self) -> None:
        """Nothing is said for a while."""
        self._sending.rest()
        self._receiving.rest()
        self._queue = self._queue or None

    def asleep(self) -> TransportState | None:
        """What the session goes on from; None where something waits to be sent, or to be joined."""
        if self._queue or self._parts:
            return None
        numbers = (self._last_sent, self.last_heard, self._acknowledged, self._owed)
        return self.ids, self._sending.state, self._receiving.state, *numbers, self._in_flight.lines

    @classmethod
    def awake(cls, flow: Flow, state: TransportState) -> Transport:
        """The session that had this state."""
        ids, sending, receiving, last_sent, last_heard, acknowledged, owed, lines = state
        in_flight = InFlight(flow.in_flight_bytes)
        for line in lines:
            in_flight.sent(*line)
        transport = cls(flow, ids, (CipherState.awake(sending), CipherState.awake(receiving)), in_flight)
        transport._last_sent, transport.last_heard = last_sent, last_heard
        transport._acknowledged, transport._owed = acknowledged, owed
        return transport

    def _join(self, plaintext: bytes) -> bytes | None:
        mark, part = plaintext[:1], plaintext[1:]
        if mark == LAST and not self._parts and len(part) <= self._flow.max_message_bytes:
            return part
        self._parts_bytes += len(part)
        # A part that goes on and brings nothing would cost memory that nothing counts.
        if mark not in (MORE, LAST) or (mark == MORE and not part) or self._parts_bytes > self._flow.max_message_bytes:
            raise Malformed("a message that is too long or of the wrong shape")
        parts = self._parts = self._parts or []
        parts.append(part)
        if mark == MORE:
            return None
        self._parts, self._parts_bytes = None, 0
        return b"".join(parts)

    def queue(self, message: bytes) -> None:
        """Send *message* when there is room."""
        self._queue = self._queue or []
        self._queue.append(message)

    def data_to_send(self) -> bytes:
        """The lines that may go out now, with an acknowledgement where one is due.

        Raise `Malformed` when the session is used up.
        """
        lines = []
        while self._queue:
            line = self._next_line(self._queue)
            if line is None:
                break
            lines.append(line)
        if self._owed >= self._flow.ack_after:
            line = self._seal(self._header(), b"")
            if line is not None:
                lines.append(line)
        return b"".join(lines)

    def _next_line(self, queue: list[bytes]) -> bytes | None:
        """The next line of the first message in the queue, or None where it does not fit yet."""
        head = self._header()
        message, start = queue[0], self._queued_from
        end = start + payload_room(head, self._flow.line_bytes) - TAG_BYTES - 1
        mark = LAST if end >= len(message) else MORE
        line = self._seal(head, mark + message[start:end])
        if line is None:
            return None
        if mark == LAST:
            del queue[0]
            end = 0
        self._queued_from = end
        return line

    def _header(self) -> bytes:
        if self._last_sent >= MAX_SEQUENCE:
            raise Malformed("the session has used all its sequence numbers")
        return header(self._flow.direction, *self.ids, self._last_sent + 1, self.last_heard)

    def _seal(self, head: bytes, plaintext: bytes) -> bytes | None:
        """The line, numbered and under way; None, and nothing changed, where there is no room for it."""
        size = len(head) + (len(plaintext) + TAG_BYTES + 2) // 3 * 4 + _TRAILER_BYTES
        only_acknowledges = not plaintext and self._flow.acks_count
        if size > self._in_flight.room - (0 if only_acknowledges else self._flow.reserved_bytes):
            return None
        line = finish(head, self._sending.encrypt_with_ad(head, plaintext))
        self._last_sent += 1
        self._in_flight.sent(self.ids[1], self._last_sent, len(line))
        self._owed = 0
        return line
