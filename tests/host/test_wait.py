# SPDX-License-Identifier: Apache-2.0
"""`wait`: it ends when all is well (0), when something will not be (1), when the time is over (2), and not before."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from host_agent.documents.document_file import read
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.standing import State
from host_agent.serve_lock import hold
from host_agent.views.verdict import Judged, Verdict
from host_agent.views.waiting import Telling, Wait, Waited
from pv_channel.messages import ItemResult, Outcome
from tests.host.records import HOSTNAME, NETWORK_FAILED, USER_DATA, a_fleet, answered, sent, wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.host.records import Operator

#: Long enough for anything on a busy machine; short, where nothing is to come.
LONG, SHORT = "60", "0.3"


class Meanwhile:
    """Something that another process does to the ledger while a verb waits, once it has looked for the first time."""

    def __init__(self, state: Path, *steps: Callable[[Ledger], object]) -> None:
        self._thread = threading.Thread(target=self._run, args=(state, steps))

    def _run(self, state: Path, steps: tuple[Callable[[Ledger], object], ...]) -> None:
        for step in steps:
            time.sleep(0.3)
            ledger = Ledger.open(state)
            step(ledger)
            ledger.close()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def test_what_is_ready_is_not_waited_for(ledger: Ledger, operator: Operator) -> None:
    answered(ledger, "web1")
    answered(ledger, "web2")
    ledger.commit()
    assert operator.says("wait", "web1", "--timeout", LONG) == 0
    assert operator.out == "web1: ready, generation 1 is in force\n"
    assert "waiting" not in operator.err
    assert operator.says("wait", "--all", "--timeout", LONG) == 0
    assert operator.out == "all 2 VMs are ready\n"


def test_it_waits_through_a_boot_and_a_result_that_is_pending(ledger: Ledger, state: Path, operator: Operator) -> None:
    wanted(ledger, "web1")
    ledger.stand("web1", State.UNREACHABLE, "the VM is off")
    ledger.commit()
    steps = (
        lambda ledger: sent(ledger, "web1"),
        lambda ledger: answered(ledger, "web1", HOSTNAME, USER_DATA),
        lambda ledger: ledger.report("web1", 1, [ItemResult("user-data", Outcome.APPLIED)]),
    )
    with Meanwhile(state, *steps):
        assert operator.says("wait", "web1", "--timeout", LONG) == 0
    assert "web1: waiting, unreachable: the VM is off" in operator.err
    assert operator.out == "web1: ready, generation 1 is in force\n"


def test_a_vm_and_a_ledger_that_are_not_there_yet_are_waited_for(state: Path, operator: Operator) -> None:
    with Meanwhile(state, lambda _: None, lambda ledger: answered(ledger, "web1")):
        assert operator.says("wait", "web1", "--timeout", LONG) == 0
    assert "web1: waiting: not in the ledger" in operator.err


def test_a_ledger_that_was_set_aside_and_begun_anew_is_read_on(ledger: Ledger, state: Path, operator: Operator) -> None:
    answered(ledger, "web1", outcome=Outcome.FAILED)
    ledger.commit()

    def set_aside(old: Ledger) -> None:
        old.path.rename(state / "aside")
        new = Ledger.open(state)
        answered(new, "web1")
        new.close()

    with Meanwhile(state, set_aside):
        assert operator.says("wait", "web1", "--patient", "--timeout", LONG) == 0


@pytest.mark.parametrize("vm", ["failed", "degraded", "quarrel", "mistyped", "old"])
def test_what_needs_an_operator_ends_it_at_once_with_the_reason(ledger: Ledger, operator: Operator, vm: str) -> None:
    a_fleet(ledger)
    assert operator.says("wait", "ready", "greeting", vm, "--timeout", LONG) == 1
    failed, waiting = operator.out.splitlines()
    assert failed.startswith(f"{vm}: failed")
    assert waiting == "greeting: waiting, greeting: the guest has not answered yet"


def test_the_patient_wait_until_it_is_mended(ledger: Ledger, state: Path, operator: Operator) -> None:
    answered(ledger, "web1", NETWORK_FAILED, outcome=Outcome.FAILED)
    ledger.commit()
    with Meanwhile(state, lambda ledger: answered(ledger, "web1", generation=2)):
        assert operator.says("wait", "web1", "--patient", "--timeout", LONG) == 0
    answered(ledger, "web1", NETWORK_FAILED, outcome=Outcome.FAILED, generation=3)
    ledger.commit()
    assert operator.says("wait", "web1", "--patient", "--timeout", SHORT) == 1  # what it says is known: it is not under way


@pytest.mark.parametrize("vm", ["pending", "provisioning", "greeting", "off", "nobody"])
def test_when_the_time_is_over_it_is_said_who_is_missing_and_what_for(ledger: Ledger, operator: Operator, vm: str) -> None:
    a_fleet(ledger)
    assert operator.says("wait", "ready", vm, "--timeout", SHORT) == 2
    (line,) = operator.out.splitlines()
    assert line.startswith(f"time is over: {vm}: waiting")
    (_, found) = operator.reads("wait", "ready", vm, "--timeout", SHORT)
    assert list(found) == ["vm", "key", "verdict", "standing", "why", "generation-applied"]
    assert (found["vm"], found["verdict"]) == (vm, "waiting")
    assert found["why"] in line


def test_all_are_those_that_have_a_document_and_none_is_not_all(ledger: Ledger, operator: Operator) -> None:
    assert operator.says("wait", "--all", "--timeout", SHORT) == 2
    assert operator.out == "time is over: no VM with a document is in the ledger\n"
    answered(ledger, "web1")
    answered(ledger, "web2")
    ledger.stand("web2", State.REMOVED, "the document was removed")
    ledger.commit()
    assert operator.says("wait", "--all", "--timeout", LONG) == 0
    assert operator.out == "web1: ready, generation 1 is in force\n"


def test_a_reprovision_that_is_asked_for_is_waited_for(ledger: Ledger, state: Path, operator: Operator) -> None:
    answered(ledger, "web1")
    ledger.commit()
    assert operator.says("reprovision", "web1") == 0
    assert operator.says("wait", "web1", "--timeout", SHORT) == 2
    assert "to be applied again" in operator.out
    with Meanwhile(state, lambda ledger: sent(ledger, "web1", 2), lambda ledger: answered(ledger, "web1", generation=2)):
        assert operator.says("wait", "web1", "--timeout", LONG) == 0
    assert operator.out == "web1: ready, generation 2 is in force\n"


def test_a_generation_that_is_asked_for_is_waited_for(ledger: Ledger, state: Path, operator: Operator) -> None:
    answered(ledger, "web1", generation=3)
    ledger.commit()
    assert operator.says("wait", "web1", "--generation", "3", "--timeout", LONG) == 0
    assert operator.says("wait", "web1", "--generation", "4", "--timeout", SHORT) == 2
    assert "generation 3 is in force, not 4" in operator.out
    with Meanwhile(state, lambda ledger: answered(ledger, "web1", generation=5)):
        assert operator.says("wait", "web1", "--generation", "4", "--timeout", LONG) == 0


def test_a_file_that_was_changed_a_moment_ago_is_waited_for_as_it_is_now(
    ledger: Ledger, state: Path, operator: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "web1.yaml"
    file.write_text("instance-id: i-1\nlocal-hostname: web2\n")
    digest = read(file).digest()
    answered(ledger, "web1")  # what it said before
    ledger.commit()
    assert operator.says("wait", "web1", "--timeout", LONG) == 0
    assert operator.says("wait", "--file", str(file), "--timeout", SHORT) == 2
    assert "this document has not been picked up yet" in operator.out

    def pick_up(ledger: Ledger) -> None:
        ledger.want("web1", "web1", None, digest)
        ledger.sending("web1", "i-1", 2, digest)
        ledger.in_force("web1", "i-1", 2, digest, "0.1.0")

    with Meanwhile(state, pick_up):
        assert operator.says("wait", "--file", str(file), "--timeout", LONG) == 0
    file.write_text("local-hostname: 'a b'\n")
    assert operator.says("wait", "--file", str(file), "--timeout", LONG) == 1
    assert "web1.yaml" in operator.err


def test_a_file_is_waited_for_with_the_defaults_below_it(ledger: Ledger, operator: Operator, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir(mode=0o700)
    file = documents / "web1.yaml"
    file.write_text("instance-id: i-1\nlocal-hostname: web1\n")
    answered(ledger, "web1")
    ledger.want("web1", "web1", None, alone := read(file).digest())
    ledger.in_force("web1", "i-1", 2, alone, "0.1.0")
    ledger.commit()
    words = ("wait", "--documents", str(documents), "--file", str(file))
    assert operator.says(*words, "--timeout", LONG) == 0
    (tmp_path / "defaults.yaml").write_text("timezone: Europe/Vienna\n")
    assert operator.says(*words, "--timeout", SHORT) == 2


@pytest.mark.parametrize(
    "words",
    [[], ["--all", "web1"], ["web1", "--timeout", "0"], ["web1", "--generation", "0"], ["web1", "--generation", "-1"],
     ["web1", "--generation", "9" * 5000]],
)  # fmt: skip
def test_wrong_usage_is_exit_status_2(operator: Operator, words: list[str]) -> None:
    assert operator.says("wait", *words) == 2
    assert "usage: " in operator.err


def test_that_nothing_will_change_without_a_service_is_said(ledger: Ledger, state: Path, operator: Operator) -> None:
    wanted(ledger, "web1")
    ledger.commit()
    nobody = "no 'pv-host-agent serve' is running"
    assert operator.says("wait", "web1", "--timeout", SHORT) == 2
    assert nobody in operator.err
    assert operator.says("wait", "web1", "--timeout", SHORT, "--quiet") == 2
    assert operator.err == ""
    lock = hold(state)
    assert operator.says("wait", "web1", "--timeout", SHORT) == 2
    os.close(lock)
    assert nobody not in operator.err


def test_of_many_only_some_are_told_with_their_reasons() -> None:
    waiting = Wait(None)
    waiting.vms = [Waited(f"web{n}", "", "greeting", 0, Judged(Verdict.WAITING, "x" * 500)) for n in range(1000)]
    assert waiting.text.startswith("1,000 VMs: 1,000 greeting; waiting for web0 (xxx")
    assert waiting.text.endswith("and 997 more")
    assert len(waiting.text) < 700


def test_progress_is_told_when_it_changes_but_not_at_every_look() -> None:
    told: list[str] = []
    telling = Telling(told.append)
    for tenth in range(200):
        telling.tell("a" if tenth < 100 else f"{tenth}", tenth / 10)
    assert told[0] == "a"
    assert 10 <= len(told) <= 13
