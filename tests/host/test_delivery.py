# SPDX-License-Identifier: Apache-2.0
"""A changed network stays where the rule in its document says so; plans are asked for without a trace; late news are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from host_agent.talk.confirmation import Asked, Verdict
from host_agent.talk.notices import What
from pv_channel.messages import (
    MAX_CONFIRM_SECONDS,
    Check,
    Confirm,
    ItemResult,
    Outcome,
    Ping,
    Plan,
    Planned,
    PlannedItem,
    Pong,
    Provision,
    Reject,
    Report,
    Result,
    Unconfirmed,
)
from tests.host.fakes import PLAIN, FakeGuest
from tests.host.talk import TIMING, Talk, wanted

if TYPE_CHECKING:

    from pv_channel.messages import GuestMessage, HostMessage
    from pv_channel.session import Guest

GOOD = [Check("link", good=True, detail="eth0 is up")]
BAD = [*GOOD, Check("gateway", good=False, detail="gateway 10.0.0.1 does not answer\x1b"), Check("link", good=False)]
TCP = {"check": "tcp", "tcp": "192.0.2.10:22", "within": 60}
COMMAND = {"check": "command", "command": ["/usr/local/bin/reaches", "secret"]}
DONE, FAILED, PENDING = (
    ItemResult("user-data", Outcome.APPLIED),
    ItemResult("user-data", Outcome.FAILED, "command-failed", "part 1 \x1b"),
    ItemResult("user-data", Outcome.PENDING),
)


class Waits:
    """What a guest does whose network a document changes: it asks for the host's word, and answers by that."""

    def __init__(self, guest: FakeGuest, checks: list[Check], seconds: int = 30) -> None:
        self.guest, self.checks, self.seconds = guest, checks, seconds
        self.heard: list[HostMessage] = []
        self.documents: list[Provision] = []
        guest.answer = self.answer

    def answer(self, message: HostMessage, end: Guest) -> None:
        self.heard.append(message)
        if isinstance(message, Provision):
            self.documents.append(message)
            end.send(Unconfirmed(len(self.documents), self.seconds, self.checks))
        elif isinstance(message, Confirm):
            self.guest.apply(self.documents[message.generation - 1])
            end.send(self.guest.result(self.documents[message.generation - 1]))
        elif isinstance(message, Reject):
            item = ItemResult("network", Outcome.FAILED, "rejected", message.detail)
            end.send(Result(message.generation, Outcome.FAILED, [item], detail="the previous configuration is back"))
        elif isinstance(message, Ping):
            end.send(Pong(message.n))

    def words(self) -> list[HostMessage]:
        return [message for message in self.heard if isinstance(message, Confirm | Reject)]


def guest_says(talk: Talk, *messages: GuestMessage) -> None:
    for message in messages:
        talk.guest.end.send(message)
    talk.conversation.receive(talk.guest.end.data_to_send(), talk.now)
    talk.run()


def asking(talk: Talk) -> Asked:
    asked = talk.conversation.to_look_at()
    assert asked is not None
    assert talk.conversation.to_look_at() is None
    return asked


def test_where_the_guest_sees_all_that_it_should_its_network_stays(talk: Talk) -> None:
    waits = Waits(talk.guest, GOOD)
    talk.begin()
    talk.run()
    assert waits.words() == [Confirm(1)]
    assert talk.kinds()[-3:] == [What.UNCONFIRMED, What.CONFIRMED, What.SETTLED]
    assert (talk.vm()["outcome"], talk.vm()["state"]) == ("applied", "ready")


def test_where_the_guest_does_not_its_network_goes_and_the_first_reason_is_said(talk: Talk) -> None:
    waits = Waits(talk.guest, BAD)
    talk.begin()
    talk.run()
    assert waits.words() == [Reject(1, "gateway 10.0.0.1 does not answer\\x1b")]
    assert talk.kinds()[-3:] == [What.UNCONFIRMED, What.REJECTED, What.SETTLED]
    assert "\\x1b" in talk.notices[-2].text
    vm = talk.vm()
    assert (vm["outcome"], vm["generation-applied"], vm["items"][0]["reason"]) == ("failed", 0, "rejected")


def test_a_guest_that_asks_where_the_document_wants_no_check_is_confirmed(talk: Talk) -> None:
    waits = Waits(talk.guest, BAD)
    talk.begin(wanted({**PLAIN, "confirm": {"check": "none"}}))
    talk.run()
    assert waits.words() == [Confirm(1)]


