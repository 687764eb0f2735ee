# SPDX-License-Identifier: Apache-2.0
"""Two ends and a wire: sessions start, messages arrive, and whoever is not believed learns nothing."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from pv_channel import trust
from pv_channel.errors import LocalError, Malformed
from pv_channel.greeting import DETAIL_BYTES, Refusal
from pv_channel.line import MAX_LINE_BYTES, MAX_SEQUENCE, parse
from pv_channel.messages import MAX_DOCUMENT_BYTES, MAX_HOST_MESSAGE_BYTES, Outcome, Ping, Pong, Provision, Result
from pv_channel.session import FromGuest, FromHost, Lost, Opened, Refused, Sealed, WrongChannel
from pv_channel.states import State
from pv_channel.trust import Trust, Verdict
from tests.protocol import make_vectors
from tests.protocol.blocks import read
from tests.protocol.ends import (
    CHANNEL,
    GUEST_KEY,
    HELLO,
    HOST_KEY,
    OTHER_HOST_KEY,
    PROVISION,
    UUID,
    Pair,
    key,
    make_guest,
    make_host,
)


@pytest.mark.parametrize("size", [1, 2, 3, 64, 1900, 1 << 20])
def test_a_session_starts_and_carries_messages_however_the_stream_is_cut(size: int) -> None:
    pair = Pair().shake_hands(size)
    pair.guest.send(Pong(7))
    pair.run(size)
    assert pair.host_heard == [Sealed(GUEST_KEY.public, HELLO), FromGuest(Pong(7))]
    assert pair.guest_heard == [Opened(HOST_KEY.public, None, Verdict.PINNED), FromHost(PROVISION)]
    assert (pair.host.state, pair.guest.state) == (State.SEALED, State.SEALED)
    for counters in (pair.host.counters, pair.guest.counters):
        assert (counters.garbage, counters.echoes, counters.stale, counters.repeats) == (0, 0, 0, 0)


def test_the_transcript_s_bytes_are_what_both_ends_say() -> None:
    keys, *said = read("transcript")
    pair = Pair()
    assert (keys.raw("host-private"), keys.raw("guest-private")) == (HOST_KEY.private_bytes(), GUEST_KEY.private_bytes())
    assert (keys["channel"].encode(), keys.raw("uuid")) == (CHANNEL, UUID)
    pair.shake_hands()
    texts = [case["line"].encode() for case in said]
    wire = b"".join(pair.recorded).split(b"\n")
    assert [line for line in wire if line] == texts[:3]


def test_the_whole_transcript_is_what_the_ends_say_today() -> None:
    written = [dict(case) for case in read("transcript")]
    said = [dict(line.split(": ", 1) for line in case.splitlines()) for case in make_vectors.transcript()]
    assert said == written


def test_every_byte_on_the_wire_is_printable_or_a_newline() -> None:
    pair = Pair().shake_hands()
    wire = b"".join(pair.recorded)
    assert all(byte == 0x0A or 0x20 <= byte <= 0x7E for byte in wire)


def test_a_guest_says_nothing_before_it_is_spoken_to() -> None:
    guest = make_guest()
    assert guest.data_to_send() == b""
    with pytest.raises(LocalError):
        guest.send(Pong(1))
    host = make_host()
    with pytest.raises(LocalError):
        host.send(Ping(1))
    assert host.data_to_send() == b""


def test_an_answer_alone_makes_no_session_for_the_guest() -> None:
    pair = Pair()
    pair.host.greet()
    pair.run()
    assert (pair.host.state, pair.guest.state) == (State.SEALED, State.ANSWERED)
    assert pair.guest_heard == []


def test_a_host_does_not_greet_into_its_live_session() -> None:
    pair = Pair().shake_hands()
    with pytest.raises(LocalError):
        pair.host.greet()
    assert pair.host.state is State.SEALED


def test_two_greetings_that_cross_the_answer_make_one_session() -> None:
    pair = Pair()
    for _ in range(3):
        pair.host.greet()
        pair.collect()
    pair.guest_heard += pair.guest.receive(pair.to_guest)
    pair.to_guest = b""
    pair.host.greet()
    pair.run()
    pair.host.send(Ping(1))
    pair.run()
    assert [type(event) for event in pair.host_heard] == [Sealed]
    assert pair.guest_heard[-1] == FromHost(Ping(1))


def test_of_two_greetings_of_two_hosts_the_later_is_answered() -> None:
    first, second, guest = make_host(0), make_host(1), make_guest()
    first.greet()
    second.greet()
    guest.receive(first.data_to_send() + second.data_to_send())
    answers = [parse(raw) for raw in guest.data_to_send().split(b"\n") if raw]
    second.greet()
    assert [answer.host for answer in answers] == [parse(second.data_to_send().strip()).host]


def test_a_first_host_is_believed_where_nothing_is_pinned() -> None:
    pair = Pair(guest=make_guest(trust=Trust())).shake_hands()
    assert pair.guest_heard[0] == Opened(HOST_KEY.public, None, Verdict.FIRST_USE)


def test_a_host_that_an_authority_signed_is_believed() -> None:
    authority = bytes([3]) * 32
    certificate = trust.sign(authority, HOST_KEY.public, issued=1, label="dom0-a")
    believed = Trust(authorities=frozenset({certificate.authority}))
    pair = Pair(make_host(certificate=certificate), make_guest(trust=believed)).shake_hands()
    assert pair.guest_heard[0] == Opened(HOST_KEY.public, certificate, Verdict.CERTIFIED)


def refused(pair: Pair) -> Refused:
    """How that pair's handshake is refused, on both sides."""
    pair.host.greet()
    pair.run()
    (host_event,), (guest_event,) = pair.host_heard, pair.guest_heard
    assert isinstance(host_event, Refused)
    assert isinstance(guest_event, Refused)
    assert host_event.refusal is guest_event.refusal
    assert pair.host.state is State.GREETING
    with pytest.raises(LocalError):
        pair.host.send(PROVISION)
    return host_event


