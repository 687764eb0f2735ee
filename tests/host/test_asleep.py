# SPDX-License-Identifier: Apache-2.0
"""A conversation that sleeps, as ten thousand do: another goes on from what it packed, and nobody notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from host_agent.talk.asleep import unpack
from host_agent.talk.conversation import Conversation
from host_agent.talk.notices import What
from pv_channel.line import GUEST_SPEAKS, finish, header
from pv_channel.messages import Facts, Ping, Pong, Report
from tests.host.fakes import CHANNEL, PLAIN
from tests.host.talk import TIMING, Talk, wanted

if TYPE_CHECKING:
    from pv_channel.messages import HostMessage
    from pv_channel.session import Guest

GARBAGE = b"garbage\n"


def sleep(talk: Talk, what: dict[str, Any] | None = None) -> None:
    """The conversation falls asleep, and another goes on from there, for a VM that is to become *what* by then."""
    packed = talk.conversation.asleep()
    assert packed is not None
    talk.conversation = Conversation(
        wanted(what), CHANNEL, talk.identity, talk.ledger, talk.notices.append, now=talk.now, timing=TIMING
    )
    talk.conversation.awake(packed)


def test_a_settled_conversation_sleeps_in_a_third_of_a_kilobyte_and_goes_on(talk: Talk) -> None:
    talk.begin()
    talk.run()
    packed = talk.conversation.asleep()
    assert packed is not None
    assert len(packed) < 350
    for pings in range(1, 6):
        sleep(talk)
        talk.pass_time(TIMING.ping_every)
        assert talk.guest.pinged >= pings
    assert talk.kinds() == [What.GREETING, What.MET, What.SENDING, What.SETTLED]
    assert talk.vm()["sessions"] == 1


def test_one_that_was_asleep_hears_what_the_guest_says_of_its_own_accord(talk: Talk) -> None:
    talk.begin()
    talk.run()
    sleep(talk)
    talk.guest.end.send(Report(1, []))
    talk.conversation.receive(GARBAGE + talk.guest.end.data_to_send(), talk.now)
    assert talk.conversation.end.counters.garbage == 1
    talk.run()
    assert What.LOST not in talk.kinds()


def test_what_is_wanted_anew_is_sent_by_one_that_was_asleep(talk: Talk) -> None:
    talk.begin()
    talk.run()
    other = PLAIN | {"local-hostname": "web2"}
    sleep(talk, other)
    talk.conversation.want(wanted(other), talk.now)
    talk.run()
    assert [(str(d.local_hostname), d.generation) for d in talk.guest.applied] == [("web1", 1), ("web2", 2)]


def test_what_an_operator_wants_again_is_sent_by_one_that_was_asleep(talk: Talk) -> None:
    talk.begin()
    talk.run()
    sleep(talk)
    talk.ledger.ask_to_reprovision(wanted().key)
    talk.conversation.again(talk.now)
    talk.run()
    assert [document.generation for document in talk.guest.applied] == [1, 2]


def test_a_guest_that_restarts_while_we_sleep_is_greeted_anew(talk: Talk) -> None:
    talk.begin()
    talk.run()
    sleep(talk)
    talk.guest.restart()
    talk.pass_time(2 * TIMING.ping_every)
    assert talk.kinds().count(What.MET) == 2
    assert len(talk.guest.applied) == 1


def test_a_replay_is_dropped_by_one_that_was_asleep_too(talk: Talk) -> None:
    said: list[bytes] = []
    answer = talk.guest.receive

    def recorded(data: bytes) -> bytes:
        said.append(answer(data))
        return said[-1]

    talk.guest.receive = recorded  # type: ignore[method-assign]
    talk.begin()
    talk.run()
    sleep(talk)
    talk.conversation.receive(b"".join(said), talk.now)
    talk.pass_time(TIMING.ping_every)
    assert What.LOST not in talk.kinds()
    assert talk.guest.pinged >= 1


def test_what_was_counted_and_told_is_not_counted_and_told_again(talk: Talk) -> None:
    said = Facts(kernel="6.1.0")

    def tell_facts(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Ping):
            end.send(Pong(message.n, said))
        else:
            talk.guest.comply(message, end)

    talk.guest.answer = tell_facts
    talk.begin()
    talk.run()
    talk.conversation.receive(GARBAGE * 3, talk.now)
    talk.pass_time(2 * TIMING.ping_every)
    told = talk.conversation.asleep()
    assert told is not None
    assert unpack(told).told > talk.now
    sleep(talk)
    talk.pass_time(4 * TIMING.ping_every)
    assert talk.vm()["dropped"] == 3
    assert talk.kinds().count(What.FACTS) == 1


def test_it_does_not_sleep_while_something_is_under_way(talk: Talk) -> None:
    """Before it is sealed, while an answer is waited for, in the middle of a line, while something else is wanted."""
    conversation = talk.begin()
    assert conversation.asleep() is None
    talk.guest.answer = lambda message, end: None
    talk.run()
    assert conversation.asleep() is None
    talk.guest.answer = talk.guest.comply
    talk.guest.restart()
    talk.begin()
    talk.run()
    talk.conversation.receive(b"half a li", talk.now)
    assert talk.conversation.asleep() is None
    talk.conversation.receive(b"ne\n", talk.now)
    talk.tick()
    assert talk.conversation.asleep() is not None
    talk.pass_time(TIMING.first_ping - 0.5)
    talk.guest.answer = lambda message, end: None
    talk.pass_time(1.0)
    assert talk.conversation.asleep() is None


def test_a_dry_run_does_not_sleep(talk: Talk) -> None:
    talk.begin(dry_run=True)
    talk.run()
    assert talk.conversation.asleep() is None


def test_a_stale_line_that_is_not_acknowledged_yet_keeps_it_awake(talk: Talk) -> None:
    talk.begin()
    talk.run()
    stale = finish(header(GUEST_SPEAKS, b"A" * 8, b"B" * 8, 5, 0), b"")
    talk.conversation.receive(stale, talk.now)
    assert talk.conversation.asleep() is None
    talk.tick()
    assert talk.conversation.asleep() is not None


def test_what_it_packs_shows_no_key_where_it_is_printed(talk: Talk) -> None:
    talk.begin()
    talk.run()
    packed = talk.conversation.asleep()
    assert packed is not None
    assert repr(unpack(packed)) == "Asleep(...)"


@pytest.mark.parametrize("cut", [0, 1, 50])
def test_what_is_not_what_was_packed_is_a_fault_and_nothing_else(talk: Talk, cut: int) -> None:
    talk.begin()
    talk.run()
    packed = talk.conversation.asleep()
    assert packed is not None
    with pytest.raises(ValueError, match=r".+"):
        talk.begin().awake(packed[:cut])
