# SPDX-License-Identifier: Apache-2.0
"""A VM's runs as the ledger has them: each step from a channel that was seen to an answer, with its time, safe to print."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host_agent.errors import HostError
from host_agent.ledger.schema import MOMENTS_KEPT, RUNS_KEPT
from host_agent.ledger.standing import Moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from host_agent.views.status import View

#: With these the guest has said what it is now.
_ENDS: Final = (Moment.ANSWERED, Moment.IN_FORCE)


class Step(NamedTuple):
    """One moment of a run: *at* is seconds after its first, *took* seconds until the next, None where none followed."""

    at: float
    what: str
    detail: str = ""
    took: float | None = None


class Run(NamedTuple):
    """The steps to one answer and what was reported after it, at least one; it *began* at that time of the wall clock.

    *items* are the outcomes of what was sent last and *guest_milliseconds* what the guest itself took for it, as far as they are
    on record. *is_first*: the guest was met in this run for the first time.
    """

    vm: str
    number: int
    began: float
    steps: tuple[Step, ...]
    items: Mapping[str, str] = {}
    guest_milliseconds: int = 0
    is_first: bool = False

    @property
    def name(self) -> str:
        """What to call it."""
        return "first boot" if self.is_first else f"run {self.number}"

    @property
    def has_sent(self) -> bool:
        """Whether the guest was sent something in it."""
        return any(step.what == Moment.SENT for step in self.steps)

    @property
    def subject(self) -> str:
        """What it was about: what was sent last or was in force, in the ledger's words."""
        told = [step.detail for step in self.steps if step.what in (Moment.SENT, Moment.IN_FORCE)]
        return told[-1] if told else ""

    @property
    def settled(self) -> Step | None:
        """The first step at which the guest had said what it is."""
        return next((step for step in self.steps if step.what in _ENDS), None)

    @property
    def outcome(self) -> str:
        """What became of it, in one word: of the last answer, else the last step's."""
        last = next((step for step in reversed(self.steps) if step.what in _ENDS), self.steps[-1])
        return last.detail if last.what == Moment.ANSWERED and last.detail else last.what

    def outcome_of(self, item: Step) -> str:
        """What became of the item that the guest began at the step *item*, if that is on record; else nothing."""
        last_sent = max((step.at for step in self.steps if step.what == Moment.SENT), default=0.0)
        return self.items.get(item.detail, "") if item.at >= last_sent else ""

    @property
    def is_cut(self) -> bool:
        """Whether there were more steps than are kept."""
        return len(self.steps) >= MOMENTS_KEPT


def runs_of(view: View, name: str) -> list[Run]:
    """The runs of the VM *name*, oldest first; raise `HostError` where there is no such VM, or nothing on record of one."""
    vm = view.named(name)
    runs = [_run(vm, number, list(rows)) for number, rows in groupby(view.moments(vm["key"]), lambda row: row[0])]
    if not runs:
        raise HostError(
            f"{vm['vm']}: no steps are on record, for its channel was not seen yet;"
            " 'pv-host-agent serve' writes them, 'pv-host-agent doctor' says why a channel does not work"
        )
    telling = next((number for number in range(len(runs) - 1, -1, -1) if runs[number].has_sent), None)
    if telling is not None:
        runs[telling] = _with_result(runs[telling], vm)
    return runs


def chosen(runs: list[Run], number: int | None) -> Run:
    """The run with that *number*; without one the newest that has something to tell. Raise `HostError` where it is not kept."""
    if number is not None:
        for run in runs:
            if run.number == number:
                return run
        kept = ", ".join(str(run.number) for run in runs)
        raise HostError(f"{runs[0].vm}: run {number} is not on record; of the latest {RUNS_KEPT}, there are: {kept}")
    newest = runs[-1]
    if newest.has_sent or newest.settled is None:
        return newest
    return next((run for run in reversed(runs) if run.has_sent), newest)


def _run(vm: dict[str, Any], number: int, rows: list[tuple[int, float, str, str]]) -> Run:
    """A run in whose steps time does not go backwards, even where somebody set the clock."""
    began = rows[0][1]
    times = [0.0]
    for _, at, _, _ in rows[1:]:
        times.append(max(times[-1], at - began))
    took = [*(after - before for before, after in pairwise(times)), None]
    steps = tuple(Step(at, what, detail, t) for (_, _, what, detail), at, t in zip(rows, times, took, strict=True))
    met = datetime.fromisoformat(vm["first-met"]).timestamp() if vm["first-met"] else None
    is_first = met is not None and int(began) <= met <= began + times[-1]  # the ledger shows whole seconds
    return Run(vm["vm"], number, began, steps, is_first=is_first)


def _with_result(run: Run, vm: dict[str, Any]) -> Run:
    """*run*, the latest in which something was sent, with what the ledger knows of the answer."""
    last_word = next((step.what for step in reversed(run.steps) if step.what in (Moment.SENT, Moment.ANSWERED)), "")
    if last_word != Moment.ANSWERED:
        return run
    items = {item["item"]: item["outcome"] for item in vm["items"]}
    return run._replace(items=items, guest_milliseconds=vm["milliseconds"])


def clock(seconds: float) -> str:
    """A time of the wall clock, for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
