# SPDX-License-Identifier: Apache-2.0
"""The guest's bytes in flight: never above the ring, whatever the host does; and with an honest host everything arrives."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pv_channel.line import HOST_SPEAKS, MAX_LINE_BYTES, finish, header
from pv_channel.messages import ItemResult, Outcome, Ping, Pong, Provision, Result
from pv_channel.session import FromGuest, FromHost, Sealed
from pv_channel.states import State
from pv_channel.transport import (
    GUEST_FLOW,
    GUEST_IN_FLIGHT_BYTES,
    GUEST_RESERVED_BYTES,
    HOST_FLOW,
    HOST_RESERVED_BYTES,
    InFlight,
)
from tests.protocol.ends import OTHER_HOST_KEY, Pair, make_guest, make_host

ANSWER = Result(1, Outcome.APPLIED, [ItemResult("hostname", Outcome.APPLIED)], ["ssh-ed25519 " + "A" * 68], milliseconds=1)


def test_a_guest_whose_host_acknowledges_nothing_stops_in_time() -> None:
    pair = Pair().shake_hands()
    said = 0
    for n in range(200):
        pair.guest.send(Pong(n))
        said += len(pair.guest.data_to_send())
    assert 1000 < said <= GUEST_IN_FLIGHT_BYTES - GUEST_RESERVED_BYTES
    assert pair.guest.in_flight == said
    assert pair.guest.unsent > 0


@pytest.mark.parametrize("each", ["the same host", "another host", "another wrong host"])
def test_a_guest_that_is_greeted_thousands_of_times_and_not_read_stops_in_time(each: str) -> None:
    guest, host = make_guest(), make_host()
    said = 0
    for number in range(3_000):
        if each != "the same host":
            host = make_host(number, uuid=bytes(16)) if each == "another wrong host" else make_host(number)
        host.greet()
        guest.receive(host.data_to_send())
        said += len(guest.data_to_send())
        assert guest.in_flight == said <= GUEST_IN_FLIGHT_BYTES


def test_a_guest_that_is_sent_a_mebibyte_and_not_read_stops_in_time() -> None:
    pair = Pair().shake_hands()
    pair.host.send(Provision(msgspec.Raw(b'"' + b"x" * (1024 * 1024 - 2) + b'"')))
    for n in range(30_000):
        pair.host.send(Ping(n))
    said = 0
    while data := pair.host.data_to_send():
        for event in pair.guest.receive(data):
            if isinstance(event, FromHost) and isinstance(event.message, Ping):
                pair.guest.send(Pong(event.message.n))
        said += len(pair.guest.data_to_send())
        assert pair.guest.in_flight == said <= GUEST_IN_FLIGHT_BYTES
    assert pair.host.unsent > 0


def test_a_host_whose_guest_acknowledges_nothing_stops_too() -> None:
    pair = Pair().shake_hands()
    pair.host.send(Provision(msgspec.Raw(b'"' + b"x" * (1024 * 1024 - 2) + b'"')))
    assert len(pair.host.data_to_send()) <= HOST_FLOW.in_flight_bytes - HOST_RESERVED_BYTES
    assert pair.host.data_to_send() == b""


def test_a_guest_answers_after_a_host_died_with_all_that_was_in_flight() -> None:
    pair = Pair().shake_hands()
    for n in range(200):
        pair.guest.send(Pong(n))
    pair.guest.data_to_send()  # read by a host that then dies: nobody will ever acknowledge it
    pair.new_host(1)
    pair.shake_hands()
    assert pair.host.state is State.SEALED
    pair.guest.send(Pong(1))
    pair.run()
    assert pair.host_heard[-1] == FromGuest(Pong(1))


@pytest.mark.parametrize("times", [50])
def test_a_guest_still_answers_after_fifty_hosts_that_did_not_want_it(times: int) -> None:
    """Each host process finds the wrong key, says so to its operator, and leaves."""
    pair = Pair()
    for number in range(times):
        pair.new_host(number)
        pair.host.greet()
        pair.collect()
        pair.carry()
        pair.collect()
        pair.carry()
        assert isinstance(pair.host_heard[-1], Sealed), f"the guest is mute after {number}"
        pair.host.abandon("another guest than before")
        pair.collect()
        pair.carry()
    assert pair.guest.in_flight == 0


def test_a_guest_still_answers_after_fifty_hosts_that_it_refused() -> None:
    pair = Pair()
    for number in range(50):
        pair.new_host(number, key=OTHER_HOST_KEY)
        pair.host.greet()
        pair.run()
        assert len(pair.host_heard) == number + 1
        assert pair.guest.in_flight == 0
    pair.new_host(60)
    pair.shake_hands()
    assert pair.guest.state is State.SEALED


def test_a_lost_answer_is_made_good_by_a_new_greeting_before_long() -> None:
    pair = Pair()
    pair.host.greet()
    pair.collect()
    pair.carry()
    pair.collect()
    pair.to_host = pair.to_host.replace(b"A", b"B", 1)  # spoilt on its way
    for _ in range(40):
        pair.host.greet()
        pair.run()
        if pair.host.state is State.SEALED:
            return
    raise AssertionError("the host is never answered")


def test_an_answer_is_not_said_twice_while_it_is_under_way() -> None:
    pair = Pair()
    for _ in range(10):
        pair.host.greet()
        pair.guest.receive(pair.host.data_to_send())
        pair.to_host += pair.guest.data_to_send()
    assert pair.to_host.count(b"<") == 1


def test_an_acknowledgement_stands_for_the_line_it_names_and_what_was_before_it() -> None:
    in_flight = InFlight(1000)
    for session, sequence in ((b"A", 0), (b"A", 1), (b"A", 2), (b"B", 0), (b"A", 0)):
        in_flight.sent(session, sequence, 100)
    assert not in_flight.acknowledge(b"A", 3)
    assert not in_flight.acknowledge(b"C", 0)
    assert in_flight.used == 500
    assert in_flight.acknowledge(b"A", 1)
    assert in_flight.used == 300
    assert not in_flight.acknowledge(b"A", 1)
    assert in_flight.acknowledge(b"A", 0)
    assert in_flight.used == 0


def test_what_nobody_sent_is_acknowledged_by_nothing_that_the_session_takes() -> None:
    pair = Pair().shake_hands()
    live = pair.guest._live
    assert live is not None
    head = header(HOST_SPEAKS, *live.ids, 2, 77)
    transport = pair.host._transport
    assert transport is not None
    pair.guest.receive(finish(head, transport._sending.encrypt_with_ad(head, b"")))
    assert pair.guest.state is State.SILENT


def test_the_limits_fit_each_other() -> None:
    """PROTOCOL.md, "Flow control": what is heard and not acknowledged, and the longest line, fit beside what is kept free."""
    waits = HOST_FLOW.ack_after - 1 + GUEST_FLOW.line_bytes
    assert waits <= GUEST_IN_FLIGHT_BYTES - GUEST_RESERVED_BYTES
    acks = -(-GUEST_IN_FLIGHT_BYTES // HOST_FLOW.ack_after) * 72
    assert acks <= HOST_RESERVED_BYTES
    assert GUEST_FLOW.ack_after + HOST_FLOW.line_bytes <= HOST_FLOW.in_flight_bytes - HOST_RESERVED_BYTES
    assert HOST_FLOW.line_bytes == MAX_LINE_BYTES
    assert HOST_FLOW.acks_count is not GUEST_FLOW.acks_count


sizes = st.integers(0, 20_000)


def result_of(size: int) -> Result:
    """A result that is about that large."""
    return Result(1, Outcome.APPLIED, [], ["k" * min(size // 16, 2048)] * 16, detail="d" * (size % 400))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(sizes, max_size=12),
    st.lists(st.integers(0, 5_000), max_size=12),
    st.lists(st.integers(1, 3000), min_size=1, max_size=30),
    st.data(),
)
def test_with_an_honest_host_everything_arrives_in_order(
    from_guest: list[int], from_host: list[int], chunks: list[int], data: st.DataObject
) -> None:
    pair = Pair().shake_hands()
    pair.guest_heard.clear()
    pair.host_heard.clear()
    results = [result_of(size) for size in from_guest]
    provisions = [Provision(msgspec.Raw(b'"' + b"x" * size + b'"')) for size in from_host]
    for result, provision in itertools.zip_longest(results, provisions):
        if result is not None:
            pair.guest.send(result)
        if provision is not None:
            pair.host.send(provision)
    turns = itertools.cycle(chunks)
    idle = 0
    while idle < 3:
        before: Any = (len(pair.to_guest), len(pair.to_host))
        pair.collect()
        idle = 0 if pair.to_guest or pair.to_host or before != (0, 0) else idle + 1
        cut = next(turns)
        if data.draw(st.booleans()):
            pair.guest_heard += pair.guest.receive(pair.to_guest[:cut])
            pair.to_guest = pair.to_guest[cut:]
        else:
            pair.host_heard += pair.host.receive(pair.to_host[:cut])
            pair.to_host = pair.to_host[cut:]
        if idle == 0 and data.draw(st.integers(0, 30)) == 0:
            pair.run()
    pair.run()
    assert pair.host_heard == [FromGuest(result) for result in results]
    assert pair.guest_heard == [FromHost(provision) for provision in provisions]
    assert pair.guest.unsent == pair.host.unsent == 0


@pytest.mark.parametrize("shift", range(0, 88, 8))
@pytest.mark.parametrize("shift_of_guest", [0, 20, 40, 60])
def test_both_sides_full_at_once_do_not_wait_for_each_other(shift: int, shift_of_guest: int) -> None:
    """Each side has said all it may before it hears any of the other's; the shifts move what little is left over at each end."""
    pair = Pair().shake_hands()
    pair.guest_heard.clear()
    pair.host_heard.clear()
    pair.host.send(Provision(msgspec.Raw(b'"' + b"x" * shift + b'"')))
    pair.guest.send(Result(1, Outcome.APPLIED, detail="d" * shift_of_guest))
    for n in range(900):
        pair.host.send(Ping(n))
        pair.guest.send(Pong(n))
    pair.collect()
    assert pair.host.unsent
    assert pair.guest.unsent
    pair.run()
    assert len(pair.host_heard) == len(pair.guest_heard) == 901


def test_a_heartbeat_an_hour_for_ever_ends_in_no_silence() -> None:
    pair = Pair().shake_hands()
    for n in range(5000):
        pair.host.send(Ping(n))
        pair.run()
        pair.guest.send(Pong(n))
        pair.run()
    assert pair.host_heard[-1] == FromGuest(Pong(4999))
    assert pair.guest.in_flight < HOST_FLOW.ack_after


def test_the_two_do_not_acknowledge_each_other_s_acknowledgements_for_ever() -> None:
    pair = Pair().shake_hands()
    pair.host.send(Provision(msgspec.Raw(b'"' + b"x" * 50_000 + b'"')))
    pair.run()  # raises where they talk for ever
    pair.guest.send(ANSWER)
    pair.run()
    assert pair.host_heard[-1] == FromGuest(ANSWER)
