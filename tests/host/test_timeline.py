# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent timeline`: the steps of a run in words and as a picture, whatever clocks and guests do."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_agent.__main__ import main
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.schema import MOMENTS_KEPT, RUNS_KEPT
from host_agent.ledger.standing import Moment
from host_agent.timeline.bars import LOST, UNDER_WAY, Bar, Lane, bars_of
from host_agent.timeline.durations import on_axis, spoken
from host_agent.timeline.report import rows_of, total, values
from host_agent.timeline.runs import Run, Step
from host_agent.timeline.scale import scale_of
from host_agent.timeline.svg import MAX_ITEM_ROWS, picture
from pv_channel.messages import ItemResult, Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</text><script>alert('\"&')</script>\x1b[2J\u202e]]>"
BEGAN = 1_795_248_902.0
#: (seconds since the step before, the step, its detail): the whole of a first boot.
FIRST_BOOT = [
    (0, Moment.SEEN, "/run/pv-channel/web1.sock"),
    (0.004, Moment.CONNECTED, ""),
    (0.001, Moment.GREETING, ""),
    (18.2, Moment.SEALED, ""),
    (0.005, Moment.SENT, "generation 3 of i-web1"),
    (0.02, Moment.ITEM, "hostname"),
    (0.03, Moment.ITEM, "network"),
    (0.4, Moment.UNCONFIRMED, "waiting for tcp 192.0.2.10:22"),
    (0.5, Moment.CONFIRMED, "answered"),
    (0.03, Moment.ITEM, "user-data"),
    (0.04, Moment.ANSWERED, "applied"),
    (4.0, Moment.REPORTED, "user-data applied"),
]
ITEMS = [ItemResult("hostname", Outcome.APPLIED), ItemResult("network", Outcome.UNCHANGED)]
WORDS = sorted(value for name, value in vars(Moment).items() if name.isupper())


