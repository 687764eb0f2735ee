# SPDX-License-Identifier: Apache-2.0
"""What became of a VM that was to move: where it runs, why, and what to do now."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host_agent.qemu.migration_status import Phase, Status

if TYPE_CHECKING:
    from collections.abc import Mapping


class Runs(Enum):
    """Where it runs now."""

    SOURCE = "source"
    DESTINATION = "destination"
    #: On purpose: all of it is in a file.
    STORED = "stored"
    NOWHERE = "nowhere"
    #: What would know does not answer.
    UNKNOWN = "unknown"


class Seen(Enum):
    """What is seen of the VM at the destination's monitor, once the source is done."""

    RUNS = "it runs there"
    WAITS = "all of it is there, and paused"
    #: It has neither run nor will: the destination says so, or its process has ended without starting it.
    NEVER = "it never ran there"
    RAN = "it ran there, and that QEMU has ended"
    SILENT = "nothing is known of it there"
    UNASKED = "there is no monitor to ask"


class Ended(Enum):
    """What the source says of it."""

    COMPLETED = "completed"
    #: Or cancelled, or refused.
    FAILED = "failed"
    #: Its monitor is gone, or hangs.
    LOST = "lost"


class Verdict(Enum):
    """What follows from both."""

    ARRIVED = "it is at the destination, and must not run at the source"
    TAKE_BACK = "it can only be at the source, and has to run there"
    #: Memory at the source is older than what has happened since: it must not be continued there by us.
    HANDS_OFF = "it has run at the destination, and does not any more"
    GONE = "neither end has it"
    UNKNOWN = "nobody can say"


#: Never two at once, and never none where one end can still run it.
VERDICTS: Final[Mapping[tuple[Ended, Seen], Verdict]] = {
    (Ended.COMPLETED, Seen.RUNS): Verdict.ARRIVED,
    (Ended.COMPLETED, Seen.WAITS): Verdict.ARRIVED,
    (Ended.COMPLETED, Seen.NEVER): Verdict.TAKE_BACK,
    (Ended.COMPLETED, Seen.RAN): Verdict.HANDS_OFF,
    (Ended.COMPLETED, Seen.SILENT): Verdict.UNKNOWN,
    (Ended.COMPLETED, Seen.UNASKED): Verdict.ARRIVED,
    (Ended.FAILED, Seen.RUNS): Verdict.ARRIVED,
    (Ended.FAILED, Seen.WAITS): Verdict.TAKE_BACK,
    (Ended.FAILED, Seen.NEVER): Verdict.TAKE_BACK,
    (Ended.FAILED, Seen.RAN): Verdict.HANDS_OFF,
    (Ended.FAILED, Seen.SILENT): Verdict.TAKE_BACK,
    (Ended.FAILED, Seen.UNASKED): Verdict.TAKE_BACK,
    (Ended.LOST, Seen.RUNS): Verdict.ARRIVED,
    (Ended.LOST, Seen.WAITS): Verdict.ARRIVED,
    (Ended.LOST, Seen.NEVER): Verdict.GONE,
    (Ended.LOST, Seen.RAN): Verdict.GONE,
    (Ended.LOST, Seen.SILENT): Verdict.UNKNOWN,
    (Ended.LOST, Seen.UNASKED): Verdict.UNKNOWN,
}

_WORDS: Final = {
    Runs.SOURCE: "runs on the source",
    Runs.DESTINATION: "runs on the destination",
    Runs.STORED: "runs nowhere, as was asked",
    Runs.NOWHERE: "runs nowhere",
    Runs.UNKNOWN: "runs nobody can say where",
}
_PAUSED: Final = {Runs.SOURCE: "is on the source, paused", Runs.DESTINATION: "is on the destination, paused"}


class Reason(NamedTuple):
    """Why something is not as it should be, and what to do about it; false where there is none."""

    why: str = ""
    cure: str = ""

    def __bool__(self) -> bool:
        return bool(self.why)

    def and_then(self, why: str, cure: str = "") -> Reason:
        """It, and what came of it; the later cure is the one."""
        return Reason(f"{self.why}; {why}" if self.why else why, cure or self.cure)


class Outcome(NamedTuple):
    """Where it runs (or is, *paused*), *why* that is so, and what to do about it (*cure*): sentences' parts, or ""."""

    runs: Runs
    why: str = ""
    cure: str = ""
    paused: bool = False
    phase: Phase = Phase.NONE
    status: Status = Status()
    seconds: float = 0.0

    @property
    def moved(self) -> bool:
        """Whether it is where it was to go."""
        return self.runs in (Runs.DESTINATION, Runs.STORED)

    def text(self, vm: str) -> str:
        """It in one sentence."""
        words = (_PAUSED if self.paused else _WORDS).get(self.runs, _WORDS[self.runs])
        return f"{vm} {words}{f': {self.why}' if self.why else ''}{f'; cure: {self.cure}' if self.cure else ''}"

    def values(self, vm: str) -> dict[str, Any]:
        """For JSON."""
        return {
            "vm": vm, "runs": self.runs.value, "paused": self.paused, "why": self.why, "cure": self.cure,
            "status": self.phase.value, "seconds": round(self.seconds, 3), "downtime-ms": self.status.downtime,
            "transferred-bytes": self.status.ram.transferred, "memory-bytes": self.status.ram.total,
        }  # fmt: skip