@pytest.mark.parametrize(("rule", "what"), [(TCP, "192.0.2.10:22"), (COMMAND, "/usr/local/bin/reaches")])
def test_what_dom0_has_to_look_at_is_handed_out_once_and_the_verdict_goes_to_the_guest(
    talk: Talk, rule: dict[str, Any], what: str
) -> None:
    waits = Waits(talk.guest, BAD)
    talk.begin(wanted({**PLAIN, "confirm": rule}))
    talk.run()
    assert waits.words() == []
    asked = asking(talk)
    assert (asked.vm, asked.uuid, asked.generation, asked.seconds) == ("web1", "00010203-0405-0607-0809-0a0b0c0d0e0f", 1, 30)
    assert what in talk.notices[-1].text
    assert "secret" not in talk.notices[-1].text
    assert what in talk.vm()["detail"]
    talk.conversation.decided(Verdict(1, good=True, text="seen"))
    talk.run()
    assert waits.words() == [Confirm(1)]
    talk.conversation.decided(Verdict(1, good=False, text="seen again"))
    talk.run()
    assert waits.words() == [Confirm(1)]


def test_a_verdict_is_for_the_generation_that_it_is_about(talk: Talk) -> None:
    waits = Waits(talk.guest, GOOD)
    talk.begin(wanted({**PLAIN, "confirm": TCP}))
    talk.run()
    talk.conversation.decided(Verdict(7, good=True, text="seen"))
    talk.run()
    assert waits.words() == []


def test_a_guest_that_asks_again_in_a_new_session_gets_the_word_there(talk: Talk) -> None:
    waits = Waits(talk.guest, GOOD)
    talk.begin(wanted({**PLAIN, "confirm": TCP}))
    talk.run()
    asking(talk)
    talk.guest.restart()
    waits.documents.clear()
    talk.conversation.decided(Verdict(1, good=True, text="seen, but said into a session that the guest has lost"))
    talk.run()
    talk.pass_time(1)
    assert waits.words() == []
    assert asking(talk).generation == 1
    talk.conversation.decided(Verdict(1, good=True, text="seen"))
    talk.run()
    assert waits.words() == [Confirm(1)]


def test_a_verdict_between_two_sessions_is_said_to_nobody(talk: Talk) -> None:
    waits = Waits(talk.guest, GOOD)
    talk.begin(wanted({**PLAIN, "confirm": TCP}))
    talk.run()
    talk.conversation.end.abandon("a test")
    talk.conversation.decided(Verdict(1, good=True, text="seen"))
    assert waits.words() == []
    talk.run()


@pytest.mark.parametrize("is_in_force", [True, False])
def test_what_waits_for_a_word_and_is_not_wanted_any_more_is_rejected_at_once(talk: Talk, is_in_force: bool) -> None:
    """The host was restarted, and its document had been changed, or changed back, meanwhile."""
    heard: list[HostMessage] = []
    talk.begin()
    talk.run()

    def waits(message: HostMessage, end: Guest) -> None:
        heard.append(message)
        if isinstance(message, Ping | Provision):
            end.send(Unconfirmed(9, 30, GOOD))

    talk.guest.answer = waits
    talk.guest.restart()
    talk.begin(None if is_in_force else wanted({**PLAIN, "local-hostname": "web2"}))
    talk.run()
    assert [type(message) for message in heard] == [Ping if is_in_force else Provision, Reject]
    assert What.UNCONFIRMED not in talk.kinds()


def test_the_document_that_was_sent_decides_even_where_another_is_wanted_by_now(talk: Talk) -> None:
    waits = Waits(talk.guest, GOOD)
    talk.begin(wanted({**PLAIN, "confirm": TCP}))
    talk.run()
    talk.conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.conversation.decided(Verdict(asking(talk).generation, good=True, text="seen"))
    talk.run()
    assert waits.words() == [Confirm(1), Confirm(2)]
    assert [str(document.local_hostname) for document in talk.guest.applied] == ["web1", "web2"]


def test_while_a_guest_waits_for_its_word_it_is_not_given_up_but_not_for_ever_either(talk: Talk) -> None:
    Waits(talk.guest, GOOD, MAX_CONFIRM_SECONDS)
    talk.begin(wanted({**PLAIN, "confirm": TCP}))
    talk.run()
    began = talk.now
    talk.now += MAX_CONFIRM_SECONDS - 1
    talk.tick()
    assert What.LOST not in talk.kinds()
    while What.LOST not in talk.kinds():
        assert talk.now <= began + TIMING.result_at_most + MAX_CONFIRM_SECONDS
        talk.guest.end.send(Unconfirmed(1, MAX_CONFIRM_SECONDS))
        talk.conversation.receive(talk.guest.end.data_to_send(), talk.now)
        talk.now += TIMING.result
        talk.tick()


