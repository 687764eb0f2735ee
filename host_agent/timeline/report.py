# SPDX-License-Identifier: Apache-2.0
"""A run as a table with a bar for each step, as one sentence, and as values for JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from host_agent.ledger.standing import Moment
from host_agent.timeline.durations import spoken
from host_agent.timeline.runs import clock
from host_agent.timeline.scale import is_work, scale_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.timeline.runs import Run, Step
    from host_agent.timeline.scale import Scale

HEADER: Final = ("at", "took", "step", "detail", "")
RUNS_HEADER: Final = ("run", "began", "until", "steps", "outcome", "about")
#: Characters of a step's bar.
_WIDTH: Final = 32


def title(run: Run) -> str:
    """Whose run it was, and what it was about."""
    return ", ".join(part for part in (f"{run.vm}: {run.name}", run.subject, clock(run.began)) if part)


def rows_of(run: Run) -> list[tuple[str, ...]]:
    """Each step as a row under `HEADER`."""
    scale = scale_of(run.steps)
    width = len(f"{run.steps[-1].at:.3f}")
    return [(f"{s.at:{width}.3f} s", _took(s), s.what, _detail(run, s), _bar(scale, s)) for s in run.steps]


def total(run: Run) -> str:
    """How long it took, in a sentence."""
    end, first = run.settled, run.steps[0].what
    if end is None:
        text = f"{run.name}: no answer; the last step is '{run.steps[-1].what}'"
    else:
        what = "answered" if end.what == Moment.ANSWERED else "known to be in force already"
        text = f"{run.name}: {spoken(end.at)} from {'channel seen' if first == Moment.SEEN else first} to {what}"
    if run.guest_milliseconds:
        text += f"; the guest's own time {spoken(run.guest_milliseconds / 1000)}"
    return text + ("; what followed is not kept" if run.is_cut else "")


def list_of(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Each run as a row under `RUNS_HEADER`, the newest first."""
    return [
        (str(run.number), clock(run.began), spoken(run.steps[-1].at), str(len(run.steps)), run.outcome, run.subject)
        for run in reversed(runs)
    ]


def values(run: Run) -> dict[str, Any]:
    """The run as JSON values; times of steps are seconds after it began."""
    end = run.settled
    return {
        "vm": run.vm,
        "run": run.number,
        "first": run.is_first,
        "began": datetime.fromtimestamp(run.began, UTC).isoformat(timespec="milliseconds"),
        "about": run.subject,
        "outcome": run.outcome,
        "seconds": None if end is None else round(end.at, 3),
        "guest-milliseconds": run.guest_milliseconds,
        "cut": run.is_cut,
        "steps": [
            {"at": round(s.at, 3), "took": None if s.took is None else round(s.took, 3), "step": s.what, "detail": s.detail}
            for s in run.steps
        ],
        "items": dict(run.items),
    }


def _took(step: Step) -> str:
    return "" if step.took is None else spoken(step.took)


def _detail(run: Run, step: Step) -> str:
    """What the ledger says of *step*; of an item also what became of it, where that is known."""
    outcome = run.outcome_of(step) if step.what == Moment.ITEM else ""
    return f"{step.detail}: {outcome}" if outcome else step.detail


def _bar(scale: Scale, step: Step) -> str:
    """Where on the line *step* was: ``#`` while somebody worked, ``-`` while one waited, at least one character."""
    begin = min(int(scale.place(step.at) * _WIDTH), _WIDTH - 1)
    end = begin if step.took is None else int(scale.place(step.at + step.took) * _WIDTH)
    mark = "|" if step.took is None else "#" if is_work(step) else "-"
    return "[" + (" " * begin + mark * max(end - begin, 1)).ljust(_WIDTH) + "]"
