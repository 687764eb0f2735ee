# SPDX-License-Identifier: Apache-2.0
"""Where a moment of a run stands on a line: in proportion, but for long waits, which are folded so that the work is seen."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.ledger.standing import Moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from host_agent.timeline.runs import Step

#: After these somebody is at work; after any other step one waits: for QEMU, for a guest to boot, for the next document.
_WORK: Final = (Moment.SEALED, Moment.SENT, Moment.ITEM, Moment.UNCONFIRMED, Moment.CONFIRMED, Moment.REJECTED)
#: A wait that is longer than all the work is shown as this share of the work.
_FOLDED: Final = 0.25
_ROUND: Final = tuple(m * 10.0**e for e in (-3, -2, -1, 0) for m in (1, 2, 5)) + tuple(
    map(float, (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200))
)
_DAY: Final = 86400.0


class Piece(NamedTuple):
    """Part of the line: from *begin* to *end* in seconds, as long as *shown* seconds would be; *folded* where that is less."""

    begin: float
    end: float
    shown: float
    folded: bool


class Scale(NamedTuple):
    """The line, piece by piece."""

    pieces: tuple[Piece, ...]

    @property
    def shown(self) -> float:
        """As how many seconds the line is shown."""
        return sum(piece.shown for piece in self.pieces)

    @property
    def folds(self) -> list[Piece]:
        """The waits that are shown shorter than they were."""
        return [piece for piece in self.pieces if piece.folded]

    def place(self, at: float) -> float:
        """Where the moment *at* stands, from 0 (the first) to 1 (the last)."""
        before, whole = 0.0, self.shown
        for piece in self.pieces:
            if at <= piece.end:
                share = (at - piece.begin) / (piece.end - piece.begin) if piece.end > piece.begin else 0.0
                return (before + max(share, 0.0) * piece.shown) / whole if whole else 0.0
            before += piece.shown
        return 1.0

    def ticks(self, most: int) -> tuple[float, list[float]]:
        """How far apart round marks are so that there are about *most* at most, and the marks: none stands in a fold."""
        step = _round(self.shown / most)
        marks = [mark for piece in self.pieces if not piece.folded for mark in _multiples(piece, step)]
        return step, sorted(set(marks)) or [0.0]


def is_work(step: Step) -> bool:
    """Whether somebody is at work between *step* and the next."""
    return step.what in _WORK


def scale_of(steps: Sequence[Step]) -> Scale:
    """The line on which *steps* stand."""
    gaps = [(before.at, after.at, is_work(before)) for before, after in pairwise(steps)]
    work = sum(end - begin for begin, end, works in gaps if works)
    pieces = []
    for begin, end, works in gaps:
        folded = not works and 0 < work < end - begin
        pieces.append(Piece(begin, end, work * _FOLDED if folded else end - begin, folded))
    return Scale(tuple(_joined(pieces)))


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces in proportion beside each other are one: a mark between two of them is drawn once."""
    found: list[Piece] = []
    for piece in pieces:
        if found and not found[-1].folded and not piece.folded:
            last = found.pop()
            piece = Piece(last.begin, piece.end, last.shown + piece.shown, folded=False)
        found.append(piece)
    return found


def _round(length: float) -> float:
    """The next round number of seconds."""
    return next((step for step in _ROUND if step >= length), math.ceil(length / _DAY) * _DAY)


def _multiples(piece: Piece, step: float) -> list[float]:
    """The multiples of *step* within *piece*, rounded so that equal ones are equal."""
    first, last = math.ceil(piece.begin / step - 1e-9), math.floor(piece.end / step + 1e-9)
    return [round(number * step, 6) for number in range(first, last + 1)]
