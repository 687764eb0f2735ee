# SPDX-License-Identifier: Apache-2.0
"""Either side dies and comes back, with or without what was under way: the two find each other, and nothing is heard twice."""

from __future__ import annotations

import pytest

from pv_channel.errors import LocalError
from pv_channel.messages import Ping, Pong
from pv_channel.session import FromHost, Heard, Lost, Opened, Sealed
from pv_channel.states import State
from tests.protocol.ends import PROVISION, Pair, in_session, make_guest, make_host


def test_a_new_host_s_greeting_ends_no_live_session_until_its_first_line() -> None:
    pair = Pair().shake_hands()
    old, pair.host = pair.host, make_host(1)
    pair.host.greet()
    pair.run()
    assert pair.guest.state.value == "renewing"
    assert not any(isinstance(event, Lost) for event in pair.guest_heard)
    pair.guest_heard.clear()
    old.send(Ping(1))
    pair.guest_heard += pair.guest.receive(old.data_to_send())
    assert pair.guest_heard == [FromHost(Ping(1))]
    pair.host.send(Ping(2))
    pair.run()
    assert [type(event) for event in pair.guest_heard] == [FromHost, Lost, Opened, FromHost]
    assert pair.guest.state is State.SEALED
    old.send(Ping(3))
    assert pair.guest.receive(old.data_to_send()) == []
    assert in_session(pair)


def test_a_guest_that_restarted_says_so_and_is_greeted_again() -> None:
    pair = Pair().shake_hands()
    pair.guest = make_guest(1)
    pair.host_heard.clear()
    pair.host.send(Ping(1))
    pair.run()
    assert pair.host_heard == [Lost("the guest does not have the session any more")]
    assert pair.host.state is State.IDLE
    pair.host.greet()
    pair.run()
    assert [type(event) for event in pair.host_heard] == [Lost, Sealed]
    assert in_session(pair)


def test_a_guest_says_once_that_it_does_not_have_a_session() -> None:
    pair = Pair().shake_hands()
    pair.guest = make_guest(1)
    for n in range(20):
        pair.host.send(Ping(n))
    for _ in range(3):
        pair.collect()
        pair.guest.receive(pair.to_guest)
    assert pair.to_host.count(b"<") == 1


def test_word_that_a_session_is_lost_ends_no_other_session() -> None:
    pair = Pair().shake_hands()
    pair.host.send(Ping(1))
    stray = make_guest(1)
    stray.receive(pair.host.data_to_send())
    refusal = stray.data_to_send()
    pair = Pair(make_host(2), make_guest(2)).shake_hands()
    pair.to_host = refusal
    pair.run()
    assert not any(isinstance(event, Lost) for event in pair.host_heard)
    assert in_session(pair)


def test_both_restart_with_bytes_of_the_old_session_on_the_wire_both_ways() -> None:
    pair = Pair().shake_hands()
    pair.host.send(PROVISION)
    pair.guest.send(Pong(1))
    pair.collect()
    pair.host, pair.guest = make_host(1), make_guest(1)
    pair.guest_heard.clear()
    pair.host_heard.clear()
    pair.host.greet()
    pair.run()
    assert [type(event) for event in pair.host_heard] == [Heard, Heard, Sealed]
    assert pair.guest_heard == []
    assert in_session(pair)


@pytest.mark.parametrize("number", range(1, 6))
def test_a_host_that_restarts_over_and_over_in_mid_handshake_gets_its_session(number: int) -> None:
    """Killed after its greeting, before it reads: the answer lies in QEMU's buffer for the next."""
    pair = Pair()
    for host in range(number):
        pair.new_host(host)
        pair.host.greet()
        pair.collect()
        pair.guest.receive(pair.to_guest)
        pair.to_guest = b""
    pair.new_host(50)
    for _ in range(3):
        if pair.host.state is not State.SEALED:
            pair.host.greet()
        pair.run()
    assert pair.host.state is State.SEALED
    assert in_session(pair)


def test_a_host_abandons_nothing_twice() -> None:
    host = make_host()
    with pytest.raises(LocalError):
        host.abandon("there is nothing")
    host.greet()
    assert host.abandon("silence") == Lost("silence")
    with pytest.raises(LocalError):
        host.abandon("silence")


def test_a_host_that_gives_up_greets_with_a_session_id_that_was_never_used() -> None:
    host = make_host()
    seen = set()
    for _ in range(20):
        host.greet()
        seen.add(host.data_to_send().split(b" ")[1])
        host.abandon("silence")
    assert len(seen) == 20