class Dom0:
    """A state directory, a clock that a test sets, and the command run on it."""

    def __init__(self, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state, self._capsys = state, capsys
        self.now = BEGAN
        self.out = self.err = ""

    def record(self, steps: Iterable[tuple[float, str, str]], items: list[ItemResult] | None = None) -> None:
        """The ledger's moments and what goes with them, as the service would write them for the VM web1."""
        ledger = Ledger.open(self.state, lambda: self.now)
        ledger.want("web1", "web1", None, "d")
        for later, what, detail in steps:
            self.now += later
            if what == Moment.SEEN:
                ledger.seen("web1", 7, detail)
                continue
            ledger.moment("web1", what, detail)
            if what == Moment.SEALED and ledger.meet("web1", "web1", b"k" * 32).known.guest_key is None:
                ledger.pin("web1", b"k" * 32)
            if what == Moment.ANSWERED:
                ledger.settle("web1", 3, Result(3, Outcome.APPLIED, items or [], milliseconds=812), "0.1.0", applied=True)
        ledger.close()

    def run(self, *arguments: str) -> int:
        """The exit status of ``timeline web1``."""
        status = main(["timeline", "web1", "--state", str(self.state), *arguments])
        self.out, self.err = self._capsys.readouterr()
        return status

    def json(self, *arguments: str) -> Any:
        """What ``--json`` prints."""
        assert self.run("--json", *arguments) == 0
        return json.loads(self.out)


@pytest.fixture
def dom0(state: Path, capsys: pytest.CaptureFixture[str]) -> Dom0:
    return Dom0(state, capsys)


def run_of(*steps: tuple[float, str, str], **more: Any) -> Run:
    """A run of steps at these seconds."""
    after = [at for at, _, _ in steps[1:]] + [None]
    return Run("web1", 1, BEGAN, tuple(
        Step(at, what, detail, None if end is None else end - at) for (at, what, detail), end in zip(steps, after, strict=True)
    ), **more)  # fmt: skip


def test_a_first_boot_is_told_step_by_step_with_its_total(dom0: Dom0) -> None:
    dom0.record(FIRST_BOOT, ITEMS)
    assert dom0.run() == 0
    title, header, *rows, last = dom0.out.splitlines()
    assert title == "web1: first boot, generation 3 of i-web1, 2026-11-21 08:15:02 UTC"
    assert header.split() == ["AT", "TOOK", "STEP", "DETAIL"]
    assert [row.split("  ")[-1].endswith("]") for row in rows] == [True] * len(FIRST_BOOT)
    assert rows[0].startswith(" 0.000 s  4 ms     seen         /run/pv-channel/web1.sock ")
    assert "18.230 s  30 ms    item         hostname: applied " in rows[5]
    assert last == "first boot: 19.2 s from channel seen to answered; the guest's own time 812 ms"


def test_the_keys_of_the_json_are_these(dom0: Dom0) -> None:
    dom0.record(FIRST_BOOT, ITEMS)
    told = dom0.json()
    assert list(told) == [
        "vm", "run", "first", "began", "about", "outcome", "seconds", "guest-milliseconds", "cut", "steps", "items",
    ]  # fmt: skip
    assert (told["vm"], told["run"], told["first"], told["outcome"], told["seconds"]) == ("web1", 1, True, "applied", 19.23)
    assert told["steps"][3] == {"at": 18.205, "took": 0.005, "step": "sealed", "detail": ""}
    assert told["items"] == {"hostname": "applied", "network": "unchanged"}


def test_the_latest_run_that_sent_something_is_meant_where_the_newest_found_all_in_force(dom0: Dom0) -> None:
    dom0.record(FIRST_BOOT)
    again = [(3600, Moment.SEEN, "/run/x"), (0.1, Moment.CONNECTED, ""), (0.2, Moment.SEALED, "")]
    dom0.record([*again, (0.1, Moment.IN_FORCE, "generation 3 of i-web1")])
    assert dom0.json()["run"] == 1
    newer = dom0.json("--run", "2")
    assert (newer["run"], newer["first"], newer["outcome"], newer["guest-milliseconds"]) == (2, False, "in-force", 0)
    dom0.record([(60, Moment.SEEN, "/run/x")])
    assert dom0.json()["run"] == 3


def test_runs_are_listed_newest_first_and_one_that_is_not_kept_is_said_to_be(dom0: Dom0) -> None:
    for _ in range(RUNS_KEPT + 2):
        dom0.record([(60, Moment.SEEN, "/run/x"), (1, Moment.LOST, "QEMU closed the connection")])
    assert dom0.run("--runs") == 0
    assert [line.split()[0] for line in dom0.out.splitlines()] == ["RUN", *map(str, range(RUNS_KEPT + 2, 2, -1))]
    assert [run["run"] for run in dom0.json("--runs")] == list(range(3, RUNS_KEPT + 3))
    assert dom0.run("--run", "1") == 1
    assert "run 1 is not on record; of the latest 8, there are: 3, 4, 5, 6, 7, 8, 9, 10" in dom0.err
    assert dom0.run("--runs", "--svg", "-") == 1


def test_a_vm_without_steps_and_one_that_is_not_known_get_a_sentence(dom0: Dom0) -> None:
    dom0.record([])
    assert dom0.run() == 1
    assert "web1: no steps are on record" in dom0.err
    assert main(["timeline", "web2", "--state", str(dom0.state)]) == 1


def test_outcomes_are_told_of_what_was_sent_last_and_not_of_what_was_cut_off_before(dom0: Dom0) -> None:
    lost = [*FIRST_BOOT[:7], (0.1, Moment.LOST, "QEMU closed the connection")]
    dom0.record([*lost, *[(0.1, what, detail) for _, what, detail in FIRST_BOOT[2:11]]], ITEMS)
    assert dom0.run() == 0
    hostnames = [line for line in dom0.out.splitlines() if " hostname" in line]
    assert ["hostname: applied" in line for line in hostnames] == [False, True]


def test_a_run_that_began_with_a_changed_document_says_so_and_knows_only_its_own_answer(dom0: Dom0) -> None:
    dom0.record(FIRST_BOOT, ITEMS)
    sent = [(60, Moment.SENT, "generation 4 of i-web1"), (0.1, Moment.ITEM, "hostname")]
    dom0.record([*sent, (0.1, Moment.ANSWERED, "applied")], [ItemResult("hostname", Outcome.UNCHANGED)])
    assert (dom0.run(), dom0.out.splitlines()[-1]) == (0, "run 2: 200 ms from sent to answered; the guest's own time 812 ms")
    first = dom0.json("--run", "1")
    assert (first["items"], first["guest-milliseconds"], first["outcome"]) == ({}, 0, "applied")
    dom0.record([(60, Moment.SENT, "generation 5 of i-web1"), (0.1, Moment.ITEM, "hostname")])
    assert (dom0.json()["items"], dom0.json()["outcome"]) == ({}, "item")


def test_a_clock_that_was_set_back_makes_nothing_negative(dom0: Dom0) -> None:
    dom0.record([(0, Moment.SEEN, ""), (5, Moment.SEALED, ""), (-3600, Moment.SENT, "x"), (3601, Moment.ANSWERED, "applied")])
    steps = dom0.json()["steps"]
    assert [step["at"] for step in steps] == [0.0, 5.0, 5.0, 6.0]
    assert dom0.run("--svg", "-") == 0


def test_steps_that_were_not_kept_are_missed_aloud(dom0: Dom0) -> None:
    dom0.record([(0, Moment.SEEN, ""), (0, Moment.SENT, "x")] + [(0.01, Moment.ITEM, f"item-{n}") for n in range(1000)])
    assert len(dom0.json()["steps"]) == MOMENTS_KEPT
    assert dom0.run() == 0
    assert dom0.out.endswith("no answer; the last step is 'item'; what followed is not kept\n")


@pytest.mark.parametrize(
    ("steps", "bars"),
    [
        ([(0, "seen", "p")], [Bar(Lane.CHANNEL, "seen", 0, 0, "", "p")]),
        (
            [(0, "seen", ""), (1, "connected", ""), (2, "greeting", ""), (3, "greeting", ""), (4, "sealed", "")],
            [
                Bar(Lane.CHANNEL, "seen", 0, 1),
                Bar(Lane.CHANNEL, "connected", 1, 4),
                Bar(Lane.HANDSHAKE, "greeting", 2, 4, "sealed"),
            ],
        ),
        (
            [(0, "sent", "g"), (1, "item", "a"), (2, "item", "b"), (4, "answered", "rolled-back")],
            [
                Bar(Lane.DOCUMENT, "g", 0, 4, "rolled-back", "g"),
                Bar(Lane.ITEM, "a", 1, 2, "rolled-back", "a"),
                Bar(Lane.ITEM, "b", 2, 4, "failed", "b"),
            ],
        ),
        (
            [(0, "item", "a"), (1, "unconfirmed", "tcp"), (5, "rejected", ""), (6, "answered", "")],
            [
                Bar(Lane.ITEM, "a", 0, 1, "rolled-back", "a"),
                Bar(Lane.CONFIRMATION, "network", 1, 5, "rejected", "tcp"),
            ],
        ),
        (
            [(0, "connected", ""), (1, "sent", "g"), (2, "item", "c"), (3, "lost", "gone")],
            [
                Bar(Lane.CHANNEL, "connected", 0, 3, LOST),
                Bar(Lane.DOCUMENT, "g", 1, 3, LOST, "g"),
                Bar(Lane.ITEM, "c", 2, 3, LOST, "c"),
                Bar(Lane.CHANNEL, "lost", 3, 3, LOST, "gone"),
            ],
        ),
        (
            [(0, "sent", "g"), (1, "sent", "h"), (2, "item", "c")],
            [
                Bar(Lane.DOCUMENT, "g", 0, 1, "replaced", "g"),
                Bar(Lane.DOCUMENT, "h", 1, 2, UNDER_WAY, "h"),
                Bar(Lane.ITEM, "c", 2, 2, UNDER_WAY, "c"),
            ],
        ),
        ([(0, "in-force", "g")], [Bar(Lane.DOCUMENT, "in-force", 0, 0, "in-force", "g")]),
        ([(0, "sealed", ""), (1, "confirmed", ""), (2, "a word of a newer agent", "")], []),
    ],
)
def test_steps_are_joined_to_bars(steps: list[tuple[float, str, str]], bars: list[Bar]) -> None:
    assert bars_of(run_of(*steps, items={"a": "rolled-back", "b": "failed"})) == bars


def test_a_long_wait_is_folded_and_work_is_not() -> None:
    waits = run_of((0, "greeting", ""), (100, "sealed", ""), (101, "sent", ""), (104, "answered", ""), (105, "reported", ""))
    scale = scale_of(waits.steps)
    assert [(fold.begin, fold.end) for fold in scale.folds] == [(0, 100)]
    assert scale.shown == 6.0
    assert (scale.place(0), scale.place(100), scale.place(105)) == (0.0, 1 / 6, 1.0)
    works = run_of((0, "greeting", ""), (1, "sealed", ""), (101, "answered", ""))
    assert scale_of(works.steps).folds == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20), st.lists(st.sampled_from(WORDS), min_size=20, max_size=20))
