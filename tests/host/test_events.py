# SPDX-License-Identifier: Apache-2.0
"""`events`: what happened, in the order of time; and what happens next, each once, whatever clocks do."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from host_agent.ledger.ledger import Ledger
from host_agent.ledger.schema import EVENTS_KEPT
from host_agent.views.chronicle import Chronicle
from host_agent.views.since import since
from host_agent.views.status import View
from tests.host.records import wanted
from tests.host.running import Running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.records import Operator


class Clock:
    """A wall clock that only the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(state: Path, clock: Clock) -> Iterator[Ledger]:
    """A ledger of two VMs under that clock."""
    ledger = Ledger.open(state, clock)
    for vm in ("web1", "web2"):
        wanted(ledger, vm)
    yield ledger
    ledger.close()


def happened(writer: Ledger, clock: Clock, *steps: tuple[float, str, str]) -> None:
    """At these times these events of these VMs."""
    for clock.now, vm, what in steps:
        writer.event(vm, what)
    writer.commit()


def test_all_vms_events_are_printed_in_the_order_of_time(writer: Ledger, clock: Clock, operator: Operator) -> None:
    happened(writer, clock, (3.5, "web2", "three"), (1.25, "web1", "one"), (2.0, "web2", "two"))
    assert operator.says("events") == 0
    assert operator.out.splitlines() == [
        "1970-01-01T00:00:01.250+00:00 web1 one",
        "1970-01-01T00:00:02.000+00:00 web2 two",
        "1970-01-01T00:00:03.500+00:00 web2 three",
    ]
    assert operator.says("events", "web2") == 0
    assert [line.split()[-1] for line in operator.out.splitlines()] == ["two", "three"]
    assert operator.says("events", "nobody") == 1
    assert "nobody: not in the ledger" in operator.err


def test_only_what_happened_since_is_printed(writer: Ledger, clock: Clock, operator: Operator) -> None:
    happened(writer, clock, (1000.0, "web1", "one"), (2000.0, "web1", "two"))
    assert operator.says("events", "--since", "1970-01-01T00:20:00+00:00") == 0
    assert operator.out.split()[-1] == "two"
    assert operator.says("events", "--since", "1h") == 0
    assert operator.out == ""
    assert operator.says("events", "--since", "yesterday") == 2
    assert "expected how long ago" in operator.err


def test_the_audit_trail_is_printed_where_it_is_asked_for(writer: Ledger, clock: Clock, operator: Operator) -> None:
    happened(writer, clock, (1.0, "web1", "one"))
    clock.now = 0.5
    writer.audit("web1", "ada (uid 1000)", "pushed")
    writer.commit()
    assert operator.says("events") == 0
    assert "ada" not in operator.out
    assert operator.says("events", "--audit") == 0
    assert operator.out.splitlines()[0] == "1970-01-01T00:00:00.500+00:00 web1 [ada (uid 1000)] pushed"
    assert operator.says("events", "--audit", "--json") == 0
    audit, event = [json.loads(line) for line in operator.out.splitlines()]
    assert audit == {
        "at": "1970-01-01T00:00:00.500+00:00", "vm": "web1", "key": "web1", "kind": "audit", "who": "ada (uid 1000)",
        "what": "pushed",
    }  # fmt: skip
    assert (list(event), event["kind"]) == (list(audit), "event")


def test_what_is_added_comes_once_even_where_a_clock_was_set_back(writer: Ledger, clock: Clock, state: Path) -> None:
    happened(writer, clock, (1000.0, "web1", "before"))
    chronicle = Chronicle(None, audit=True)
    with View(state) as view:
        assert [entry.what for entry in chronicle.so_far(view, 0)] == ["before"]
        assert chronicle.more(view) == []
        happened(writer, clock, (10.0, "web1", "set back"), (11.0, "web2", "other"))
        writer.audit("web2", "ada", "forgot")
        writer.commit()
        assert [entry.what for entry in chronicle.more(view)] == ["set back", "other", "forgot"]
        assert chronicle.more(view) == []


def test_of_a_burst_the_latest_come_and_none_twice(writer: Ledger, clock: Clock, state: Path) -> None:
    chronicle = Chronicle(["web1"], audit=False)
    with View(state) as view:
        assert list(chronicle.so_far(view, 0)) == []
        happened(writer, clock, *((float(n), "web1", f"{n}") for n in range(EVENTS_KEPT * 3)))
        happened(writer, clock, (1.0, "web2", "not asked for"))
        assert [entry.what for entry in chronicle.more(view)] == [f"{n}" for n in range(EVENTS_KEPT * 2, EVENTS_KEPT * 3)]
        happened(writer, clock, (1.0, "web1", "next"))
        assert [entry.what for entry in chronicle.more(view)] == ["next"]


def test_following_prints_what_others_write_and_ends_with_ctrl_c(writer: Ledger, clock: Clock, state: Path) -> None:
    happened(writer, clock, (1.0, "web1", "before"))
    with Running("events", "--follow", "--state", str(state)) as running:
        running.read_until("web1 before\n")
        happened(writer, clock, (2.0, "web1", "after"))
        running.read_until("web1 after\n")
        assert running.interrupt() == 130
    assert running.text.count("before") == running.text.count("after") == 1
    assert "Traceback" not in running.text


NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("text", "when"),
    [("90s", NOW - 90), ("30min", NOW - 1800), ("2h", NOW - 7200), (" 1d ", NOW - 86400), ("1w", NOW - 604800),
     ("1970-01-02T00:00:00Z", 86400.0), ("1970-01-02T00:00:00+01:00", 82800.0)],
)  # fmt: skip
def test_a_time_is_so_long_ago_or_a_date(text: str, when: float) -> None:
    assert since(text, NOW) == when


def test_a_time_without_an_offset_is_local() -> None:
    assert since("2026-03-01T04:05", NOW) == datetime(2026, 3, 1, 4, 5).astimezone().timestamp()
    assert since(datetime(2026, 3, 1, tzinfo=UTC).isoformat(), NOW) == datetime(2026, 3, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1.5h", "1 month", "1m", "٣h", "9999999h", "2026-13-01", "now"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="90s, 30min, 2h, 1d"):
        since(text, NOW)
