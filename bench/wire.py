# SPDX-License-Identifier: Apache-2.0
"""Bytes on the wire, both directions, for each byte of a 4 KiB document."""

from __future__ import annotations

import os

import msgspec

from bench.row import Row
from pv_channel import CHANNEL_NAME
from pv_channel.greeting import NO_UUID
from pv_channel.messages import Hello, Outcome, Provision, Result
from pv_channel.noise import KeyPair
from pv_channel.session import Guest, Host
from pv_channel.trust import Trust

DOCUMENT_BYTES = 4096


def pair() -> tuple[Host, Guest]:
    """The two ends of a fresh stream."""
    channel = CHANNEL_NAME.encode("ascii")
    host = Host(channel=channel, uuid=NO_UUID, key=KeyPair.generate(), random_bytes=os.urandom)
    guest = Guest(
        channel=channel, uuid=None, key=KeyPair.generate(), trust=Trust(), hello=Hello("0.1.0"), random_bytes=os.urandom
    )
    return host, guest


def rows() -> list[Row]:
    """Delivery of the document counts, with its acknowledgements; the handshake and the result are shown beside it."""
    host, guest = pair()
    host.greet()
    handshake = _exchange(host, guest)
    document = b'{"x":"' + b"y" * (DOCUMENT_BYTES - 8) + b'"}'
    host.send(Provision(msgspec.Raw(document)))
    delivery = _exchange(host, guest)
    guest.send(Result(1, Outcome.APPLIED))
    result = _exchange(host, guest)
    measured = f"{delivery} bytes for {DOCUMENT_BYTES} of document; handshake {handshake}, an empty result {result}"
    return [Row("bytes on the wire per document byte", delivery / DOCUMENT_BYTES, 1.5, "lower", measured)]


def _exchange(host: Host, guest: Guest) -> int:
    """Carry bytes until both are silent; how many there were."""
    total = 0
    while True:
        there = host.data_to_send()
        guest.receive(there)
        back = guest.data_to_send()
        host.receive(back)
        if not there and not back:
            return total
        total += len(there) + len(back)