def test_places_follow_time_and_marks_stand_outside_folds(gaps: list[float], words: list[str]) -> None:
    times = [sum(gaps[:n]) for n in range(len(gaps))]
    scale = scale_of(run_of(*((at, word, "") for at, word in zip(times, words, strict=False))).steps)
    places = [scale.place(at) for at in times]
    assert all(0 <= before <= after <= 1 for before, after in pairwise(places))
    _, marks = scale.ticks(8)
    assert 0 < len(marks) <= 8 + 2 * len(gaps)
    assert not any(fold.begin + 1e-3 < mark < fold.end - 1e-3 for fold in scale.folds for mark in marks)


def test_the_picture_of_a_first_boot_has_a_bar_for_each_thing_that_went_on(dom0: Dom0, tmp_path: Path) -> None:
    dom0.record(FIRST_BOOT, ITEMS)
    path = tmp_path / "boot.svg"
    assert dom0.run("--svg", str(path)) == 0
    assert (dom0.out, dom0.err) == ("", f"{path}: drawn\n")
    root = ET.parse(path).getroot()
    assert root.findtext(f"{SVG}title") == "web1: first boot"
    assert "19.2 s from channel seen to answered" in (root.findtext(f"{SVG}desc") or "")
    bars = [g for g in root.iter(f"{SVG}g") if g.get("class", "").startswith("bar ") and g.find(f"{SVG}title") is not None]
    assert [(bar.get("class"), bar.findtext(f"{SVG}title")) for bar in bars] == [
        ("bar wait", "seen 4 ms: from 0 ms on: /run/pv-channel/web1.sock"),
        ("bar wait", "connected 23.2 s: from 4 ms on"),
        ("bar sealed", "greeting: sealed 18.2 s: from 5 ms on"),
        ("bar good", "generation 3 of i-web1: applied 1.020 s: from 18.2 s on"),
        ("bar good", "hostname: applied 30 ms: from 18.2 s on"),
        ("bar same", "network: unchanged 400 ms: from 18.3 s on"),
        ("bar plain", "user-data: 40 ms: from 19.2 s on"),
        ("bar good", "network: confirmed 500 ms: from 18.7 s on: waiting for tcp 192.0.2.10:22"),
        ("bar sealed", "reported: from 23.2 s on: user-data applied"),
    ]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    for word in ("web1", "channel", "handshake", "document", "hostname", "confirmation", "later", "~ 18.2 s ~", "18.4 s"):
        assert word in texts
    assert dom0.run("--svg", "-") == 0
    assert dom0.out == path.read_text()


