# SPDX-License-Identifier: Apache-2.0
"""What a conversation goes on from that sleeps, as it does nearly always: a quarter of a kilobyte instead of three."""

from __future__ import annotations

from typing import Final

import msgspec

from host_agent.ledger.known import Counted, Known
from host_agent.talk.generation import InForce
from pv_channel.host import HostState


class DeliveryAsleep(msgspec.Struct, array_like=True, frozen=True):
    """What is known of the guest, where nothing is on its way to it. *guest* is None where it has what it was sent last."""

    agent: str
    known: Known
    guest: InForce | None
    is_withheld: bool
    asked_about: tuple[bool, ...]


class Asleep(msgspec.Struct, array_like=True, frozen=True):
    """A conversation with a guest that nothing is asked of. *end* holds the session's keys: this never leaves our memory."""

    end: HostState
    delivery: DeliveryAsleep
    next_deadline: float
    greeted_at: float
    hurried: float
    next_count: float
    pings: int
    counted: Counted
    told: float

    def __repr__(self) -> str:
        return "Asleep(...)"


pack: Final = msgspec.msgpack.Encoder().encode
unpack: Final = msgspec.msgpack.Decoder(Asleep).decode