def test_a_guest_does_not_have_more_time_looked_for_than_its_document_has(talk: Talk) -> None:
    Waits(talk.guest, GOOD, 3600)
    talk.begin(wanted({**PLAIN, "confirm": TCP}))
    talk.run()
    assert asking(talk).seconds == 60


PLAN = Planned(1, [PlannedItem("hostname", steps=["write /etc/hostname"])])


def plans(talk: Talk, answer: Planned) -> list[HostMessage]:
    """Have the guest answer plans with that; what it hears."""
    heard: list[HostMessage] = []

    def say(message: HostMessage, end: Guest) -> None:
        heard.append(message)
        if isinstance(message, Plan):
            end.send(answer)
        talk.guest.pong(message, end)

    talk.guest.answer = say
    return heard


def test_a_dry_run_asks_for_the_plan_and_leaves_no_trace_in_the_ledger(talk: Talk) -> None:
    heard = plans(talk, PLAN)
    talk.begin(dry_run=True)
    talk.run()
    assert [type(message) for message in heard] == [Plan]
    assert talk.notices[-1].planned == PLAN
    vm = talk.vm()
    assert (vm["generation-applied"], vm["outcome"], vm["state"]) == (0, "", "unreachable")
    talk.guest.answer = talk.guest.comply
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert talk.guest.applied[0].generation == 1


def test_a_dry_run_on_a_vm_that_is_ready_leaves_it_so(talk: Talk) -> None:
    talk.begin()
    talk.run()
    before = talk.vm()
    heard = plans(talk, Planned(2))
    talk.guest.restart()
    talk.begin(wanted({**PLAIN, "local-hostname": "web2"}), dry_run=True)
    talk.run()
    assert [type(message) for message in heard] == [Plan]
    after = talk.vm()
    assert {k: v for k, v in after.items() if k != "last-heard"} == {k: v for k, v in before.items() if k != "last-heard"}


def test_a_dry_run_of_what_is_in_force_sends_nothing(talk: Talk) -> None:
    talk.begin()
    talk.run()
    heard = plans(talk, PLAN)
    talk.guest.restart()
    talk.begin(dry_run=True)
    talk.run()
    assert [type(message) for message in heard] == [Ping]
    assert "nothing would be sent" in talk.notices[-1].text


def test_a_dry_run_decides_over_nobodys_network_and_waits_until_that_is_decided(talk: Talk) -> None:
    heard: list[HostMessage] = []

    def busy(message: HostMessage, end: Guest) -> None:
        heard.append(message)
        end.send(Unconfirmed(1, 600, BAD))

    talk.guest.answer = busy
    talk.begin(dry_run=True)
    talk.run()
    talk.now += 600
    talk.run()
    guest_says(talk, PLAN)
    assert {type(message) for message in heard} == {Plan, Ping}
    assert talk.notices[-1].planned == PLAN


@pytest.mark.parametrize("message", [Planned(7), Result(1, Outcome.APPLIED)])
def test_another_answer_is_none_to_a_dry_run(talk: Talk, message: GuestMessage) -> None:
    talk.guest.answer = lambda asked, end: end.send(message)
    talk.begin(dry_run=True)
    talk.run()
    assert talk.kinds()[-1] is What.SENDING


def test_a_plan_that_nobody_asked_for_changes_nothing(talk: Talk) -> None:
    talk.begin()
    talk.run()
    count = len(talk.notices)
    guest_says(talk, PLAN)
    assert len(talk.notices) == count


