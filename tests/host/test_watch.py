# SPDX-License-Identifier: Apache-2.0
"""`watch`: what a terminal shows of a fleet, in the order that matters and no wider than it is, and what a pipe gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from host_agent.ledger.standing import Moment, State
from host_agent.views.fleet import HEADER, Fleet, Progress, progress
from host_agent.views.status import View
from pv_channel.messages import Outcome
from tests.host.records import HOSTNAME, NETWORK_FAILED, READY, a_fleet, answered, sent, wanted
from tests.host.running import Running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from host_agent.ledger.ledger import Ledger
    from tests.host.records import Operator

ROWS, COLUMNS = 12, 80
BOOT = [(10.0, Moment.SEEN, ""), (11.0, Moment.GREETING, ""), (12.0, Moment.SEALED, ""), (13.0, Moment.SENT, "1")]
WORK = [(14.0, Moment.ITEM, "hostname"), (15.0, Moment.ITEM, "network")]


def column(name: str) -> int:
    return HEADER.index(name)


def frames(text: str) -> Iterator[list[str]]:
    """What stood on the terminal each time that it was drawn: its lines, without colours."""
    for frame in text.split("\x1b[1mvm")[1:]:
        yield re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", "vm" + frame).splitlines()


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([], Progress()),
        (BOOT, Progress(10.0)),
        ([*BOOT, *WORK], Progress(10.0, 0.0, 2, "network")),
        ([*BOOT, *WORK, (16.0, Moment.ANSWERED, "applied")], Progress(10.0, 16.0, 2)),
        ([*BOOT[:3], (13.0, Moment.IN_FORCE, "")], Progress(10.0, 13.0)),
        ([*BOOT, *WORK, (16.0, Moment.LOST, ""), (17.0, Moment.SENT, "1"), WORK[0]], Progress(10.0, 0.0, 1, "hostname")),
        ([*BOOT, *WORK, (16.0, Moment.ANSWERED, "applied"), (90.0, Moment.SENT, "2")], Progress(90.0)),
        ([*BOOT, (16.0, Moment.ANSWERED, "applied"), (17.0, Moment.REPORTED, "user-data")], Progress(10.0, 16.0)),
    ],
)
def test_progress_is_what_came_since_the_channel_was_seen_or_the_last_answer(
    steps: list[tuple[float, str, str]], found: Progress
) -> None:
    assert progress(steps) == found


def test_what_went_wrong_comes_first_then_what_is_on_its_way_and_what_is_well_last(ledger: Ledger, state: Path) -> None:
    a_fleet(ledger)
    fleet = Fleet()
    with View(state) as view:
        fleet.look(view.standings())
    order = [vm.name for vm in fleet.first(100)]
    assert set(order[:4]) == {"failed", "degraded", "quarrel", "mistyped"}
    assert order[4:] == ["provisioning", "greeting", "pending", "off", "ready", "old"]
    assert [vm.name for vm in fleet.first(2)] == order[:2]


def test_a_row_says_what_the_vm_is_at_and_for_how_long() -> None:
    fleet = Fleet()
    works = READY._replace(generation_sent=4, state=State.PROVISIONING, since=13.0)
    fleet.look([works])
    assert fleet.row(works, [*BOOT, *WORK], 20.0) == ("a", "provisioning", "## 2", "network", "10.0 s", "the guest is at work")
    assert fleet.row(works, [], 20.0)[column("for")] == "7.0 s"  # its steps are not kept: since it is sent
    fleet.look([READY])
    assert fleet.row(READY, [*BOOT, *WORK, (16.0, Moment.ANSWERED, "applied")], 5000.0) == ("a", "ready", "## 2", "", "6.0 s", "")
    away = READY._replace(state=State.GREETING, detail="no answer")
    fleet.look([away])
    assert fleet.row(away, BOOT[:2], 10.0 + 75)[column("for")] == "1:15"
    assert fleet.row(away, BOOT[:2], 10.0 + 2 * 3600)[column("for")] == "2:00 h"


def test_a_thousand_items_do_not_make_a_row_wide() -> None:
    fleet = Fleet()
    fleet.look([READY])
    assert len(fleet.row(READY, [(1.0, Moment.ITEM, "x")] * 1000, 20.0)[column("items")]) < 25


def test_the_rate_is_of_the_last_seconds() -> None:
    fleet = Fleet()
    away = READY._replace(state=State.GREETING)
    fleet.look([away] * 4)
    assert fleet.totals(0.0) == "[....................] 4 VMs: 4 greeting"
    fleet.look([READY, READY._replace(key="b"), away._replace(key="c"), away._replace(key="d")])
    assert fleet.totals(1.0) == "[##########..........] 4 VMs: 2 ready, 2 greeting; 2.0 ready a second"
    assert fleet.totals(60.0) == "[##########..........] 4 VMs: 2 ready, 2 greeting"


def test_a_terminal_shows_a_table_that_fits_it_and_follows_what_changes(ledger: Ledger, state: Path) -> None:
    for n in range(30):
        wanted(ledger, f"web{n}")
        ledger.stand(f"web{n}", State.UNREACHABLE, "the VM is off, restarting, or its channel has another path " * 3)
    ledger.commit()
    with Running("watch", "--state", str(state), terminal=(ROWS, COLUMNS)) as running:
        running.read_until("30 VMs: 30 unreachable")
        sent(ledger, "web7")
        ledger.commit()
        running.read_until("29 unreachable")
        for n in range(30):
            answered(ledger, f"web{n}")
        answered(ledger, "web9", HOSTNAME, NETWORK_FAILED, outcome=Outcome.FAILED)
        ledger.commit()
        running.read_until("29 ready, 1 failed")
        assert running.interrupt() == 130
    drawn = list(frames(running.text))
    assert max(len(line) for frame in drawn for line in frame) <= COLUMNS
    assert max(len(frame) for frame in drawn) <= ROWS
    assert any(frame[1].split()[:4] == ["web7", "provisioning", "#", "1"] for frame in drawn)
    assert drawn[-1][1].split()[:2] == ["web9", "failed"]
    assert "are not shown" in running.text
    assert "\x1b[?25h" in running.text  # the cursor is back
    assert "Traceback" not in running.text


def test_a_pipe_gets_a_line_for_each_change(ledger: Ledger, state: Path) -> None:
    wanted(ledger, "web1")
    ledger.stand("web1", State.GREETING, "the guest has not answered yet")
    ledger.commit()
    with Running("watch", "--state", str(state)) as running:
        running.read_until(" web1 greeting: the guest has not answered yet\n")
        sent(ledger, "web1")
        ledger.commit()
        running.read_until(" web1 provisioning: the guest is at work\n")
        ledger.heartbeat("web1")
        answered(ledger, "web1")
        ledger.commit()
        running.read_until(" web1 ready\n")
        assert running.interrupt() == 130
    assert len(running.text.splitlines()) == 3


def test_until_ready_it_ends_as_wait_does(ledger: Ledger, operator: Operator) -> None:
    assert operator.says("watch", "--until-ready", "--timeout", "0.2") == 2
    a_fleet(ledger)
    assert operator.says("watch", "ready", "--until-ready", "--timeout", "60") == 0
    assert operator.out.splitlines()[-1] == "ready: ready, generation 1 is in force"
    assert operator.says("watch", "--until-ready", "--timeout", "60") == 1
    assert operator.says("watch", "failed", "off", "--until-ready", "--patient", "--timeout", "0.2") == 2
    assert operator.out.splitlines()[-1] == "time is over: off: waiting, unreachable: the VM is off"
    assert operator.says("watch", "--timeout", "0.2") == 0
    assert operator.says("watch", "--patient") == 2


def test_who_is_no_more_to_be_served_is_not_watched_unless_asked_for(ledger: Ledger, operator: Operator) -> None:
    a_fleet(ledger)
    assert operator.says("watch", "--timeout", "0.1") == 0
    assert " old removed" not in operator.out
    assert operator.says("watch", "old", "--timeout", "0.1") == 0
    assert " old removed: the document was removed" in operator.out