def test_what_a_guest_says_is_words_in_the_picture_and_nothing_else(dom0: Dom0) -> None:
    steps = [(0, Moment.SEEN, EVIL), (1, Moment.SENT, EVIL), (1, Moment.ITEM, EVIL), (1, Moment.ANSWERED, EVIL)]
    dom0.record(steps, [ItemResult("x", Outcome.FAILED, "evil", EVIL)])
    assert dom0.run("--svg", "-") == 0
    root = ET.fromstring(dom0.out)
    allowed = {"svg", "title", "desc", "style", "defs", "pattern", "rect", "path", "text", "tspan", "g", "line"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= allowed
    assert not any(name.startswith("on") or "href" in name for element in root.iter() for name in element.attrib)
    assert "alert('" in "".join(root.itertext())
    assert dom0.out.isascii()
    assert "\x1b" not in dom0.out
    assert dom0.run() == 0
    assert "\x1b" not in dom0.out
    assert dom0.out.isascii()


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    drawn = picture(run_of((0, "seen", ""), (1, "answered", "applied")))
    assert drawn.count("http") == 1  # the name of SVG itself
    assert "url(#pv-" in drawn
    assert drawn.replace("url(#pv-", "").count("url(") == 0
    assert "prefers-color-scheme: dark" in drawn


def test_every_kind_of_bad_end_has_a_pattern_and_a_word(dom0: Dom0) -> None:
    ends = [Outcome.FAILED, Outcome.ROLLED_BACK, Outcome.REFUSED, Outcome.PENDING]
    dom0.record(
        [(0, "seen", ""), (0, "sent", "g"), *((1, "item", end.value) for end in ends), (1, "answered", "rolled-back")],
        [ItemResult(end.value, end) for end in ends],
    )
    assert dom0.run("--svg", "-") == 0
    root = ET.fromstring(dom0.out)
    patterns = {pattern.get("id") for pattern in root.iter(f"{SVG}pattern")}
    for end, kind in zip(ends, ("bad", "back", "bad", "open"), strict=True):
        assert f"pv-{kind}" in patterns
        assert any(f"{end.value} 1.000 s" == text.text for text in root.iter(f"{SVG}text"))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([*WORDS, "other"]), st.floats(0, 1e10), st.text(max_size=600)),
        min_size=1,
        max_size=MOMENTS_KEPT,
    )
)
def test_no_steps_whatsoever_keep_a_run_from_being_told_and_drawn_in_bounds(steps: list[tuple[str, float, str]]) -> None:
    times = sorted(at for _, at, _ in steps)
    run = run_of(*((at - times[0], what, ascii(detail)) for at, (what, _, detail) in zip(times, steps, strict=True)))
    drawn = picture(run)
    assert ET.fromstring(drawn).tag == f"{SVG}svg"
    assert len(drawn) < 1_000_000
    assert len(rows_of(run)) == len(values(run)["steps"]) == len(steps)
    assert total(run)


