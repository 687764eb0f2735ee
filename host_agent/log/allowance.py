# SPDX-License-Identifier: Apache-2.0
"""How often something may be done that a guest can bring about: so often at once, and then now and then."""

from __future__ import annotations

from typing import NamedTuple


class Allowance(NamedTuple):
    """*burst* at once, and one more in each *seconds_each*.

    What was done so far is one number, which whoever does it keeps, 0.0 at first: until when it had taken at the slower pace.
    """

    burst: int
    seconds_each: float

    def take(self, done: float, now: float) -> float | None:
        """What was done so far when it is done now, too; None where it may not be."""
        after = max(done, now) + self.seconds_each
        return after if after - now <= self.burst * self.seconds_each else None
