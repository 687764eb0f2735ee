# SPDX-License-Identifier: Apache-2.0
"""The host's end of one channel's byte stream. No bytes whatsoever make it raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pv_channel import messages
from pv_channel.errors import LocalError, Malformed, PeerError
from pv_channel.events import Counters, FromGuest, Heard, Lost, Refused, Sealed
from pv_channel.greeting import GuestGreeting, HostGreeting, Refusal, prologue
from pv_channel.line import (
    HOST_SPEAKS,
    NO_SESSION,
    SESSION_ID_BYTES,
    Line,
    LineReader,
    finish,
    header,
    parse,
    session_id,
)
from pv_channel.noise import Initiator, KeyPair
from pv_channel.states import Input, Role, State, after
from pv_channel.transport import HOST_FLOW, InFlight, Transport, TransportState

if TYPE_CHECKING:
    from collections.abc import Callable

    from pv_channel.events import HostEvent
    from pv_channel.messages import HostMessage
    from pv_channel.trust import Certificate


#: So often the host repeats a greeting before it makes a new one: the answer to this one may have been spoilt on its way.
MAX_REPEATS: Final = 16


#: What the host's end of a live session goes on from: its id, what it saw last, its counts, its greetings, and the session.
HostState = tuple[bytes, tuple[bytes, int], tuple[int, int, int, int, int], int, TransportState]


class Host:
    """The host's end of one stream to one VM. *random_bytes* and *generate* make session ids and ephemeral keys."""

    __slots__ = (
        "_certificate", "_channel", "_ephemeral", "_generate", "_id", "_key", "_may_say", "_out", "_random_bytes", "_reader",
        "_repeats", "_seen", "_transport", "_unsaid", "_uuid", "counters", "state",
    )  # fmt: skip

    def __init__(
        self,
        *,
        channel: bytes,
        uuid: bytes,
        key: KeyPair,
        random_bytes: Callable[[int], bytes],
        certificate: Certificate | None = None,
        generate: Callable[[], KeyPair] = KeyPair.generate,
    ) -> None:
        self.state = State.IDLE
        self.counters = Counters()
        self._channel, self._uuid, self._key, self._certificate = channel, uuid, key, certificate
        self._random_bytes, self._generate = random_bytes, generate
        self._reader = LineReader()
        self._out: list[bytes] = []
        self._seen = (NO_SESSION, 0)
        self._unsaid = False
        self._may_say = False
        self._id = NO_SESSION
        self._repeats = 0
        self._ephemeral: KeyPair | None = None
        self._transport: Transport | None = None

    @property
    def overlong(self) -> int:
        """How many lines were longer than a line may be."""
        return self._reader.overlong

    @property
    def unsent(self) -> int:
        """Bytes of messages that wait for the guest's acknowledgements."""
        return self._transport.unsent if self._transport else 0

    def be(self, key: KeyPair, certificate: Certificate | None) -> None:
        """Greet with this key from now on. A live session goes on; an answer to what was greeted before is not taken any more."""
        self._key, self._certificate, self._ephemeral = key, certificate, None

    def greet(self) -> None:
        """Greet, or greet again; raise `LocalError` while a session is live."""
        self._repeats = 0 if self.state is State.IDLE else (self._repeats + 1) % MAX_REPEATS
        self.state = after(Role.HOST, self.state, Input.GREET)
        if self._repeats == 0 or self._ephemeral is None:
            self._id = session_id(self._random_bytes(SESSION_ID_BYTES))
            self._ephemeral = self._generate()
        self._unsaid, self._may_say = False, True
        greeting = HostGreeting(self._channel, self._uuid, self._key.public, self._certificate, self._ephemeral.public)
        head = header(HOST_SPEAKS, self._id, self._seen[0], 0, self._seen[1])
        self._out.append(b"\n" + finish(head, greeting.encode()))

    def send(self, message: HostMessage) -> None:
        """Say *message*; raise `LocalError` unless a session is live."""
        if self._transport is None:
            raise LocalError("nothing is said before the handshake")
        self._transport.queue(messages.encode(message))

    def abandon(self, reason: str) -> Lost:
        """Give the live session or the greeting up, for a reason of the caller's own: silence, a key it does not accept."""
        if self._transport is not None:
            self._saw(self._transport.ids[1], self._transport.last_heard)
        return self._doubt(reason)

    def rest(self) -> None:
        """Nothing is said for a while: a live session takes less memory meanwhile, and goes on as it was."""
        if self._transport is not None:
            self._transport.rest()

    def asleep(self) -> HostState | None:
        """What a live session goes on from, by another end that is `awake`; None where there is something else to remember."""
        transport = None if self._transport is None or self._out or self._unsaid else self._transport.asleep()
        if transport is None or not self._reader.is_empty:
            return None
        counts = (*self.counters.counts, self._reader.overlong)
        return self._id, self._seen, counts, self._repeats, transport

    def awake(self, state: HostState) -> None:
        """Go on from *state*: this end is new, and that which was asleep is no more."""
        self._id, self._seen, counts, self._repeats, transport = state
        self.counters.counts, self._reader.overlong = counts[:4], counts[4]
        self._transport, self.state = Transport.awake(HOST_FLOW, transport), State.SEALED

    def data_to_send(self) -> bytes:
        """What to write to the stream now, and before leaving it: what is not acknowledged leaves the guest less room to answer.

        Raise `Malformed` when the session has used all its sequence numbers; then abandon it.
        """
        said = b"" if self._transport is None else self._transport.data_to_send()
        self._acknowledge()
        if self._out:
            said = b"".join((*self._out, said))
            self._out = []
        return said

    def receive(self, data: bytes) -> list[HostEvent]:
        """Take what came from the stream; return what it means."""
        events: list[HostEvent] = []
        for raw in self._reader.feed(data):
            try:
                line = parse(raw)
            except Malformed:
                self.counters.garbage += 1
                continue
            if line.direction == HOST_SPEAKS:
                self.counters.echoes += 1
            elif (event := self._take(line)) is not None:
                events.append(event)
        return events

    def _saw(self, guest_session: bytes, sequence: int) -> None:
        self._seen, self._unsaid = (guest_session, sequence), True

    def _acknowledge(self) -> None:
        """Say what was heard outside a live session, or the bytes of it would weigh on the guest for ever.

        Once between two greetings, or as far as a session has room: a guest that does not read must not fill our memory.
        """
        if not self._unsaid:
            return
        line = finish(header(HOST_SPEAKS, self._id, self._seen[0], 0, self._seen[1]), b"")
        if self._transport.count(len(line)) if self._transport is not None else self._may_say:
            self._unsaid = self._may_say = False
            self._out.append(line)

    def _take(self, line: Line) -> HostEvent | None:
        transport = self._transport
        if transport is not None and (line.host, line.guest) == transport.ids:
            return self._take_sealed(transport, line) if line.sequence else self._take_late(line)
        self._saw(line.guest, line.sequence)
        if line.host == self._id and not line.sequence and self.state is State.GREETING:
            return self._take_answer(line)
        self.counters.stale += 1
        return Heard() if transport is None else None

    def _take_answer(self, line: Line) -> HostEvent | None:
        try:
            answer = GuestGreeting.decode(line.payload)
            if answer.refusal is Refusal.SESSION:
                raise Malformed("no session was asked for")
        except Malformed:
            self.counters.garbage += 1
            return None
        if answer.refusal is not None:
            self.state = after(Role.HOST, self.state, Input.REFUSAL)
            return Refused(answer.refusal, answer.body)
        ephemeral, self._ephemeral = self._ephemeral, None
        if ephemeral is None:
            return None
        noise = Initiator(prologue(self._channel, self._uuid, line.host, line.guest), self._key, ephemeral)
        noise.write_message_1()
        try:
            guest_key, payload = noise.read_message_2(answer.body)
            hello = messages.decode_hello(payload)
        except PeerError as exc:
            return self._doubt(f"an answer that completes no handshake: {exc}")
        self.state = after(Role.HOST, self.state, Input.ANSWER)
        self._unsaid = False  # the session's first line says it
        self._transport = Transport(HOST_FLOW, (self._id, line.guest), noise.split(), InFlight(HOST_FLOW.in_flight_bytes))
        return Sealed(guest_key, hello)

    def _take_late(self, line: Line) -> HostEvent | None:
        """A line without sequence inside a live session: the answer once more, or word that the guest lost the session."""
        try:
            if GuestGreeting.decode(line.payload).refusal is Refusal.SESSION:
                self._saw(line.guest, line.sequence)
                return self._doubt("the guest does not have the session any more")
        except Malformed:
            self.counters.garbage += 1
            return None
        self.counters.repeats += 1
        return None

    def _take_sealed(self, transport: Transport, line: Line) -> HostEvent | None:
        if line.sequence <= transport.last_heard:
            self.counters.repeats += 1
            return None
        try:
            message = transport.open(line)
            event = None if message is None else FromGuest(messages.decode_from_guest(message))
        except PeerError as exc:
            self._saw(line.guest, line.sequence)
            return self._doubt(str(exc))
        self.state = after(Role.HOST, self.state, Input.LINE)
        return event

    def _doubt(self, reason: str) -> Lost:
        self.state = after(Role.HOST, self.state, Input.DOUBT)
        self._transport = self._ephemeral = None
        self._may_say = True
        return Lost(reason)
