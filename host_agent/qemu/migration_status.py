# SPDX-License-Identifier: Apache-2.0
"""How far a migration is, as `query-migrate` tells: typed, and in a line for people."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from pv_channel.text import printable

_MAX_WORDS: Final = 300
_MAX_REASONS: Final = 5
_KIB: Final = 1024


class Phase(Enum):
    """What QEMU's many words for a migration's status come to."""

    NONE = "none"
    UNDER_WAY = "under way"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self in (Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED)


_ENDS: Final[dict[str, Phase]] = {"": Phase.NONE} | {phase.value: phase for phase in Phase if phase is not Phase.UNDER_WAY}


def phase_of(word: str) -> Phase:
    """The phase of a status of QEMU's; one that is not known here is on the way to another."""
    return _ENDS.get(word, Phase.UNDER_WAY)


class Memory(msgspec.Struct, rename="kebab", frozen=True):
    """``MigrationRAMStats``, as far as it is looked at: bytes, but for rates."""

    total: int = 0
    remaining: int = 0
    transferred: int = 0
    page_size: int = 0
    #: Pages that the guest writes, in a second.
    dirty_pages_rate: int = 0
    #: Megabits in a second.
    mbps: float = 0.0
    #: How often all of the guest's memory has been gone through.
    dirty_sync_count: int = 0


class Status(msgspec.Struct, rename="kebab", frozen=True):
    """``MigrationInfo``, as far as it is looked at: times are milliseconds. Nothing is in it where there was no migration."""

    status: str = ""
    error_desc: str = ""
    ram: Memory = Memory()
    total_time: int = 0
    expected_downtime: int = 0
    downtime: int = 0
    #: Why this QEMU will not begin one, where it will not.
    blocked_reasons: list[str] = []
    #: Where a destination listens.
    socket_address: list[dict[str, object]] = []

    @property
    def phase(self) -> Phase:
        """What the status comes to."""
        return phase_of(self.status)

    @property
    def why(self) -> str:
        """QEMU's own words on a failure, or nothing."""
        return printable(self.error_desc, _MAX_WORDS)

    @property
    def reasons(self) -> list[str]:
        """`blocked_reasons`, fit to be printed."""
        return [printable(reason, _MAX_WORDS) for reason in self.blocked_reasons[:_MAX_REASONS]]

    @property
    def text(self) -> str:
        """How far it is, in one line."""
        word = printable(self.status or "not begun", 40)
        ram = self.ram
        if self.phase is not Phase.UNDER_WAY or not ram.total:
            return word
        sent = 100 * (ram.total - min(ram.remaining, ram.total)) // ram.total
        parts = [f"{word}: {sent} % of {size(ram.total)} memory", f"{size(_rate(ram))}/s", self._estimate]
        if ram.dirty_sync_count > 1:
            parts.append(f"pass {ram.dirty_sync_count}")
        if self.expected_downtime:
            parts.append(f"downtime about {self.expected_downtime} ms")
        return ", ".join(part for part in parts if part)

    @property
    def _estimate(self) -> str:
        rate, dirtied = _rate(self.ram), self.ram.dirty_pages_rate * self.ram.page_size
        if not rate or not self.ram.remaining:
            return ""
        if dirtied >= rate:
            return f"no end in sight: the guest writes {size(dirtied)}/s"
        return f"about {duration(self.ram.remaining / (rate - dirtied))} to go"


def size(amount: float) -> str:
    """Bytes for people: at most four digits and a unit."""
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < _KIB or unit == "TiB":
            break
        amount /= _KIB
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds for people."""
    whole = max(1, round(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{round(whole / 60)} min" if whole < 2 * 3600 else f"{whole / 3600:.1f} h"


def _rate(ram: Memory) -> float:
    """Bytes in a second."""
    return ram.mbps * 1e6 / 8
