# SPDX-License-Identifier: Apache-2.0
"""Two whole ends with a hostile wire between them: nothing raises, nothing overfills the ring, and a session still starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fuzz.mutate import mutate, random_bytes
from pv_channel.errors import PeerError
from pv_channel.line import finish, header
from pv_channel.messages import MAX_HOST_MESSAGE_BYTES, Hello, Ping, Pong, Provision
from pv_channel.noise import KeyPair
from pv_channel.session import FromGuest, FromHost, Guest, Host
from pv_channel.states import State
from pv_channel.transport import GUEST_IN_FLIGHT_BYTES
from pv_channel.trust import Trust

if TYPE_CHECKING:
    from random import Random

_CHANNEL: Final = b"org.pvchannel.config.1"
_LIVE: Final = (State.SEALED, State.RENEWING)
#: Rounds of hostile wire before a session must start again.
ROUNDS: Final = 40
#: What is recorded to be replayed: enough for lines of several sessions.
_KEPT: Final = 200


class Broken(Exception):  # noqa: N818 -- it says what a promise is
    """A promise of the ends that did not hold. *wire* is what was carried, newest last."""

    def __init__(self, what: str, wire: list[tuple[str, bytes]]) -> None:
        super().__init__(what)
        self.wire = wire


class Rig:
    """A host, a guest that pinned it, and the wire."""

    def __init__(self, source: Random) -> None:
        self.source = source
        self.wire: list[tuple[str, bytes]] = []
        self.carried = 0
        self._host_key = KeyPair.from_private(bytes([1]) * 32)
        self._old: list[bytes] = [b"\n"]
        self.host = self._new_host()
        self.guest = self._new_guest()

    def _generate(self) -> KeyPair:
        return KeyPair.from_private(self.source.randbytes(32))

    def _new_host(self) -> Host:
        return Host(
            channel=_CHANNEL, uuid=bytes(16), key=self._host_key, random_bytes=self.source.randbytes, generate=self._generate
        )

    def _new_guest(self) -> Guest:
        return Guest(
            channel=_CHANNEL,
            uuid=bytes(16),
            key=KeyPair.from_private(bytes([2]) * 32),
            trust=Trust(frozenset({self._host_key.public})),
            hello=Hello("0.1.0"),
            random_bytes=self.source.randbytes,
            generate=self._generate,
        )

    def hostile(self) -> None:
        """Some rounds in which the wire does what it likes."""
        for _ in range(ROUNDS):
            self._speak()
            self._carry("guest", self._spoil(self.host.data_to_send()))
            self._carry("host", self._spoil(self.guest.data_to_send()))
            if self.source.random() < 0.02:
                self.host = self._new_host()
            if self.source.random() < 0.02:
                self.guest = self._new_guest()

    def start_again(self) -> None:
        """On a clean wire a session must start, and both must be heard; raise `Broken` where not."""
        self._carry("guest", b"\n")
        self._carry("host", b"\n")
        for _ in range(64):
            if self.host.state is not State.IDLE:
                self.host.abandon("the wire is clean now")
            self.host.greet()
            self._settle()
            if self.host.state is State.SEALED and self._heard():
                return
        raise Broken("no session starts on a clean wire", self.wire)

    def _heard(self) -> bool:
        number = self.source.randrange(2**53)
        self.host.send(Ping(number))
        at_guest, _ = self._settle()
        if FromHost(Ping(number)) not in at_guest:
            return False
        self.guest.send(Pong(number))
        _, at_host = self._settle()
        return FromGuest(Pong(number)) in at_host

    def _settle(self) -> tuple[list[object], list[object]]:
        """Carry everything until nobody has more to say; what the guest and the host heard."""
        at_guest: list[object] = []
        at_host: list[object] = []
        for _ in range(100_000):
            to_guest, to_host = self.host.data_to_send(), self.guest.data_to_send()
            if not to_guest and not to_host:
                return at_guest, at_host
            at_guest += self._carry("guest", to_guest)
            at_host += self._carry("host", to_host)
        raise Broken("the two talk for ever", self.wire)

    def _speak(self) -> None:
        source = self.source
        if self.host.state is State.SEALED:
            if source.random() < 0.1:
                self.host.abandon("the driver's whim")
            elif source.random() < 0.5:
                self.host.send(Ping(source.randrange(1000)))
            elif source.random() < 0.05:
                size = source.choice((10, 3000, 100_000, MAX_HOST_MESSAGE_BYTES))
                self.host.send(Provision(msgspec.Raw(b'"' + b"x" * size + b'"')))
        elif source.random() < 0.5:
            self.host.greet()
        if self.guest.state in _LIVE and source.random() < 0.5 and self.guest.unsent < 100_000:
            self.guest.send(Pong(source.randrange(1000)))

    def _spoil(self, data: bytes) -> bytes:
        source = self.source
        self._old = (self._old + [line for line in data.split(b"\n") if line])[-_KEPT:]
        match source.randrange(12):
            case 0:
                return b""
            case 1:
                return data + data
            case 2:
                return b"\n" + source.choice(self._old) + b"\n" + data
            case 3:
                return mutate(source, data, self._old)
            case 4:
                return random_bytes(source) + data
            case 5:
                return random_bytes(source) + b"\n" + data
            case 6:
                return data.replace(b"\n", b"\r\n")
            case 7:
                return self._forged() + data
            case _:
                return data

    def _forged(self) -> bytes:
        """A line with ids that were seen, numbers and a payload of anybody's, and a right checksum."""
        source = self.source
        fields = source.choice(self._old).split(b" ")
        ids = [field for field in fields if len(field) == 8] or [b"AAAAAAAA"]
        numbers = [source.choice((0, 1, 2, 3, 5, 2**32 - 1)) for _ in range(2)]
        head = header(source.choice((b">", b"<")), source.choice(ids), source.choice(ids), numbers[0], numbers[1])
        return b"\n" + finish(head, source.choice((b"", b"\x01\x00", b"\x01\x03" + bytes(16), source.randbytes(80))))

    def _carry(self, to: str, data: bytes) -> list[object]:
        """Bring *data* to one end in pieces; raise `Broken` where a promise does not hold."""
        self.wire = [*self.wire[-300:], (to, data)]
        self.carried += len(data)
        end = self.guest if to == "guest" else self.host
        heard: list[object] = []
        cut = self.source.randint(0, len(data))
        try:
            for piece in (data[:cut], data[cut:]):
                heard += end.receive(piece)
        except Exception as exc:
            kind = "one of our own errors" if isinstance(exc, PeerError) else "an error"
            raise Broken(f"receive of the {to} raised {kind}, {exc!r}", self.wire) from exc
        if self.guest.in_flight > GUEST_IN_FLIGHT_BYTES:
            raise Broken(f"the guest has {self.guest.in_flight} bytes in flight", self.wire)
        return heard
