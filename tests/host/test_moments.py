# SPDX-License-Identifier: Apache-2.0
"""The steps of a VM's runs: each that is taken, in its order, and not more than are kept, whatever a guest says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent.ledger.ledger import Ledger
from host_agent.ledger.schema import MOMENTS_KEPT, RUNS_KEPT
from host_agent.ledger.standing import Moment
from host_agent.talk.confirmation import Verdict
from host_agent.views.status import View
from pv_channel.messages import Confirm, ItemResult, Outcome, Ping, Pong, Progress, Provision, Report, Result, Unconfirmed
from tests.host.fakes import PLAIN, FakeGuest
from tests.host.talk import TIMING, Talk, wanted

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.messages import HostMessage
    from pv_channel.session import Guest

KEY = "00010203-0405-0607-0809-0a0b0c0d0e0f"
TCP = {"check": "tcp", "tcp": "192.0.2.10:22", "within": 60}
OFTEN = MOMENTS_KEPT * 3


def steps(talk: Talk) -> list[tuple[int, str, str]]:
    """Run, word and detail of all that is kept of the VM."""
    talk.ledger.commit()
    with View(talk.state) as view:
        return [(run, what, detail) for run, _, what, detail in view.moments(KEY)]


def words(talk: Talk) -> list[str]:
    return [what for _, what, _ in steps(talk)]


def test_a_first_boot_is_told_from_the_greeting_to_the_answer(talk: Talk) -> None:
    def work(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            for item in ("hostname", "hostname", "network"):
                end.send(Progress(1, item))
            end.send(Unconfirmed(1, 30, []))
            talk.guest.apply(message)
        elif isinstance(message, Confirm):
            pending = ItemResult("user-data", Outcome.PENDING)
            end.send(Result(1, Outcome.APPLIED, [ItemResult("hostname", Outcome.APPLIED), pending]))
            end.send(Report(1, [ItemResult("user-data", Outcome.FAILED, "command-failed", "part 1 \x1b")]))

    talk.guest.answer = work
    talk.begin(wanted({**PLAIN, "confirm": TCP}))
    talk.run()
    talk.conversation.decided(Verdict(1, good=True, text="192.0.2.10:22 answers"))
    talk.run()
    assert steps(talk) == [
        (1, Moment.GREETING, ""),
        (1, Moment.SEALED, "met for the first time, and pinned"),
        (1, Moment.SENT, "generation 1 of i-1"),
        (1, Moment.ITEM, "hostname"),
        (1, Moment.ITEM, "network"),
        (1, Moment.UNCONFIRMED, "waiting for a TCP connection to 192.0.2.10:22"),
        (1, Moment.CONFIRMED, "192.0.2.10:22 answers"),
        (1, Moment.ANSWERED, "applied"),
        (1, Moment.REPORTED, "user-data failed: command-failed: part 1 \\x1b"),
    ]


def test_what_is_in_force_already_is_a_run_of_its_own(talk: Talk) -> None:
    talk.begin()
    talk.run()
    talk.conversation.over("QEMU closed the connection")
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert steps(talk)[-4:] == [
        (1, Moment.LOST, "QEMU closed the connection"),
        (2, Moment.GREETING, ""),
        (2, Moment.SEALED, "as pinned"),
        (2, Moment.IN_FORCE, "generation 1 of i-1"),
    ]


def test_a_changed_document_begins_another_run_and_a_lost_session_does_not(talk: Talk) -> None:
    talk.guest.answer = lambda message, end: None
    talk.begin()
    talk.run()
    talk.now += TIMING.result
    talk.tick()
    talk.guest.answer = talk.guest.comply
    talk.pass_time(TIMING.greeting_every)
    assert words(talk) == ["greeting", "sealed", "sent", "lost", "sealed", "sent", "answered"]
    talk.conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.run()
    runs = [(run, what) for run, what, _ in steps(talk)]
    assert runs[-2:] == [(2, Moment.SENT), (2, Moment.ANSWERED)]


def test_a_dry_run_leaves_none(talk: Talk) -> None:
    talk.ledger.want(KEY, "web1", None, "d")
    talk.begin(dry_run=True)
    talk.run()
    talk.conversation.over("done")
    assert steps(talk) == []
    assert talk.vm()["sessions"] == 0


def test_a_guest_that_begins_items_without_end_fills_its_run_and_the_next_is_whole(talk: Talk) -> None:
    def work(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            for number in range(OFTEN):
                end.send(Progress(len(talk.guest.applied) + 1, f"item-{number % 7}"))
            talk.guest.apply(message)
            end.send(talk.guest.result(message))
        elif isinstance(message, Ping):
            end.send(Pong(message.n))

    talk.guest.answer = work
    talk.begin()
    talk.run()
    assert len(steps(talk)) == MOMENTS_KEPT
    talk.guest.answer = talk.guest.comply
    talk.conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.run()
    assert [what for run, what, _ in steps(talk) if run == 2] == [Moment.SENT, Moment.ANSWERED]


def test_the_latest_runs_are_kept(talk: Talk) -> None:
    talk.ledger.want(KEY, "web1", None, "d")
    for number in range(RUNS_KEPT + 3):
        talk.ledger.seen(KEY, number, "/run/vm1.sock")
        talk.ledger.moment(KEY, Moment.GREETING)
        talk.ledger.commit()
    assert [run for run, what, _ in steps(talk) if what == Moment.SEEN] == list(range(4, RUNS_KEPT + 4))


def test_a_stream_that_ends_and_is_begun_again_for_ever_does_not_fill_the_run_that_counts(talk: Talk) -> None:
    talk.ledger.want(KEY, "web1", None, "d")
    talk.ledger.seen(KEY, 7, "/run/vm1.sock")
    for _ in range(OFTEN):
        for what in (Moment.CONNECTED, Moment.GREETING, Moment.LOST):
            talk.ledger.moment(KEY, what)
    for what in (Moment.CONNECTED, Moment.GREETING, Moment.SEALED, Moment.SENT, Moment.ITEM, Moment.ANSWERED):
        talk.ledger.moment(KEY, what)
    assert words(talk)[-6:] == ["connected", "greeting", "sealed", "sent", "item", "answered"]


def test_another_process_begins_a_run_of_its_own(ledger: Ledger, state: Path) -> None:
    ledger.want("a", "a", None, "d")
    ledger.seen("a", 7, "/run/a.sock")
    ledger.commit()
    other = Ledger.open(state)
    other.moment("a", Moment.GREETING)
    other.close()
    ledger.moment("a", Moment.CONNECTED)
    ledger.commit()
    with View(state) as view:
        assert [(run, what) for run, _, what, _ in view.moments("a")] == [(1, "seen"), (1, "connected"), (2, "greeting")]


def test_what_is_not_committed_is_no_step_and_the_next_is_one(ledger: Ledger, state: Path) -> None:
    ledger.want("a", "a", None, "d")
    ledger.commit()
    ledger.seen("a", 7, "/run/a.sock")
    ledger.abandon()
    ledger.moment("a", Moment.GREETING)
    ledger.commit()
    with View(state) as view:
        assert [(run, what) for run, _, what, _ in view.moments("a")] == [(1, "greeting")]


def test_handshakes_are_counted(talk: Talk) -> None:
    for _ in range(3):
        talk.guest.restart()
        talk.begin()
        talk.run()
    assert talk.vm()["sessions"] == 3
    talk.guest = FakeGuest()
    talk.begin()
    talk.run()
    assert talk.vm()["sessions"] == 4  # and that was another's key