def test_a_wrong_host_key_is_refused_and_gets_a_hint_of_the_right_one() -> None:
    event = refused(Pair(make_host(key=OTHER_HOST_KEY)))
    assert event.refusal is Refusal.HOST_KEY
    assert len(event.detail) == DETAIL_BYTES
    assert sha256(HOST_KEY.public).digest().startswith(event.detail)


@pytest.mark.parametrize("signer", [4, 3])
def test_a_wrong_authority_or_another_host_s_certificate_is_refused(signer: int) -> None:
    right = trust.sign(bytes([3]) * 32, HOST_KEY.public, issued=1, label="dom0-a")
    forged = msgspec.structs.replace(right, signature=bytes(64))
    presented = forged if signer == 3 else trust.sign(bytes([4]) * 32, HOST_KEY.public, issued=1, label="x")
    believed = Trust(authorities=frozenset({right.authority}))
    assert refused(Pair(make_host(certificate=presented), make_guest(trust=believed))).refusal is Refusal.HOST_KEY


def test_a_revoked_host_is_refused_and_told_which_of_its_keys_it_is() -> None:
    certificate = trust.sign(bytes([3]) * 32, HOST_KEY.public, issued=1, label="dom0-a")
    for gone in (HOST_KEY.public, certificate.authority):
        revokes = Trust(authorities=frozenset({certificate.authority}), revoked=frozenset({trust.fingerprint(gone)}))
        pair = Pair(make_host(certificate=certificate), make_guest(trust=revokes))
        assert refused(pair) == Refused(Refusal.REVOKED, sha256(gone).digest()[:DETAIL_BYTES])
        assert pair.guest_heard == [Refused(Refusal.REVOKED, HOST_KEY.public, gone)]


def test_a_greeting_for_another_vm_is_refused_with_this_one_s_uuid() -> None:
    ours = bytes(15) + b"\x07"
    event = refused(Pair(guest=make_guest(uuid=ours)))
    assert event == Refused(Refusal.UUID, ours)


