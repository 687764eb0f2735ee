# SPDX-License-Identifier: Apache-2.0
"""What the two ends of a stream tell whoever drives them, and what they count."""

from __future__ import annotations

import msgspec

from pv_channel.greeting import Refusal
from pv_channel.messages import GuestMessage, Hello, HostMessage
from pv_channel.trust import Certificate, Verdict


class Counters:
    """What was dropped, by reason, since the stream began."""

    __slots__ = ("echoes", "garbage", "repeats", "stale")

    def __init__(self) -> None:
        self.garbage = 0
        self.echoes = 0
        self.stale = 0
        self.repeats = 0

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """All of them."""
        return self.garbage, self.echoes, self.stale, self.repeats

    @counts.setter
    def counts(self, counts: tuple[int, int, int, int]) -> None:
        self.garbage, self.echoes, self.stale, self.repeats = counts


class Sealed(msgspec.Struct, frozen=True):
    """To the host: the handshake is done with whoever holds *guest_key*. The host decides whether that is the right one."""

    guest_key: bytes
    hello: Hello


class Opened(msgspec.Struct, frozen=True):
    """To the guest: the host proved that it holds *host_key*, which is believed because of *verdict*."""

    host_key: bytes
    certificate: Certificate | None
    verdict: Verdict


class Refused(msgspec.Struct, frozen=True):
    """To the host: the guest says, unauthenticated, why it does not shake hands. To the guest: why it did not.

    To the guest *detail* is the host's key, and *revoked* the key that was revoked, the host's or its authority's.
    """

    refusal: Refusal
    detail: bytes
    revoked: bytes = b""


class WrongChannel(msgspec.Struct, frozen=True):
    """To the guest: a greeting of this protocol for another channel. This tty is not ours; nothing was answered."""

    channel: bytes


class Heard(msgspec.Struct, frozen=True):
    """To the host, while no session is live: a line of an earlier one. The guest is alive; greet again now rather than later."""


class FromGuest(msgspec.Struct, frozen=True):
    """To the host: the guest said this."""

    message: GuestMessage


class FromHost(msgspec.Struct, frozen=True):
    """To the guest: the host said this."""

    message: HostMessage


class Lost(msgspec.Struct, frozen=True):
    """The live session is over; the host greets again, the guest waits to be greeted."""

    reason: str


HostEvent = Sealed | Refused | Heard | FromGuest | Lost
GuestEvent = Opened | Refused | WrongChannel | FromHost | Lost
