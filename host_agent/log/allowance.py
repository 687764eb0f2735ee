# SPDX-License-Identifier: Apache-2.0
"""How often something may be done that a guest can bring about: so often at once, and then now and then."""

from __future__ import annotations


class Allowance:
    """*burst* at once, and one more in each *seconds_each*."""

    __slots__ = ("_at", "_burst", "_left", "_seconds_each")

    def __init__(self, burst: int, seconds_each: float, now: float) -> None:
        self._burst, self._seconds_each = burst, seconds_each
        self._left, self._at = float(burst), now

    def take(self, now: float) -> bool:
        """Whether it may be done now; each time that it may counts."""
        self._left = min(self._burst, self._left + (now - self._at) / self._seconds_each)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
