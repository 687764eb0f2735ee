# SPDX-License-Identifier: Apache-2.0
"""The chaos: its script is its seed's, its judge sees what should never be, and a small one is come through."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from chaos.guest import RECORD, make_root
from chaos.herd import Herd
from chaos.judge import Entry, faults_of, in_force, record
from chaos.nursery import guest_home
from chaos.run import Run
from chaos.script import RESTARTS_UNTIL, Event, script
from chaos.service import Service

if TYPE_CHECKING:
    from pathlib import Path

ENDS = {
    "kill": "start", "ambush": "relieve", "freeze": "thaw", "stall": "unstall", "vanish": "listen", "leave-socket": "listen",
    "power-off": "power-on", "intrude": "withdraw", "spoil": "change", "kill-service": "start-service",
    "end-service": "start-service", "freeze-service": "thaw-service", "kill-etcd": "start-etcd", "freeze-etcd": "thaw-etcd",
}  # fmt: skip


def begins(generation: int, digest: str, in_force: int) -> Entry:
    return Entry("begins", generation, digest, in_force)


def applied(generation: int, digest: str) -> Entry:
    return Entry("applied", generation, digest, generation)


def test_the_same_seed_is_the_same_script_and_another_is_another() -> None:
    assert script(7, 60, 200, etcd=True) == script(7, 60, 200, etcd=True)
    assert script(7, 60, 200) != script(8, 60, 200)


@pytest.mark.parametrize("seed", range(5))
def test_what_begins_ends_within_the_time_before_anything_else_happens_to_the_same_guest(seed: int) -> None:
    events = script(seed, 600, 60, etcd=True)
    assert events == sorted(events, key=lambda event: event.at)
    assert events[-1].at <= 600
    assert {event.what for event in events} >= ENDS.keys()
    for guest in range(-1, 60):
        for one_of in ("service", "etcd") if guest < 0 else ("",):
            of_it = [event for event in events if event.guest == guest and event.what.endswith(one_of)]
            assert _unended([event for event in of_it if event.what != "change"]) <= {"spoil"}, (guest, one_of)


def _unended(events: list[Event]) -> set[str]:
    """What went on when something else happened, or at the end."""
    found, wanted = set(), ""
    for event in events:
        if wanted and event.what != ENDS[wanted]:
            found.add(wanted)
        wanted = event.what if event.what in ENDS else ""
    return found | ({wanted} - {""})


def test_the_service_is_left_running_for_most_of_the_time_so_that_its_memory_can_be_watched() -> None:
    events = script(1, 600, 200, etcd=True)
    assert max(event.at for event in events if event.what in ("kill-service", "end-service")) < 600 * RESTARTS_UNTIL
    assert sum(event.what == "kill-service" for event in events) > 10


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([begins(1, "a", 0), applied(1, "a"), begins(2, "b", 1), applied(2, "b")], None),
        ([begins(1, "a", 0), begins(1, "a", 0), applied(1, "a")], None),
        ([begins(1, "a", 0), applied(1, "a"), begins(1, "a", 1)], "generation 1 was begun where 1 was in force"),
        ([applied(1, "a"), applied(1, "a")], "generation 1 was applied after 1"),
        ([applied(2, "b"), applied(1, "a")], "generation 1 was applied after 2"),
        ([applied(1, "a"), applied(2, "a")], "generation 2 is a document that was applied before, by another number"),
        ([Entry("failed", 1, "a", 0)], "generation 1: failed"),
    ],
)
def test_the_judge_sees_what_should_never_be(entries: list[Entry], fault: str | None) -> None:
    assert faults_of(entries)[:1] == ([] if fault is None else [fault])


def test_a_record_is_what_a_guest_wrote(tmp_path: Path) -> None:
    assert record(tmp_path) == []
    line = {"what": "applied", "generation": 3, "digest": "a", "in-force": 3}
    (tmp_path / RECORD).write_text(json.dumps(line) + "\n", encoding="ascii")
    assert record(tmp_path) == [applied(3, "a")]
    make_root(tmp_path)
    assert in_force(tmp_path) == (0, "", "")


def test_an_agent_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    service = Service(tmp_path)
    herd = Herd(tmp_path, service.sockets, 1)
    keys = guest_home(tmp_path, 0) / "root/etc/pv-guest-agent/trusted_keys"
    keys.parent.mkdir(parents=True)
    keys.write_text("no key\n", encoding="ascii")
    herd.begin()
    try:
        while not herd.faults:
            herd.thaw(0)
    finally:
        herd.end()
    assert "vm0: its agent ended with status 1" in herd.faults[0]


def test_a_small_one_is_come_through(tmp_path: Path) -> None:
    summary = Run(tmp_path, 1, 4, 8, etcd=False).go()
    assert summary.faults == []
    assert sum(len(record(guest_home(tmp_path, number))) for number in range(8)) >= 16