def applies_with(talk: Talk, *items: ItemResult) -> None:
    """Have the guest apply what it gets, with these items."""

    def answer(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            talk.guest.apply(message)
            end.send(Result(len(talk.guest.applied), Outcome.APPLIED, list(items)))
        talk.guest.pong(message, end)

    talk.guest.answer = answer


def outcomes(talk: Talk) -> dict[str, str]:
    return {item["item"]: item["outcome"] for item in talk.vm()["items"]}


def test_what_became_of_an_item_later_is_kept_and_told_once(talk: Talk) -> None:
    applies_with(talk, ItemResult("hostname", Outcome.APPLIED), PENDING)
    talk.begin()
    talk.run()
    assert outcomes(talk) == {"hostname": "applied", "user-data": "pending"}
    guest_says(talk, Report(1, [PENDING]))
    assert What.REPORTED not in talk.kinds()
    for _ in range(2):
        guest_says(talk, Report(1, [DONE]))
    assert talk.kinds().count(What.REPORTED) == 1
    assert outcomes(talk) == {"hostname": "applied", "user-data": "applied"}
    assert talk.vm()["state"] == "ready"


def test_a_late_failure_degrades_the_vm_until_another_generation(talk: Talk) -> None:
    applies_with(talk, PENDING)
    talk.begin()
    talk.run()
    guest_says(talk, Report(1, [FAILED]))
    vm = talk.vm()
    assert (vm["state"], vm["outcome"], vm["items"][0]["reason"]) == ("degraded", "applied", "command-failed")
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert talk.vm()["state"] == "degraded"
    applies_with(talk, DONE)
    talk.conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.run()
    assert talk.vm()["state"] == "ready"


def test_a_guest_that_reports_without_end_fills_neither_the_ledger_nor_the_log(talk: Talk) -> None:
    applies_with(talk, PENDING)
    talk.begin()
    talk.run()
    for number in range(100):
        guest_says(talk, Report(1, [FAILED if number % 2 else DONE, ItemResult(f"item-{number}", Outcome.PENDING)]))
    assert len(talk.vm()["items"]) == 64
    assert talk.kinds().count(What.REPORTED) <= 64


def test_a_guest_that_asks_for_the_word_without_end_is_answered_once_in_a_session(talk: Talk) -> None:
    waits = Waits(talk.guest, GOOD)
    talk.guest.answer = lambda message, end: waits.heard.append(message)
    talk.begin()
    talk.run()
    for generation in [1, 7] * 100:
        guest_says(talk, Unconfirmed(generation, 30, GOOD))
    assert waits.words() == [Confirm(1), Reject(7, "another document is wanted by now")]
    assert talk.kinds().count(What.UNCONFIRMED) == 1


def test_a_host_that_lost_its_ledger_learns_at_the_start_of_a_session(talk: Talk) -> None:
    talk.begin()
    talk.run()
    talk.guest.restart()
    talk.begin()
    talk.ledger._db.read("DELETE FROM item")
    talk.ledger._db.read("UPDATE vm SET generation_items=0, generation_applied=0, generation_sent=0, digest_sent=''")

    def say_again(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            end.send(Report(1, [FAILED]))
            end.send(Result(1, Outcome.UNCHANGED, [ItemResult("hostname", Outcome.UNCHANGED), FAILED], ["ssh-ed25519 AAAA host"]))

    talk.guest.answer = say_again
    talk.run()
    assert outcomes(talk) == {"hostname": "unchanged", "user-data": "failed"}
    vm = talk.vm()
    assert (vm["state"], vm["outcome"], vm["generation-applied"]) == ("degraded", "unchanged", 1)
    assert vm["host-keys"] == ["ssh-ed25519 AAAA host"]
    settlement = talk.notices[-1].settlement
    assert settlement is not None
    assert (settlement.generation, settlement.outcome, settlement.good) == (1, "degraded", False)


@pytest.mark.parametrize("generation", [2, 7])
def test_a_report_on_what_is_not_in_force_changes_nothing(talk: Talk, generation: int) -> None:
    applies_with(talk, PENDING)
    talk.begin()
    talk.run()
    count = len(talk.notices)
    guest_says(talk, Report(generation, [DONE]))
    assert (outcomes(talk), len(talk.notices)) == ({"user-data": "pending"}, count)


def test_a_report_does_not_cover_up_what_failed_in_a_newer_generation(talk: Talk) -> None:
    applies_with(talk, PENDING)
    talk.begin()
    talk.run()

    def fail(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            end.send(talk.guest.result(message, Outcome.FAILED))

    talk.guest.answer = fail
    talk.conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.run()
    guest_says(talk, Report(1, [DONE]))
    assert outcomes(talk) == {"hostname": "failed"}
    assert (talk.vm()["outcome"], talk.vm()["state"]) == ("failed", "ready")


def test_a_guest_that_is_back_at_what_it_had_shows_the_items_of_that_and_none_of_what_failed(talk: Talk) -> None:
    talk.begin()
    talk.run()

    def fail(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            end.send(talk.guest.result(message, Outcome.FAILED))
        talk.guest.pong(message, end)

    talk.guest.answer = fail
    talk.conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.run()
    assert outcomes(talk) == {"hostname": "failed"}
    talk.guest.answer = talk.guest.comply
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert (talk.vm()["outcome"], outcomes(talk)) == ("unchanged", {"hostname": "unchanged"})
    assert len(talk.guest.applied) == 1
