# SPDX-License-Identifier: Apache-2.0
"""How long something took, again and again: summed, and counted in a few buckets, so that it costs the same however often."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds, each the upper bound of a bucket: from what a turn of the loop takes to what an operator feels.
BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Durations:
    """Of one thing."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        #: Seconds, of all.
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """It took so long once more."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def at_most(self) -> Iterator[tuple[float, int]]:
        """For each bound, infinity last, how often it took at most as long."""
        so_far = 0
        for bound, count in zip((*BOUNDS, float("inf")), self._counts, strict=True):
            so_far += count
            yield bound, so_far
