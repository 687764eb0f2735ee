# SPDX-License-Identifier: Apache-2.0
"""A change of the network stays where the host says so in time, and nothing else makes it stay; the clock is the test's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from guest_agent.actions.plan import Plan
from guest_agent.changes.files import WriteFile
from guest_agent.port import PortGone
from guest_agent.reach import Reach
from pv_channel.messages import Confirm, Outcome, Ping, Pong, Provision, Reject, Result, Unconfirmed
from tests.guest.machine import Machine, document, network, no_progress
from tests.guest.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from guest_agent.actions.draft import Draft
    from pv_channel import messages
    from pv_channel.document import Document

FIRST, SECOND = b'{"generation":1}', b'{"generation":2}'


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path)
    made.provisioner.unconfirmed = 30
    return made


def provision(raw: bytes = FIRST) -> Provision:
    return Provision(msgspec.Raw(raw))


def reason(result: Result) -> object:
    return result.items[0].reason


def test_what_the_host_confirms_stays(stage: Stage) -> None:
    stage.after(10, stage.say(Confirm(1)))
    stage.open(provision())
    question = stage.only(Unconfirmed)
    assert (question.generation, question.seconds, question.checks[0].detail) == (1, 30, "eth0 is up")
    assert stage.only(Result).outcome is Outcome.APPLIED
    assert stage.now == 1010


def test_what_the_host_rejects_goes_at_once_with_its_words(stage: Stage) -> None:
    stage.after(10, stage.say(Reject(1, "no ssh")))
    stage.open(provision())
    (item,) = stage.only(Result).items
    assert (item.item, item.outcome, item.reason, item.detail) == ("network", Outcome.FAILED, "rejected", "no ssh")
    assert (stage.now, stage.provisioner.generation) == (1010, 0)


def test_what_nobody_confirms_goes_when_the_time_is_over(stage: Stage) -> None:
    stage.open(provision())
    (item,) = stage.only(Result).items
    assert (item.reason, item.detail) == ("unconfirmed", "the host did not confirm the network within 30 s")
    assert stage.now == pytest.approx(1030)


@pytest.mark.parametrize("word", [Confirm(2), Reject(2, "another"), Confirm(2**53)])
def test_a_word_on_another_generation_is_not_for_this_one(stage: Stage, word: messages.HostMessage) -> None:
    stage.after(5, stage.say(word))
    stage.open(provision())
    assert reason(stage.only(Result)) == "unconfirmed"
    assert stage.now == pytest.approx(1030)


def test_the_first_word_counts(stage: Stage) -> None:
    def both() -> None:
        stage.host.send(Confirm(1))
        stage.host.send(Reject(1, "too late"))

    stage.after(5, both)
    stage.open(provision())
    assert stage.only(Result).outcome is Outcome.APPLIED


def test_a_word_that_nobody_waits_for_does_nothing(stage: Stage) -> None:
    stage.open(Ping(1), Confirm(1), Reject(1))
    stage.host.send(provision())
    stage.conversation.step(0)
    assert reason(stage.only(Result)) == "unconfirmed"


def test_questions_are_answered_meanwhile_and_the_watchdog_is_fed(stage: Stage) -> None:
    stage.after(7, stage.say(Ping(77)))
    stage.open(provision())
    assert [at for at, message in stage.said if isinstance(message, Pong)] == [pytest.approx(7)]
    assert stage.notes.sent.count("WATCHDOG=1") >= 10


def test_a_host_that_comes_back_is_asked_again_and_one_answer_is_for_both(stage: Stage) -> None:
    stage.after(10, lambda: stage.restart_host_with(provision()))
    stage.after(15, stage.say(Confirm(1)))
    stage.open(provision())
    assert [question.seconds for question in stage.all(Unconfirmed)] == [30, 20]
    stage.conversation.step(0)
    assert stage.only(Result).outcome is Outcome.APPLIED
    assert [raw for raw, _ in stage.provisioner.asked] == [FIRST]


def test_a_host_that_comes_back_with_another_generation_gets_that_when_this_one_is_decided(stage: Stage) -> None:
    def confirm_next() -> None:
        stage.host.send(Confirm(1))

    stage.after(10, lambda: stage.restart_host_with(provision(SECOND)))
    stage.after(12, stage.say(Reject(1, "another document is wanted")))
    stage.after(14, confirm_next)
    stage.open(provision())
    assert [raw for raw, _ in stage.provisioner.asked] == [FIRST, SECOND]
    assert [result.outcome for result in stage.all(Result)] == [Outcome.FAILED, Outcome.APPLIED]


def test_a_channel_that_is_cut_brings_the_old_network_back_at_once(stage: Stage) -> None:
    stage.after(10, stage.cut)
    with pytest.raises(PortGone):
        stage.open(provision())
    assert stage.conversation.result is not None
    assert reason(stage.conversation.result) == "unconfirmed"
    assert "cut" in stage.conversation.result.items[0].detail
    assert stage.now == 1010


def test_a_channel_that_was_cut_before_is_not_waited_for(stage: Stage) -> None:
    stage.provisioner.meanwhile = stage.cut
    with pytest.raises(PortGone):
        stage.open(provision())
    assert stage.conversation.result is not None
    assert reason(stage.conversation.result) == "unconfirmed"
    assert stage.now == 1000


def test_a_host_that_sends_documents_without_end_does_not_fill_the_memory(stage: Stage) -> None:
    for number in range(2, 30):
        stage.after(number / 10, stage.say(provision(b'{"generation":%d}' % number)))
    stage.after(9, stage.say(Confirm(1)))
    stage.open(provision())
    assert len(stage.provisioner.asked) < 10


ORDINARY = {"eth0": {"match": {"macaddress": "00:16:3e:01:02:03"}, "dhcp4": True}}


def with_reach(machine: Machine, monkeypatch: pytest.MonkeyPatch, *, there: bool = True) -> list[Unconfirmed]:
    """Have the item network write a file and reach for an interface; what is asked."""
    machine.write("sys/class/net/eth0/operstate", b"up" if there else b"down")

    def plan(document: Document, draft: Draft) -> Plan:
        content = f"{document.generation}\n".encode()
        return Plan([WriteFile("/etc/network.conf", content)], "", reach=Reach(["eth0"], [], []))

    monkeypatch.setattr("guest_agent.actions.planning._planners", lambda document: {"network": plan})
    return []


def answer(machine: Machine, raw: bytes, asked: list[Unconfirmed], refusal: Exception | None = None) -> Result:
    def confirming(question: Unconfirmed) -> None:
        asked.append(question)
        if refusal is not None:
            raise refusal

    return machine.provisioner().provision(raw, None, no_progress, confirming)


def test_a_network_that_is_rejected_is_put_back_and_the_result_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guest_agent.failure import ItemError

    machine = Machine(tmp_path)
    asked = with_reach(machine, monkeypatch)
    assert answer(machine, document(1, network=network(**ORDINARY)), asked).outcome is Outcome.APPLIED
    before = machine.snapshot()
    result = answer(machine, document(2, network=network(**ORDINARY)), asked, ItemError("rejected", "no ssh"))
    assert (result.outcome, reason(result), result.detail) == (Outcome.FAILED, "rejected", "the previous configuration is back")
    assert machine.snapshot() == before
    assert machine.provisioner().hello().generation == 1
    assert [question.generation for question in asked] == [1, 2]
    assert machine.state_files() == ["state.json"]


def test_the_time_that_the_guests_own_look_takes_is_not_the_hosts_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path)
    asked = with_reach(machine, monkeypatch, there=False)
    answer(machine, document(1, network=network(**ORDINARY), confirm={"within": 20}), asked)
    assert machine.waited == pytest.approx(10, abs=0.1)
    assert asked[0].seconds in (9, 10)
    assert [check.good for check in asked[0].checks] == [False]


@pytest.mark.parametrize(("check", "asks"), [("none", 0), ("tcp", 1), ("command", 1)])
def test_where_the_guests_look_does_not_decide_it_is_short_and_for_none_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str, asks: int
) -> None:
    machine = Machine(tmp_path)
    asked = with_reach(machine, monkeypatch, there=False)
    assert answer(machine, document(1, network=network(**ORDINARY), confirm={"check": check}), asked).outcome is Outcome.APPLIED
    assert (len(asked), machine.waited) == (asks, 0)


def test_a_machine_that_does_not_run_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    asked = with_reach(machine, monkeypatch, there=False)
    machine.system.live = False
    assert answer(machine, document(1, network=network(**ORDINARY)), asked).outcome is Outcome.APPLIED
    assert asked == []
