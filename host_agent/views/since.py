# SPDX-License-Identifier: Apache-2.0
"""What an operator says of a time that is past: so long ago (``90s``, ``2h``, ``1d``), or a date and time of ISO 8601."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import datetime
from typing import Final

#: In seconds.
_UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_AGO: Final = re.compile(rf"([0-9]{{1,6}})({'|'.join(_UNITS)})", re.ASCII)


def since(text: str, now: float) -> float:
    """The time that *text* means, in seconds since 1970; one without an offset is local. Raise `ArgumentTypeError`."""
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ArgumentTypeError("expected how long ago (90s, 30min, 2h, 1d) or a time (2026-03-01T04:05)") from None
