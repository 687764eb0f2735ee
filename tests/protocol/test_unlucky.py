# SPDX-License-Identifier: Apache-2.0
"""Bytes that nobody meant: noise, echoes, cuts, losses, leftovers. They are dropped, and a session starts all the same."""

from __future__ import annotations

import random
import tracemalloc
from typing import Final

import pytest

from pv_channel.messages import Ping, Pong
from pv_channel.session import FromGuest, FromHost, Lost, Sealed
from pv_channel.states import State
from tests.protocol.ends import PROVISION, Pair, cooked, in_session, make_guest, make_host

NOISE: Final = {
    "at commands": b"AT\rATE1 E0\rAT+GCAP\r\nATI\r\nAT+CPIN?\r\n",
    "a login prompt": b"\r\nDebian GNU/Linux 12 debian hvc1\r\n\r\ndebian login: ",
    "a kernel's message": b"[    1.234567] random: crng init done\r\n",
    "xencons": b"[ATTACHED]",
    "control characters": bytes(range(32)) * 4,
    "every byte": bytes(range(256)),
    "half a line of ours": b"> AAAAAAAA BBBBBBBB 1 0 AAAA",
    "invalid utf-8": b"\xff\xfe\xc3\x28" * 50,
    "no newline for long": b"x" * 100_000,
    "newlines alone": b"\n" * 5000,
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("size", [1, 17, 1 << 20])
def test_noise_before_a_greeting_costs_no_greeting(noise: bytes, size: int) -> None:
    pair = Pair()
    pair.to_guest = pair.to_host = noise
    pair.carry(size)
    pair.host.greet()
    pair.run(size)
    assert [type(event) for event in pair.host_heard] == [Sealed]
    assert in_session(pair)


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_noise_on_a_line_of_its_own_costs_no_live_session(noise: bytes) -> None:
    pair = Pair().shake_hands()
    pair.to_guest = pair.to_host = b"\n" + noise + b"\n"
    pair.run()
    assert in_session(pair)


def test_a_login_prompt_behind_the_answer_costs_nothing() -> None:
    pair = Pair()
    pair.host.greet()
    pair.collect()
    pair.carry()
    pair.collect()
    pair.to_host = b"login: " + pair.to_host + b"Password: "
    pair.carry()
    assert [type(event) for event in pair.host_heard] == [Sealed]


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_host_s_own_echo_from_a_cooked_tty_is_dropped(repeats: int) -> None:
    host = make_host()
    for _ in range(repeats):
        host.greet()
    said = host.data_to_send()
    assert host.receive(cooked(said)) == []
    assert host.counters.echoes == repeats
    assert host.state is State.GREETING
    guest = make_guest()
    guest.receive(said)
    assert [type(event) for event in host.receive(guest.data_to_send())] == [Sealed]


def test_a_guest_s_own_echo_is_dropped_in_every_state() -> None:
    pair = Pair()
    pair.host.greet()
    pair.collect()
    pair.carry()
    pair.collect()
    answer = pair.to_host
    assert pair.guest.receive(cooked(answer)) == []
    pair.run()
    pair.host.send(PROVISION)
    pair.run()
    pair.guest.send(Pong(1))
    pair.collect()
    assert pair.guest.receive(cooked(pair.to_host)) == []
    assert pair.guest.counters.echoes == 2
    pair.run()
    assert in_session(pair)


def test_a_line_whose_newline_became_two_characters_is_understood() -> None:
    pair = Pair()
    pair.host.greet()
    pair.collect()
    pair.to_guest = cooked(pair.to_guest)
    pair.carry()
    pair.collect()
    pair.to_host = cooked(pair.to_host)
    pair.run()
    assert in_session(pair)


def test_a_greeting_cut_at_any_byte_does_nothing_and_the_next_is_answered() -> None:
    host = make_host()
    host.greet()
    greeting = host.data_to_send()
    for end in range(len(greeting) - 1):
        guest = make_guest()
        assert guest.receive(greeting[:end]) == []
        assert guest.data_to_send() == b""
        assert guest.receive(greeting) == []
        assert guest.state is State.ANSWERED
        guest = make_guest()
        assert guest.receive(greeting[end:]) == []
        guest.receive(greeting)
        assert guest.state is State.ANSWERED


def test_an_answer_cut_at_any_byte_does_nothing() -> None:
    pair = Pair()
    pair.host.greet()
    greeting = pair.host.data_to_send()
    pair.guest.receive(greeting)
    answer = pair.guest.data_to_send()
    for end in range(len(answer) - 1):
        host = make_host()
        host.greet()
        host.data_to_send()
        assert host.receive(answer[:end]) == []
        assert [type(event) for event in host.receive(answer)] == [Sealed]


@pytest.mark.parametrize("end", ["guest", "host"])
def test_ten_megabytes_without_a_newline_take_no_memory_and_a_session_starts(end: str) -> None:
    pair = Pair()
    piece = b"x" * 4096
    feed = pair.guest.receive if end == "guest" else pair.host.receive
    tracemalloc.start()
    try:
        for _ in range(2560):
            assert list(feed(piece)) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024
    pair.shake_hands()
    assert in_session(pair)


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_take_no_memory_and_a_session_starts(seed: int) -> None:
    pair = Pair()
    source = random.Random(seed)
    alphabet = b"\n\n\r<> .0123456789abcdefAZ+/=" + bytes(range(256))
    tracemalloc.start()
    try:
        for _ in range(300):
            piece = bytes(source.choices(alphabet, k=2000))
            pair.guest.receive(piece)
            pair.host.receive(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024
    pair.shake_hands()
    assert in_session(pair)


def test_lines_out_of_order_end_the_session_and_another_starts() -> None:
    pair = Pair().shake_hands()
    for n in (1, 2):
        pair.host.send(Ping(n))
        pair.collect()
    first, second = [line for line in pair.to_guest.split(b"\n") if line]
    pair.to_guest = second + b"\n" + first + b"\n"
    pair.run()
    assert isinstance(pair.guest_heard[-1], Lost)
    assert FromHost(Ping(2)) not in pair.guest_heard
    assert pair.host.state is State.IDLE
    pair.shake_hands()
    assert in_session(pair)


def test_a_line_that_comes_twice_is_one_line() -> None:
    pair = Pair().shake_hands()
    pair.guest_heard.clear()
    pair.host.send(Ping(1))
    pair.collect()
    pair.to_guest *= 3
    pair.run()
    assert pair.guest_heard == [FromHost(Ping(1))]
    assert pair.guest.counters.repeats == 2


def test_a_lost_line_ends_the_session_and_another_starts() -> None:
    pair = Pair().shake_hands()
    pair.guest.send(Pong(1))
    pair.collect()
    pair.to_host = b""
    pair.guest.send(Pong(2))
    pair.run()
    assert isinstance(pair.host_heard[-1], Lost)
    assert FromGuest(Pong(2)) not in pair.host_heard
    pair.shake_hands()
    assert in_session(pair)


@pytest.mark.parametrize("stale", [1, 5, 50])
def test_stale_bytes_of_an_earlier_session_in_both_directions_cost_no_new_one(stale: int) -> None:
    pair = Pair().shake_hands()
    for n in range(stale):
        pair.host.send(Ping(n))
        pair.guest.send(Pong(n))
    pair.collect()
    to_guest, to_host = pair.to_guest, pair.to_host
    pair = Pair(make_host(1), make_guest(1), to_guest, to_host)
    pair.host.greet()
    pair.run()
    assert pair.host.state is State.SEALED
    assert in_session(pair)
