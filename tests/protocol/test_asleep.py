# SPDX-License-Identifier: Apache-2.0
"""The host's end of a live session that sleeps: another end that is awakened with its state is that end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pv_channel.messages import Ping, Pong
from pv_channel.session import FromGuest, FromHost
from pv_channel.states import State
from tests.protocol.ends import Pair, make_host


def fall_asleep(pair: Pair) -> None:
    """And wake as another."""
    state = pair.host.asleep()
    assert state is not None
    pair.host = make_host(9)
    pair.host.awake(state)
    assert pair.host.state is State.SEALED


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["ping", "pong", "sleep"]), max_size=40), st.integers(1, 200))
def test_whenever_it_sleeps_nothing_that_is_said_is_lost_or_said_twice(story: list[str], size: int) -> None:
    pair = Pair().shake_hands()
    pair.host_heard.clear()
    pair.guest_heard.clear()
    asked = answered = 0
    for step in story:
        match step:
            case "ping":
                asked += 1
                pair.host.send(Ping(asked))
            case "pong":
                answered += 1
                pair.guest.send(Pong(answered))
            case "sleep":
                pair.run(size)
                fall_asleep(pair)
    pair.run(size)
    assert pair.guest_heard == [FromHost(Ping(number)) for number in range(1, asked + 1)]
    assert pair.host_heard == [FromGuest(Pong(number)) for number in range(1, answered + 1)]
    assert pair.host.counters.counts == (0, 0, 0, 0)


def test_it_sleeps_in_a_live_session_alone_with_nothing_to_say_and_no_half_line_heard() -> None:
    pair = Pair()
    assert pair.host.asleep() is None
    pair.host.greet()
    assert pair.host.asleep() is None
    pair = Pair().shake_hands()
    pair.host.send(Ping(1))
    assert pair.host.asleep() is None
    pair.run()
    pair.host.receive(b"half")
    assert pair.host.asleep() is None
    pair.host.receive(b" a line\n")
    assert pair.host.asleep() is not None


def test_what_was_counted_before_is_counted_on() -> None:
    pair = Pair().shake_hands()
    pair.host.receive(b"garbage\n" + b"x" * 5000 + b"\n")
    fall_asleep(pair)
    pair.host.receive(b"garbage\n")
    assert (pair.host.counters.garbage, pair.host.overlong) == (2, 1)