def test_more_items_than_a_picture_has_rows_for_are_counted() -> None:
    many = run_of(*((float(n), "item", f"item-{n}") for n in range(MAX_ITEM_ROWS + 7)))
    assert ">and 7 more<" in picture(many)


def test_a_picture_replaces_a_file_and_nothing_else(dom0: Dom0, tmp_path: Path) -> None:
    dom0.record(FIRST_BOOT)
    for bad in ("/dev/null", str(tmp_path), str(tmp_path / "none" / "x.svg")):
        assert dom0.run("--svg", bad) == 1
        assert dom0.err.startswith(f"pv-host-agent: {bad}: ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"), (0.0042, "4 ms"), (0.9994, "999 ms"), (1.5, "1.500 s"), (59.96, "60.0 s"), (119.9, "119.9 s"),
        (120, "2 min"), (754, "12 min 34 s"), (7199, "119 min 59 s"), (7200, "2 h"), (11_100, "3 h 5 min"), (864_000, "10 d"),
    ],
)  # fmt: skip
def test_durations_are_said_in_fitting_units(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "step", "words"),
    [(0, 1, "0"), (0.2, 0.1, "200 ms"), (18.5, 0.5, "18.5 s"), (1.25, 0.05, "1.25 s"), (3, 1, "3 s"), (600, 60, "10 min")],
)
def test_marks_have_no_more_digits_than_they_need(seconds: float, step: float, words: str) -> None:
    assert on_axis(seconds, step) == words
