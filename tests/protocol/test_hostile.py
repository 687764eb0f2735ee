# SPDX-License-Identifier: Apache-2.0
"""Bytes that somebody meant: replays, forgeries, mutations. They change nothing that they should not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pv_channel.line import GUEST_SPEAKS, HOST_SPEAKS, finish, header
from pv_channel.messages import Ping, Pong
from pv_channel.session import FromHost, Heard, Lost, Opened
from pv_channel.states import State
from pv_channel.transport import GUEST_IN_FLIGHT_BYTES
from tests.protocol.blocks import Case, read
from tests.protocol.ends import PROVISION, Pair, chop, in_session, make_guest, make_host


def test_a_recorded_session_replayed_to_a_fresh_guest_applies_nothing() -> None:
    pair = Pair().shake_hands()
    for n in range(5):
        pair.host.send(Ping(n))
        pair.run()
    recorded = b"".join(said for said in pair.recorded if said.lstrip(b"\n").startswith(HOST_SPEAKS))
    for size in (1, 100, 1 << 20):
        guest = make_guest(3)
        heard = [event for piece in chop(recorded, size) for event in guest.receive(piece)]
        assert not any(isinstance(event, (FromHost, Opened)) for event in heard)
        assert guest.state is not State.SEALED


def test_a_recorded_session_replayed_to_the_guest_that_is_in_it_is_dropped() -> None:
    pair = Pair().shake_hands()
    recorded = b"".join(said for said in pair.recorded if said.lstrip(b"\n").startswith(HOST_SPEAKS))
    pair.guest_heard.clear()
    pair.to_guest = recorded
    pair.run()
    assert pair.guest_heard == []
    assert in_session(pair)


def test_a_replayed_answer_completes_no_later_handshake() -> None:
    pair = Pair()
    pair.host.greet()
    pair.run()
    answer = pair.recorded[1]
    pair.host.abandon("silence")
    pair.host.greet()
    pair.host.data_to_send()
    assert pair.host.receive(answer) == [Heard()]
    assert pair.host.state is State.GREETING
    # Not even with this greeting's id in it, where the CRC-32 is put right.
    ids = pair.host._id
    forged = finish(header(GUEST_SPEAKS, ids, b"AAAAAAAA", 0, 0), bytes(2) + b"x" * 200)
    pair.host.receive(forged)
    assert pair.host.state is State.GREETING
    forged = finish(header(GUEST_SPEAKS, ids, b"AAAAAAAA", 0, 0), b"\x01\x00" + b"x" * 200)
    assert [type(event) for event in pair.host.receive(forged)] == [Lost]
    pair.shake_hands()
    assert in_session(pair)


def forgeries(pair: Pair) -> list[bytes]:
    """What somebody without keys can say to the guest of a live session, ids and all."""
    live = pair.guest._live
    assert live is not None
    host, guest = live.ids
    other = make_host(9)
    other.greet()
    wrong_vm = make_host(9, uuid=bytes(16))
    wrong_vm.greet()
    return [
        other.data_to_send(),
        wrong_vm.data_to_send(),
        finish(header(HOST_SPEAKS, host, guest, 0, 0), b"\x01" + bytes(100)),
        finish(header(HOST_SPEAKS, host, b"ZZZZZZZZ", 0, 0), b""),
        finish(header(HOST_SPEAKS, host, b"ZZZZZZZZ", 5, 0), bytes(40)),
        finish(header(HOST_SPEAKS, b"ZZZZZZZZ", guest, 2, 0), bytes(40)),
        finish(header(HOST_SPEAKS, host, guest, 1, 0), bytes(40)),
        finish(header(GUEST_SPEAKS, host, guest, 9, 0), bytes(40)),
    ]


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("times", [1, 40])
def test_a_forged_line_kills_no_live_session(number: int, times: int) -> None:
    pair = Pair().shake_hands()
    for _ in range(times):
        pair.to_guest = forgeries(pair)[number]
        pair.run()
    assert not any(isinstance(event, Lost) for event in (*pair.guest_heard, *pair.host_heard))
    assert in_session(pair)


def test_ten_thousand_greetings_of_other_hosts_do_not_silence_a_live_session() -> None:
    pair = Pair().shake_hands()
    for number in range(10, 10_010):
        other = make_host(number, uuid=bytes(16) if number % 2 else bytes(15) + b"\1")
        other.greet()
        pair.to_guest = other.data_to_send()
        pair.carry()
        if number % 100 == 0:
            pair.run()
    pair.run()
    assert in_session(pair)


mutations = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "double"]), st.integers(0, 2000), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
)


def mutate(data: bytes, how: list[tuple[str, int, bytes]]) -> bytes:
    """*data* with a few things wrong."""
    for what, where, value in how:
        at = where % (len(data) + 1)
        if what == "flip":
            data = data[:at] + bytes(x ^ y for x, y in zip(data[at:], value, strict=False)) + data[at + len(value) :]
        elif what == "cut":
            data = data[:at] + data[at + where % 40 :]
        elif what == "insert":
            data = data[:at] + value + data[at:]
        else:
            data = data[:at] + data[at : at + 300] + data[at:]
    return data


@settings(max_examples=150, deadline=None)
@given(mutations, mutations, st.integers(0, 4))
def test_no_mutation_of_a_real_session_raises_or_stops_the_next_one(
    to_guest: list[tuple[str, int, bytes]], to_host: list[tuple[str, int, bytes]], turn: int
) -> None:
    pair = Pair()
    pair.host.greet()
    for number in range(5):
        if pair.host.state is State.SEALED:
            pair.host.send(PROVISION)
        if pair.guest.state in (State.SEALED, State.RENEWING):
            pair.guest.send(Pong(number))
        pair.collect()
        if number == turn:
            pair.to_guest, pair.to_host = mutate(pair.to_guest, to_guest), mutate(pair.to_host, to_host)
        pair.carry()
    pair.run()
    pair.to_guest = pair.to_host = b"\n"
    pair.run()
    if pair.host.state is not State.IDLE:
        pair.host.abandon("silence")
    pair.host.greet()
    pair.run()
    assert pair.host.state is State.SEALED
    assert in_session(pair)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=10))
def test_no_bytes_make_an_end_raise(said: list[bytes]) -> None:
    pair = Pair()
    pair.host.greet()
    for piece in said:
        pair.host.receive(piece)
        pair.guest.receive(piece)
    pair = Pair().shake_hands()
    for piece in said:
        pair.host.receive(piece)
        pair.guest.receive(piece)
    assert pair.guest.in_flight <= GUEST_IN_FLIGHT_BYTES


@pytest.mark.parametrize("case", read("sealed-bad"), ids=str)
def test_a_sealed_line_with_anything_changed_opens_nothing(case: Case) -> None:
    """The guest of the transcript has answered; what comes is the host's first line with one thing changed and a right CRC-32."""
    _, greeting, *_ = read("transcript")
    guest = make_guest()
    guest.receive(greeting["line"].encode() + b"\n")
    assert guest.state is State.ANSWERED
    assert guest.receive(case["line"].encode() + b"\n") == []
    counted = {name: getattr(guest.counters, name) for name in ("garbage", "echoes", "stale", "repeats")}
    assert counted == {"garbage": 0, "echoes": 0, "stale": 0, "repeats": 0, case["counted"]: 1}
    assert guest.state is State(case["then"])
