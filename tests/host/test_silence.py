# SPDX-License-Identifier: Apache-2.0
"""A stream on which nobody answers: what is said of it, and when, from what was seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from host_agent.ledger.standing import State
from host_agent.talk.silence import Silence, seen, to_look_at
from host_agent.talk.timing import Timing
from pv_channel.noise import KeyPair
from pv_channel.session import Host
from tests.host.fakes import CHANNEL
from tests.host.talk import UUID

TIMING = Timing(unread=5.0, answer=30.0)
PATH = Path("/run/pv-channel/vm.sock")


@pytest.fixture
def end() -> Host:
    return Host(channel=CHANNEL, uuid=UUID, key=KeyPair.generate(), random_bytes=os.urandom)


def test_a_greeting_that_nobody_reads_is_told_as_such_until_it_is_read(end: Host) -> None:
    silence = Silence(PATH, TIMING, 100.0)
    assert silence.look(400, end, 104.9) is None
    stands = silence.look(400, end, 105.0)
    assert stands is not None
    assert stands[0] == State.UNREACHABLE
    assert "connected, but QEMU does not read" in stands[1]
    assert f"ss -xp | grep {PATH}" in stands[1]
    assert silence.look(400, end, 900.0) == stands
    assert silence.look(0, end, 901.0) == (State.GREETING, "the guest has not answered yet")
    assert silence.look(0, end, 930.9) == (State.GREETING, "the guest has not answered yet")
    last = silence.look(0, end, 931.0)
    assert last == (State.GREETING, "no guest has answered for 30 s: nothing came at all")


def test_what_lies_unread_once_something_was_read_is_for_a_guest_that_does_not_read(end: Host) -> None:
    silence = Silence(PATH, TIMING, 100.0)
    assert silence.look(0, end, 101.0) is None
    assert silence.look(400, end, 110.0) is None
    stands = silence.look(400, end, 131.0)
    assert stands is not None
    assert stands[0] == State.GREETING


def test_a_guest_that_was_heard_is_not_silent_until_that_is_over(end: Host) -> None:
    silence = Silence(PATH, TIMING, 100.0)
    silence.heard(101.0, over=False)
    assert silence.look(400, end, 1000.0) is None
    silence.heard(1000.0, over=True)
    assert silence.look(0, end, 1001.0) is None
    assert silence.look(0, end, 1031.0) is not None


@pytest.mark.parametrize(
    ("came", "what"),
    [
        (b"", "nothing came at all"),
        (b"\nDebian GNU/Linux 12 web1 hvc1\nweb1 login: \n", "another program (a getty?)"),
        (b"x" * 20_000, "another program (a getty?)"),
        (None, "no agent reads it"),
    ],
)
def test_what_came_says_where_to_look(end: Host, came: bytes | None, what: str) -> None:
    end.greet()
    echo = end.data_to_send()
    end.receive(echo if came is None else came)
    assert what in seen(end)


def test_the_advice_names_the_channel() -> None:
    assert str(PATH) in to_look_at(PATH)
