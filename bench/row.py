# SPDX-License-Identifier: Apache-2.0
"""One line of the report: a ratio, what it is held against, and whether it holds."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Row(NamedTuple):
    """*ratio* against *target*; *measured* says both figures with their units, *note* where the time goes."""

    name: str
    ratio: float
    target: float
    better: Literal["lower", "higher"]
    measured: str
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the ratio is on the good side of the target."""
        return self.ratio <= self.target if self.better == "lower" else self.ratio >= self.target

    def report(self) -> dict[str, object]:
        """The row as it stands in report.json."""
        return {
            "name": self.name,
            "ratio": round(self.ratio, 4),
            "target": self.target,
            "better": self.better,
            "holds": self.holds,
            "measured": self.measured,
        }


def paired(ours: Callable[[], float], floor: Callable[[], float], pairs: int) -> tuple[float, float, float]:
    """Run the two in turn, *pairs* times after a warm-up of each: (median of the ratios, median of ours, median of the floor).

    Pair by pair, so that a machine whose speed drifts does not favour either.
    """
    ours()
    floor()
    both = [(ours(), floor()) for _ in range(pairs)]
    return median(a / b for a, b in both), median(a for a, _ in both), median(b for _, b in both)
