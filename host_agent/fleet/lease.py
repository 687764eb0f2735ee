# SPDX-License-Identifier: Apache-2.0
"""This host's lease: for how long, by this host's own clock, no other can take its VMs. Told the time, and never asks for it."""

from __future__ import annotations

import time
from typing import Final

#: Of a lease's time nothing is begun in the last part: clocks differ a little, and a write takes a moment.
MARGIN: Final = 0.25


class Lease:
    """A lease of *seconds*, which may have a *number* from an earlier life of this service."""

    def __init__(self, seconds: int, number: int = 0) -> None:
        self.seconds, self.number = seconds, number
        #: How often it was good again after it was not.
        self.spells = 0
        self._good_until = float("-inf")

    def is_good(self, now: float) -> bool:
        """Whether etcd cannot have ended it before *now*, nor soon after."""
        return now < self._good_until

    def renewed(self, number: int, seconds: int, asked: float, now: float) -> bool:
        """etcd, *asked* then, has given it this *number* and so many *seconds*; whether it is another lease than before."""
        is_another = number != self.number
        if is_another or not self.is_good(now):
            self.spells += 1
        self.number, self._good_until = number, asked + seconds * (1 - MARGIN)
        return is_another

    def over(self) -> None:
        """etcd says that it is over: whatever was held under it may be another's."""
        self.number, self._good_until = 0, float("-inf")

    @property
    def every(self) -> float:
        """Between two renewals: several fit into its time."""
        return self.seconds / 4


def boottime() -> float:
    """A clock that goes on while the machine is suspended, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