def test_a_guest_that_knows_no_uuid_takes_any() -> None:
    pair = Pair(make_host(uuid=b"x" * 16), make_guest(uuid=None)).shake_hands()
    assert pair.guest.state is State.SEALED


def test_a_greeting_for_another_channel_is_answered_with_nothing() -> None:
    pair = Pair(make_host(channel=b"org.example.other"))
    pair.host.greet()
    pair.run()
    assert pair.guest_heard == [WrongChannel(b"org.example.other")]
    assert pair.host_heard == []
    assert pair.guest.state is State.SILENT


def test_a_host_that_names_a_key_it_does_not_hold_completes_no_handshake() -> None:
    thief = make_host(key=key(9))
    thief._key = type("Named", (), {"public": HOST_KEY.public, "dh": key(9).dh})()
    pair = Pair(thief)
    pair.host.greet()
    pair.run()
    assert [type(event) for event in pair.host_heard] == [Lost]
    assert (pair.host.state, pair.guest.state) == (State.IDLE, State.ANSWERED)
    assert pair.guest_heard == []


def test_a_document_of_the_largest_size_arrives_whole() -> None:
    raw = b'{"instance-id":"' + b"x" * (MAX_DOCUMENT_BYTES - 18) + b'"}'
    assert len(raw) == MAX_DOCUMENT_BYTES
    pair = Pair().shake_hands()
    pair.guest_heard.clear()
    pair.host.send(Provision(msgspec.Raw(raw)))
    pair.run()
    assert pair.guest_heard == [FromHost(Provision(msgspec.Raw(raw)))]
    assert all(len(line) < MAX_LINE_BYTES for line in b"".join(pair.recorded).split(b"\n"))


def test_a_message_over_the_limit_ends_the_session() -> None:
    pair = Pair().shake_hands()
    pair.host.send(Provision(msgspec.Raw(b'"' + b"x" * MAX_HOST_MESSAGE_BYTES * 2 + b'"')))
    pair.run()
    assert any(isinstance(event, Lost) for event in pair.guest_heard)
    assert pair.guest.state is State.SILENT
    assert (pair.host_heard[-1], pair.host.state) == (Lost("the guest does not have the session any more"), State.IDLE)


def test_a_message_over_the_guest_s_limit_ends_the_session() -> None:
    pair = Pair().shake_hands()
    pair.guest.send(Result(1, Outcome.APPLIED, host_keys=["x" * 70_000]))
    pair.run()
    assert Lost("a message that is too long or of the wrong shape") in pair.host_heard
    assert pair.host.state is State.IDLE


@pytest.mark.parametrize("side", ["host", "guest"])
def test_a_session_ends_before_a_ninth_digit_of_sequence(side: str) -> None:
    pair = Pair().shake_hands()
    host_transport, guest_transport = pair.host._transport, pair.guest._live
    assert host_transport is not None
    assert guest_transport is not None
    sending, hearing = (host_transport, guest_transport) if side == "host" else (guest_transport, host_transport)
    sending._last_sent = hearing.last_heard = MAX_SEQUENCE - 1
    end, heard = (pair.host, pair.guest_heard) if side == "host" else (pair.guest, pair.host_heard)
    end.send(Ping(1) if side == "host" else Pong(1))  # type: ignore[arg-type]  # each says what is its own to say
    pair.run()
    assert heard[-1] in (FromHost(Ping(1)), FromGuest(Pong(1)))
    end.send(Ping(2) if side == "host" else Pong(2))  # type: ignore[arg-type]  # each says what is its own to say
    with pytest.raises(Malformed, match="sequence numbers"):
        end.data_to_send()


def test_after_its_numbers_are_used_up_a_host_may_give_the_session_up_and_greet() -> None:
    pair = Pair().shake_hands()
    assert pair.host._transport is not None
    pair.host._transport._last_sent = MAX_SEQUENCE
    pair.host.send(Ping(1))
    with pytest.raises(Malformed):
        pair.host.data_to_send()
    pair.host.abandon("used up")
    pair.shake_hands()
    assert pair.host.state is State.SEALED
