# SPDX-License-Identifier: Apache-2.0
"""Durations as people read them: short ones to the millisecond, long ones in minutes and hours."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_TWO_MINUTES: Final = 120


def spoken(seconds: float) -> str:
    """*seconds*, 0 or more, in at most two units."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _TWO_MINUTES:
        return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    at = next(i for i, (length, _) in enumerate(_UNITS) if whole >= 2 * length or length == 1)
    (length, unit), (smaller, smaller_unit) = _UNITS[at], _UNITS[at + 1]
    rest = whole % length // smaller
    return f"{whole // length} {unit} {rest} {smaller_unit}" if rest else f"{whole // length} {unit}"


def on_axis(seconds: float, step: float) -> str:
    """A place on a time axis whose marks are *step* apart: no more digits than that takes."""
    if seconds == 0:
        return "0"
    if step >= 60:
        return spoken(seconds)
    if step < 1 and seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    digits = 0 if step >= 1 else 1 if step >= 0.1 else 2 if step >= 0.01 else 3
    return f"{seconds:.{digits}f} s"
