# SPDX-License-Identifier: Apache-2.0
"""Two ends with fixed keys and a wire between them that misbehaves as real ones do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from pv_channel import CHANNEL_NAME
from pv_channel.greeting import channel_name, uuid_bytes
from pv_channel.line import SESSION_ID_BYTES
from pv_channel.messages import Hello, Ping, Pong, Provision
from pv_channel.noise import KeyPair
from pv_channel.session import FromGuest, FromHost, Guest, Host
from pv_channel.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from pv_channel.session import GuestEvent, HostEvent
    from pv_channel.trust import Certificate

CHANNEL: Final = channel_name(CHANNEL_NAME)
UUID: Final = uuid_bytes("00112233-4455-6677-8899-aabbccddeeff")
HELLO: Final = Hello(agent="0.1.0")
DOCUMENT: Final = b'{"instance-id":"i-1","generation":1,"local-hostname":"web1"}'
PROVISION: Final = Provision(msgspec.Raw(DOCUMENT))


def key(number: int) -> KeyPair:
    """Fixed key pair *number*: its private half is that byte, 32 times over."""
    return KeyPair.from_private(bytes([number]) * 32)


HOST_KEY: Final = key(1)
GUEST_KEY: Final = key(2)
OTHER_HOST_KEY: Final = key(5)


def counting(first: int) -> Callable[[int], bytes]:
    """Session ids that anybody can repeat: six bytes of *first*, then of the numbers behind it."""
    numbers = iter(range(first, 2**40))

    def random_bytes(count: int) -> bytes:
        assert count == SESSION_ID_BYTES
        return next(numbers).to_bytes(count, "big")

    return random_bytes


def numbered(first: int) -> Callable[[], KeyPair]:
    """Ephemeral keys that anybody can repeat: the number in big-endian in 32 bytes."""
    numbers = iter(range(first, 2**40))
    return lambda: KeyPair.from_private(next(numbers).to_bytes(32, "big"))


def make_host(
    number: int = 0,
    *,
    key: KeyPair = HOST_KEY,
    uuid: bytes = UUID,
    certificate: Certificate | None = None,
    channel: bytes = CHANNEL,
) -> Host:
    """Host process *number*: each has session ids and ephemeral keys of its own."""
    first = 0x100000 * (number + 1)
    return Host(
        channel=channel, uuid=uuid, key=key, certificate=certificate, random_bytes=counting(first), generate=numbered(first)
    )


def make_guest(number: int = 0, *, trust: Trust | None = None, uuid: bytes | None = UUID, hello: Hello = HELLO) -> Guest:
    """Guest process *number*, which has pinned `HOST_KEY` where *trust* says nothing else."""
    first = 0x10000000 * (number + 1)
    return Guest(
        channel=CHANNEL,
        uuid=uuid,
        key=GUEST_KEY,
        trust=Trust(frozenset({HOST_KEY.public})) if trust is None else trust,
        hello=hello,
        random_bytes=counting(first),
        generate=numbered(first),
    )


def chop(data: bytes, size: int) -> list[bytes]:
    """*data* in pieces of *size* bytes."""
    return [data[start : start + size] for start in range(0, len(data), size)]


@dataclass
class Pair:
    """A host, a guest, and what has been said. Bytes wait on the wire until somebody carries them."""

    host: Host = field(default_factory=make_host)
    guest: Guest = field(default_factory=make_guest)
    to_guest: bytes = b""
    to_host: bytes = b""
    host_heard: list[HostEvent] = field(default_factory=list)
    guest_heard: list[GuestEvent] = field(default_factory=list)
    #: Everything that was ever on the wire, in the order in which it was said.
    recorded: list[bytes] = field(default_factory=list)

    def collect(self) -> bool:
        """Put what both want to say on the wire; whether anything is on it."""
        for said in (from_host := self.host.data_to_send(), from_guest := self.guest.data_to_send()):
            if said:
                self.recorded.append(said)
        self.to_guest += from_host
        self.to_host += from_guest
        assert self.guest.in_flight <= 1900
        return bool(self.to_guest or self.to_host)

    def carry(self, size: int = 1 << 20) -> None:
        """Carry what is on the wire to both ends, in pieces of *size* bytes."""
        to_guest, self.to_guest = self.to_guest, b""
        to_host, self.to_host = self.to_host, b""
        for piece in chop(to_guest, size):
            self.guest_heard += self.guest.receive(piece)
        for piece in chop(to_host, size):
            self.host_heard += self.host.receive(piece)

    def run(self, size: int = 1 << 20) -> None:
        """Carry bytes until nobody has any more to say."""
        for _ in range(100_000):
            if not self.collect():
                return
            self.carry(size)
        raise AssertionError("the two talk for ever")

    def shake_hands(self, size: int = 1 << 20) -> Pair:
        """Greet, be answered and say one thing, which opens the guest's side too."""
        self.host.greet()
        self.run(size)
        self.host.send(PROVISION)
        self.run(size)
        return self

    def new_host(self, number: int, *, key: KeyPair = HOST_KEY) -> None:
        """The host's process dies, with all that it knew, and another takes its place."""
        self.host = make_host(number, key=key)
        self.to_guest = b""


def cooked(data: bytes) -> bytes:
    """What a tty in its first state sends back of *data* (ECHO and ONLCR of termios(3))."""
    return data.replace(b"\n", b"\r\n")


def in_session(pair: Pair) -> bool:
    """Whether both ends can say something to each other now."""
    said = len(pair.guest_heard)
    pair.host.send(Ping(99))
    pair.run()
    if FromHost(Ping(99)) not in pair.guest_heard[said:]:
        return False
    said = len(pair.host_heard)
    pair.guest.send(Pong(99))
    pair.run()
    return FromGuest(Pong(99)) in pair.host_heard[said:]
