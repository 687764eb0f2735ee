# SPDX-License-Identifier: Apache-2.0
"""`reprovision` and `forget-key`: asked for on the ledger, with who asked, whether a service is running or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from host_agent import who
from host_agent.ledger.standing import State
from host_agent.serve_lock import hold
from tests.host.records import answered, wanted
from tests.host.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.ledger.ledger import Ledger
    from tests.host.records import Operator

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


@pytest.fixture
def fleet(ledger: Ledger) -> Ledger:
    """Two VMs that can be provisioned again, and one of each kind that cannot."""
    for vm in ("web1", "web2", "numbered", "mistyped", "old"):
        answered(ledger, vm)
    wanted(ledger, "numbered", 1)
    ledger.document_error("mistyped", "mistyped", "mistyped.yaml:3:1: users: expected an array")
    ledger.stand("old", State.REMOVED, "the document was removed")
    ledger.commit()
    return ledger


def test_what_is_asked_for_is_on_the_ledger_with_who_asked(fleet: Ledger, operator: Operator) -> None:
    assert operator.says("reprovision", "web1", "web2") == 0
    assert operator.out == "asked for web1, web2; 'pv-host-agent wait web1 web2' waits for it\n"
    assert sorted(fleet.to_reprovision()) == ["web1", "web2"]
    vm = operator.reads("status", "web1")
    assert (vm["reprovision"], vm["verdict"], vm["why"]) == (True, "waiting", "to be applied again")
    assert [entry["who"] for entry in vm["audit"]] == [who.operator()]
    assert "asked to reprovision" in vm["audit"][0]["what"]
    assert "on request" in vm["events"][-1]["what"]


@pytest.mark.parametrize(
    ("vm", "cure"),
    [
        ("numbered", "its document says 'generation: 1' itself, and that is in force or on its way; write a higher number there"),
        ("mistyped", "its document cannot be used, and once mended is applied anyway: mistyped.yaml:3:1: users"),
        ("old", "there is no document for it; give it one"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure_and_the_rest_is_asked_for(
    fleet: Ledger, operator: Operator, vm: str, cure: str
) -> None:
    assert operator.says("reprovision", vm, "web1") == 1
    assert f"pv-host-agent: {vm}: {cure}" in operator.err
    assert fleet.to_reprovision() == ["web1"]


def test_a_vm_that_nobody_knows_stops_all_of_it(fleet: Ledger, operator: Operator) -> None:
    assert operator.says("reprovision", "web1", "nobody") == 1
    assert "nobody: not in the ledger" in operator.err
    assert fleet.to_reprovision() == []


def test_all_are_those_with_a_document_and_are_asked_back_about(fleet: Ledger, state: Path, operator: Operator) -> None:
    with Running("reprovision", "--all", "--state", str(state)) as running:
        assert running.end() == 1
    assert "--all asks first, and here is no terminal to ask on; say --yes as well" in running.text
    assert fleet.to_reprovision() == []
    assert operator.says("reprovision", "--all", "--yes") == 1
    assert operator.out == "asked for 2 VMs; 'pv-host-agent wait --all' waits for it\n"
    assert sorted(fleet.to_reprovision()) == ["web1", "web2"]
    assert "numbered: " in operator.err
    assert "mistyped: " in operator.err
    assert "old: " not in operator.err


@pytest.mark.parametrize(("answer", "asked"), [("y\n", ["web1"]), ("yes\n", ["web1"]), ("n\n", []), ("\n", []), ("", [])])
def test_on_a_terminal_nothing_is_asked_for_without_a_yes(
    ledger: Ledger, operator: Operator, monkeypatch: pytest.MonkeyPatch, answer: str, asked: list[str]
) -> None:
    answered(ledger, "web1")
    ledger.commit()
    ours, theirs = os.openpty()
    os.write(ours, answer.encode() or b"\x04")
    with os.fdopen(theirs, encoding="ascii") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert operator.says("reprovision", "--all") == (0 if asked else 1)
    os.close(ours)
    assert "apply everything again on 1 VM? [y/N]" in operator.err
    assert ledger.to_reprovision() == asked


def test_it_is_said_whether_a_service_is_there_to_do_it(fleet: Ledger, state: Path, operator: Operator) -> None:
    assert operator.says("reprovision", "web1") == 0
    assert "no 'pv-host-agent serve' is running on this state directory: it is done when one is" in operator.err
    lock = hold(state)
    assert operator.says("reprovision", "web1") == 0
    os.close(lock)
    assert operator.err == ""


@pytest.mark.parametrize("words", [[], ["--all", "web1"]])
def test_wrong_usage_is_exit_status_2(fleet: Ledger, operator: Operator, words: list[str]) -> None:
    assert operator.says("reprovision", *words) == 2
    assert fleet.to_reprovision() == []


def test_a_key_is_forgotten_with_who_did_it_and_what_happens_next(ledger: Ledger, state: Path, operator: Operator) -> None:
    answered(ledger, "web1")
    ledger.pin("web1", KEY)
    ledger.block("web1", State.KEY_CHANGED, OTHER_KEY, "another key")
    ledger.commit()
    before = operator.reads("status", "web1")
    assert operator.says("forget-key", "web1") == 0
    assert f"web1: forgot {before['guest-key']} and {before['rival-key']}; once 'serve' or 'push' greets" in operator.out
    vm = operator.reads("status", "web1")
    assert (vm["guest-key"], vm["rival-key"], vm["state"], vm["verdict"]) == ("", "", "greeting", "waiting")
    assert (vm["audit"][-1]["who"], before["guest-key"] in vm["audit"][-1]["what"]) == (who.operator(), True)
    lock = hold(state)
    assert operator.says("forget-key", "web1") == 0
    assert operator.out == "web1: had no key; the first that its guest shows is pinned\n"
    assert len(operator.reads("status", "web1")["audit"]) == 1
    ledger.pin("web1", KEY)
    ledger.commit()
    assert operator.says("forget-key", "web1") == 0
    os.close(lock)
    assert "the service greets the guest again, pins the key that it then shows" in operator.out
