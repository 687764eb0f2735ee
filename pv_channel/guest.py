# SPDX-License-Identifier: Apache-2.0
"""The guest's end of one channel's byte stream. No bytes whatsoever make it raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pv_channel import messages
from pv_channel.digest import sha256
from pv_channel.errors import LocalError, Malformed, NotAuthenticated, PeerError, Revoked
from pv_channel.events import Counters, FromHost, Lost, Opened, Refused, WrongChannel
from pv_channel.greeting import DETAIL_BYTES, NO_UUID, GuestGreeting, HostGreeting, Refusal, prologue
from pv_channel.line import (
    GUEST_SPEAKS,
    NO_SESSION,
    SESSION_ID_BYTES,
    Line,
    LineReader,
    finish,
    header,
    parse,
    session_id,
)
from pv_channel.noise import KeyPair, Responder
from pv_channel.states import Input, Role, State, after
from pv_channel.transport import GUEST_FLOW, InFlight, Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from pv_channel.events import GuestEvent
    from pv_channel.messages import GuestMessage, Hello
    from pv_channel.trust import Trust


class _Answered(msgspec.Struct, frozen=True):
    """A greeting that was answered and not yet followed by a sealed line."""

    transport: Transport
    line: bytes
    opened: Opened


class Guest:
    """The guest's end of one stream. *uuid* is this VM's where it is known; *hello* is what the next handshake says of it.

    *trust* and *hello* may be replaced between calls: the caller pins a first host key, and a generation comes into force.
    """

    def __init__(
        self,
        *,
        channel: bytes,
        uuid: bytes | None,
        key: KeyPair,
        trust: Trust,
        hello: Hello,
        random_bytes: Callable[[int], bytes],
        generate: Callable[[], KeyPair] = KeyPair.generate,
    ) -> None:
        self.state = State.SILENT
        self.counters = Counters()
        self.trust, self.hello = trust, hello
        self._channel, self._uuid, self._key = channel, uuid, key
        self._random_bytes, self._generate = random_bytes, generate
        self._reader = LineReader()
        self._out: list[bytes] = []
        self._in_flight = InFlight(GUEST_FLOW.in_flight_bytes)
        self._asked = 0
        self._answered: _Answered | None = None
        self._live: Transport | None = None
        self._disowned = NO_SESSION

    @property
    def overlong(self) -> int:
        """How many lines were longer than a line may be."""
        return self._reader.overlong

    @property
    def in_flight(self) -> int:
        """Bytes sent that the host has not acknowledged; never above `transport.GUEST_IN_FLIGHT_BYTES`."""
        return self._in_flight.used

    @property
    def unsent(self) -> int:
        """Bytes of messages that wait for the host's acknowledgements."""
        return self._live.unsent if self._live else 0

    def send(self, message: GuestMessage) -> None:
        """Say *message*; raise `LocalError` unless a session is live."""
        if self._live is None:
            raise LocalError("a guest never speaks before it is spoken to")
        self._live.queue(messages.encode(message))

    def data_to_send(self) -> bytes:
        """What to write to the stream now. Raise `Malformed` when the session has used all its sequence numbers: start anew."""
        said = b"" if self._live is None else self._live.data_to_send()
        if self._out:
            said = b"".join((*self._out, said))
            self._out = []
        return said

    def receive(self, data: bytes) -> list[GuestEvent]:
        """Take what came from the stream; return what it means. Of several greetings only the last is answered."""
        events: list[GuestEvent] = []
        greeting: Line | None = None
        for raw in self._reader.feed(data):
            try:
                line = parse(raw)
            except Malformed:
                self.counters.garbage += 1
                continue
            if line.direction == GUEST_SPEAKS:
                self.counters.echoes += 1
            elif line.sequence:
                events += self._take_sealed(line)
            else:
                if self._in_flight.acknowledge(line.guest, line.acknowledgement):
                    self._asked = 0
                greeting = line if line.payload else greeting
        if greeting is not None:
            events += self._take_greeting(greeting)
        return events

    def _take_sealed(self, line: Line) -> list[GuestEvent]:
        ids = (line.host, line.guest)
        if self._live is not None and ids == self._live.ids:
            return self._take_line(self._live, line)
        if self._answered is not None and ids == self._answered.transport.ids:
            return self._take_first(self._answered, line)
        self.counters.stale += 1
        if self._live is None and line.guest not in (self._disowned, NO_SESSION):
            self._disowned = line.guest
            self._refuse(line.host, line.guest, Refusal.SESSION, bytes(DETAIL_BYTES))
        return []

    def _take_line(self, live: Transport, line: Line) -> list[GuestEvent]:
        if line.sequence <= live.last_heard:
            self.counters.repeats += 1
            return []
        try:
            message = live.open(line)
            said = None if message is None else messages.decode_from_host(message)
        except PeerError as exc:
            self.state = after(Role.GUEST, self.state, Input.DOUBT)
            self._live = None
            return [Lost(str(exc))]
        self.state = after(Role.GUEST, self.state, Input.LINE)
        return [] if said is None else [FromHost(said)]

    def _take_first(self, answered: _Answered, line: Line) -> list[GuestEvent]:
        try:
            message = answered.transport.open(line)
            said = None if message is None else messages.decode_from_host(message)
        except PeerError:
            self.counters.garbage += 1
            self.state = after(Role.GUEST, self.state, Input.FALSE_START)
            self._answered = None
            return []
        events: list[GuestEvent] = [Lost("the host shook hands again")] if self._live is not None else []
        self.state = after(Role.GUEST, self.state, Input.FIRST_LINE)
        self._live, self._answered, self._asked = answered.transport, None, 0
        events.append(answered.opened)
        return events if said is None else [*events, FromHost(said)]

    def _take_greeting(self, line: Line) -> list[GuestEvent]:
        if self._live is not None and line.host == self._live.ids[0]:
            self.counters.repeats += 1
            return []
        try:
            greeting = HostGreeting.decode(line.payload)
        except Malformed:
            self.counters.garbage += 1
            return []
        if greeting.channel != self._channel:
            return [WrongChannel(greeting.channel)]
        if self._answered is not None and line.host == self._answered.transport.ids[0]:
            self.state = after(Role.GUEST, self.state, Input.GREETING)
            self._say(self._answered.transport.ids[1], self._answered.line)
            return []
        return self._answer(line.host, greeting)

    def _answer(self, host_session: bytes, greeting: HostGreeting) -> list[GuestEvent]:
        guest_session = session_id(self._random_bytes(SESSION_ID_BYTES))
        if self._uuid is not None and greeting.uuid != self._uuid:
            return [self._refuse(host_session, guest_session, Refusal.UUID, self._uuid)]
        try:
            verdict = self.trust.judge(greeting.host_key, greeting.certificate)
            agreed = prologue(greeting.channel, greeting.uuid, host_session, guest_session)
            noise = Responder(agreed, self._key, greeting.host_key, self._generate)
            noise.read_message_1(greeting.message_1)
            body = noise.write_message_2(messages.encode(self.hello))
        except NotAuthenticated as exc:
            return [self._refuse_host(host_session, guest_session, greeting.host_key, exc)]
        line = self._greeting_line(host_session, guest_session, GuestGreeting(None, body))
        transport = Transport(GUEST_FLOW, (host_session, guest_session), noise.split(), self._in_flight)
        self.state = after(Role.GUEST, self.state, Input.GREETING)
        self._answered = _Answered(transport, line, Opened(greeting.host_key, greeting.certificate, verdict))
        self._say(guest_session, line)
        return []

    def _refuse_host(self, host_session: bytes, guest_session: bytes, host_key: bytes, why: NotAuthenticated) -> Refused:
        if isinstance(why, Revoked):
            refused = self._refuse(host_session, guest_session, Refusal.REVOKED, sha256(why.key)[:DETAIL_BYTES], host_key)
            return msgspec.structs.replace(refused, revoked=why.key)
        believed = sha256(min(self.trust.believed, default=b""))
        return self._refuse(host_session, guest_session, Refusal.HOST_KEY, believed[:DETAIL_BYTES], host_key)

    def _refuse(
        self, host_session: bytes, guest_session: bytes, refusal: Refusal, detail: bytes, about: bytes = NO_UUID
    ) -> Refused:
        self.state = after(Role.GUEST, self.state, Input.REFUSAL)
        self._say(guest_session, self._greeting_line(host_session, guest_session, GuestGreeting(refusal, detail)))
        return Refused(refusal, about)

    @staticmethod
    def _greeting_line(host_session: bytes, guest_session: bytes, answer: GuestGreeting) -> bytes:
        return b"\n" + finish(header(GUEST_SPEAKS, host_session, guest_session, 0, 0), answer.encode())

    def _say(self, guest_session: bytes, line: bytes) -> None:
        """Send a line without sequence, if the ring has room and the same is not in it. While nobody acknowledges, only the 1st,
        2nd, 4th, 8th … time: hosts that greet for hours into a guest whose answers are lost must not fill the ring with them."""
        if self._in_flight.holds(guest_session, 0):
            return
        self._asked += 1
        if self._asked & (self._asked - 1) == 0 and len(line) <= self._in_flight.room:
            self._in_flight.sent(guest_session, 0, len(line))
            self._out.append(line)
