# SPDX-License-Identifier: Apache-2.0
"""How much one VM may say: so much at once, then so much a second. Whoever says more is not read for a while, and waits alone."""

from __future__ import annotations

from typing import Final

#: At once: the longest message of a guest, in its lines, is not kept waiting by this.
BURST_BYTES: Final = 128 * 1024
#: Then. A guest that floods costs dom0 about a hundredth of a processor by this, whatever it says.
BYTES_PER_SECOND: Final = 16 * 1024
#: Nobody rests for less: a turn for every few bytes would cost more than the bytes.
_REST_SECONDS: Final = 0.25


class Intake:
    """Of one stream. `resumes` is until when it is to rest."""

    __slots__ = ("_paid_at", "resumes")

    def __init__(self) -> None:
        #: When all that it said would have come at the slower rate.
        self._paid_at = 0.0
        self.resumes = 0.0

    def is_paid(self, now: float) -> bool:
        """Whether all that it said would have come by now at the slower rate: as if it had said nothing yet."""
        return self._paid_at <= now

    def took(self, size: int, now: float) -> bool:
        """So many bytes were read; whether it is to rest now."""
        self._paid_at = max(self._paid_at, now) + size / BYTES_PER_SECOND
        too_early = self._paid_at - now - BURST_BYTES / BYTES_PER_SECOND
        if too_early <= 0:
            return False
        self.resumes = now + max(too_early, _REST_SECONDS)
        return True
