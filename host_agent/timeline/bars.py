# SPDX-License-Identifier: Apache-2.0
"""What went on in a run and for how long: its steps joined to bars, each in the lane of what it belongs to."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.ledger.standing import Moment

if TYPE_CHECKING:
    from host_agent.timeline.runs import Run, Step


class Lane(Enum):
    """What a bar belongs to, from the outermost to what is said last."""

    CHANNEL = "channel"
    HANDSHAKE = "handshake"
    DOCUMENT = "document"
    ITEM = "items"
    CONFIRMATION = "confirmation"
    LATER = "later"


class Bar(NamedTuple):
    """What went on from *begin* to *end*, in seconds of the run. *outcome* is one word, empty where none is known."""

    lane: Lane
    name: str
    begin: float
    end: float
    outcome: str = ""
    detail: str = ""


#: What a bar's outcome is while nothing ended it, and where the stream's end did.
UNDER_WAY: Final = "under way"
LOST: Final = Moment.LOST

_INNER: Final = (Lane.ITEM, Lane.CONFIRMATION)
_DELIVERY: Final = (*_INNER, Lane.DOCUMENT)


def bars_of(run: Run) -> list[Bar]:
    """The bars of *run*, in the order of their begin within each lane. No steps whatsoever make it raise."""
    drawn = _Drawn(run)
    for step in run.steps:
        drawn.take(step)
    return drawn.finished()


class _Drawn:
    """The bars so far, and those that are open, of which a lane has at most one."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._open: dict[Lane, Bar] = {}
        self._bars: list[Bar] = []

    def take(self, step: Step) -> None:
        """*step* is next."""
        match step.what:
            case Moment.SEEN:
                self._begin(Lane.CHANNEL, step, "seen")
            case Moment.CONNECTED:
                self._begin(Lane.CHANNEL, step, "connected")
            case Moment.GREETING:
                self._begin(Lane.HANDSHAKE, step, "greeting")
            case Moment.SEALED:
                self._end(step.at, Moment.SEALED, Lane.HANDSHAKE)
            case Moment.SENT:
                self._end(step.at, "replaced", *_DELIVERY)
                self._begin(Lane.DOCUMENT, step, step.detail or "sent")
            case Moment.ITEM:
                self._end(step.at, "", *_INNER)
                self._begin(Lane.ITEM, step, step.detail or "item", self._run.outcome_of(step))
            case Moment.UNCONFIRMED:
                self._end(step.at, "", Lane.ITEM)
                self._begin(Lane.CONFIRMATION, step, "network")
            case Moment.CONFIRMED | Moment.REJECTED:
                self._end(step.at, step.what, Lane.CONFIRMATION)
            case Moment.ANSWERED:
                self._end(step.at, "", *_INNER)
                self._end(step.at, step.detail or Moment.ANSWERED, Lane.DOCUMENT)
            case Moment.IN_FORCE:
                self._end(step.at, "", *_DELIVERY)
                self._point(Lane.DOCUMENT, step, Moment.IN_FORCE)
            case Moment.REPORTED:
                self._point(Lane.LATER, step, "reported")
            case Moment.LOST:
                self._end(step.at, LOST, *_DELIVERY, Lane.HANDSHAKE, Lane.CHANNEL)
                self._point(Lane.CHANNEL, step, LOST)

    def finished(self) -> list[Bar]:
        """All of them; what is open still goes on to the last step."""
        end = self._run.steps[-1].at
        self._end(end, "", Lane.CHANNEL)
        self._end(end, UNDER_WAY, *Lane)
        return sorted(self._bars, key=lambda bar: bar.begin)

    def _begin(self, lane: Lane, step: Step, name: str, outcome: str = "") -> None:
        """A bar of *lane*, which ends the one before; a greeting goes on until it is answered."""
        if lane is Lane.HANDSHAKE and lane in self._open:
            return
        self._end(step.at, "", lane)
        self._open[lane] = Bar(lane, name, step.at, step.at, outcome, step.detail)

    def _end(self, at: float, outcome: str, *lanes: Lane) -> None:
        for lane in lanes:
            bar = self._open.pop(lane, None)
            if bar is not None:
                self._bars.append(bar._replace(end=at, outcome=bar.outcome or outcome))

    def _point(self, lane: Lane, step: Step, name: str) -> None:
        self._bars.append(Bar(lane, name, step.at, step.at, name, step.detail))
