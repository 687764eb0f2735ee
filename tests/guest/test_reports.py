# SPDX-License-Identifier: Apache-2.0
"""What is under way when a document is answered is told when it is known, and to each later session; else it costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from guest_agent.actions.plan import Plan
from guest_agent.changes.files import WriteFile
from guest_agent.conversation import LATE_SECONDS
from guest_agent.state import State, Store
from pv_channel import messages
from pv_channel.messages import ItemResult, Outcome, Ping, Planned, Report
from tests.guest.machine import Machine, document, no_progress
from tests.guest.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from guest_agent.actions.draft import Draft
    from guest_agent.system import System
    from pv_channel.document import Document

DONE = ItemResult("user-data", Outcome.APPLIED)
FAILED = ItemResult("user-data", Outcome.FAILED, "command-failed", "part-1 ended with status 3", ["oh no"])


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_news_are_told_in_the_session_that_there_is(stage: Stage) -> None:
    stage.provisioner.pending = True
    stage.open(Ping(1))
    assert stage.all(Report) == []
    stage.provisioner.user_data = FAILED
    stage.conversation.step(3600)
    assert stage.only(Report) == Report(1, [FAILED])
    assert stage.now == 1000 + LATE_SECONDS


def test_where_nothing_is_under_way_nothing_is_looked_for(stage: Stage) -> None:
    stage.provisioner.user_data = DONE
    stage.open(Ping(1))
    stage.said.clear()
    stage.conversation.step(3600)
    assert stage.now == 4600
    assert stage.said == []


def test_what_was_under_way_is_told_at_the_start_of_each_session_before_anything_else(stage: Stage) -> None:
    stage.provisioner.user_data = DONE
    stage.open(Ping(1))
    stage.restart_host()
    stage.open(Ping(2))
    assert [type(message).__name__ for _, message in stage.said] == ["Report", "Pong", "Report", "Pong"]


def test_without_a_session_news_wait_for_one(stage: Stage) -> None:
    stage.provisioner.pending, stage.provisioner.user_data = True, DONE
    stage.host.abandon("not yet")
    stage.conversation.step(10)
    assert not stage.provisioner.pending
    stage.host.greet()
    stage.open(Ping(1))
    assert stage.only(Report) == Report(1, [DONE])


def test_a_plan_is_asked_for_and_answered(stage: Stage) -> None:
    stage.open(messages.Plan(msgspec.Raw(b"{}")))
    assert stage.only(Planned).items[0].steps == ["{}"]
    assert stage.provisioner.asked == []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with generation 1 in force, whose user-data is under way."""
    made = Machine(tmp_path)

    def plan(document: Document, draft: Draft) -> Plan:
        return Plan([WriteFile("/etc/generation", f"{document.generation}".encode())], "", pending=True)

    monkeypatch.setattr("guest_agent.actions.planning._planners", lambda document: {"user-data": plan})
    know(monkeypatch)
    made.provisioner().provision(document(1), None, no_progress)
    return made


def know(monkeypatch: pytest.MonkeyPatch, *news: ItemResult) -> None:
    """Have that much known of what is under way."""

    def known(system: System, state: State) -> list[ItemResult]:
        pending = [item.item for item in state.result.items if item.outcome is Outcome.PENDING]
        return [item for item in news if item.item in pending]

    monkeypatch.setattr("guest_agent.late.news", known)


def test_what_is_not_known_yet_is_pending_and_said_to_be(machine: Machine) -> None:
    provisioner = machine.provisioner()
    assert provisioner.hello().generation == 1
    assert (provisioner.pending, provisioner.late()) == (True, None)
    assert provisioner.report() == Report(1, [ItemResult("user-data", Outcome.PENDING)])


def test_what_became_of_it_is_told_once_and_stays_on_record(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    provisioner = machine.provisioner()
    provisioner.hello()
    know(monkeypatch, FAILED)
    assert provisioner.late() == Report(1, [FAILED])
    assert (provisioner.pending, provisioner.late()) == (False, None)
    for later in (provisioner, machine.provisioner()):
        assert later.report() == Report(1, [FAILED])
    again = machine.provisioner().provision(document(1), None, no_progress)
    assert (again.outcome, again.items) == (Outcome.UNCHANGED, [FAILED])


def test_what_was_never_under_way_is_not_reported(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guest_agent.actions.planning._planners", lambda document: {"user-data": lambda *_: Plan([], "")})
    provisioner = machine.provisioner()
    provisioner.provision(document(2), None, no_progress)
    assert (provisioner.pending, provisioner.report()) == (False, None)


def test_a_later_generation_forgets_what_was_under_way_before(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    provisioner, other = machine.provisioner(), machine.provisioner()
    provisioner.hello()
    other.provision(document(2), None, no_progress)
    know(monkeypatch, DONE)
    assert provisioner.late() is None
    assert other.late() == Report(2, [DONE])


def test_while_another_agent_is_at_work_news_wait(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    provisioner = machine.provisioner()
    provisioner.hello()
    know(monkeypatch, DONE)
    with Store(machine.system).lock():
        assert provisioner.late() is None
    assert provisioner.late() == Report(1, [DONE])
