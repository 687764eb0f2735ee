# SPDX-License-Identifier: Apache-2.0
"""How long to wait before trying a channel again: longer each time, and not in step with a thousand others."""

from __future__ import annotations

import random
from typing import Final

#: A restarting QEMU has its socket back within seconds; one that is off for the night is asked six times a minute.
FIRST_SECONDS: Final = 0.2
LAST_SECONDS: Final = 10.0
#: Each wait is this much shorter or longer by chance.
JITTER: Final = 0.25


class Backoff:
    """The waits between attempts, of *last* seconds in the end."""

    def __init__(self, last: float = LAST_SECONDS) -> None:
        self._next, self._last = FIRST_SECONDS, last

    def reset(self) -> None:
        """It worked: start over."""
        self._next = FIRST_SECONDS

    def next(self) -> float:
        """The seconds to wait now."""
        wait, self._next = self._next, min(self._next * 2, self._last)
        return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 -- spreads load, keeps no secret
