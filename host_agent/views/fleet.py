# SPDX-License-Identifier: Apache-2.0
"""A whole fleet coming up: how many stand where and how fast they come, and those rows of it that say most, first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.ledger.standing import Moment, State
from host_agent.views.overview import summary
from host_agent.views.verdict import Verdict, judged
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.views.verdict import Judged, Stands

    Steps = Sequence[tuple[float, str, str]]

HEADER: Final = ("vm", "state", "items", "at", "for", "why")
#: What a narrow terminal can do without, the least missed first.
LESS: Final = ("items", "at", "for")
#: How fast VMs come up is told over this time.
_RATE_SECONDS: Final = 10.0
_NAME, _WHY = 200, 200
#: The marks of a VM's items, of which documents have a dozen, and of the whole fleet.
_MARKS, _BAR = 16, 20
#: Who is on the way comes after what went wrong; then who is away, and last who is well.
_RANK: Final = {State.PROVISIONING: 1, State.GREETING: 2, State.UNREACHABLE: 4, State.REMOVED: 6}
_OTHERS, _WELL = 3, 5
#: With these a VM's work is done, or begins anew.
_ENDS: Final = (Moment.ANSWERED, Moment.IN_FORCE)
_BEGINS: Final = (Moment.SEEN, Moment.GREETING, Moment.SENT, Moment.LOST)


class Progress(NamedTuple):
    """What a VM is at: since when, till when (0: it is not over), how many items were begun, and the one under way."""

    began: float = 0.0
    ended: float = 0.0
    items: int = 0
    item: str = ""


def progress(steps: Steps) -> Progress:
    """What the steps of a VM's latest run come to: from the channel that was seen, or what came after the last answer."""
    now = Progress()
    for at, what, detail in steps:
        if not now.began or (now.ended and what in _BEGINS):
            now = Progress(at)
        if what == Moment.SENT:
            now = now._replace(items=0, item="")
        elif what == Moment.ITEM:
            now = now._replace(items=now.items + 1, item=detail)
        elif what in _ENDS and not now.ended:
            now = now._replace(ended=at, item="")
    return now


class Fleet:
    """The VMs that are watched, as they stood at the last `look`."""

    def __init__(self) -> None:
        self.vms: list[Stands] = []
        self._judged: dict[str, Judged] = {}
        self._ready: deque[tuple[float, int]] = deque()

    def look(self, vms: list[Stands]) -> list[Stands]:
        """They stand like this; those that stood otherwise before come back."""
        before, self._judged = self._judged, {vm.key: judged(vm) for vm in vms}
        words = {vm.key: vm.word for vm in self.vms}
        self.vms = vms
        return [vm for vm in vms if before.get(vm.key) != self._judged[vm.key] or words.get(vm.key) != vm.word]

    def first(self, number: int) -> list[Stands]:
        """So many of them, those first that say most."""
        return sorted(self.vms, key=lambda vm: (self._rank(vm), -vm.since, vm.name))[:number]

    def totals(self, now: float) -> str:
        """How many stand where, and how many came to be ready in each of the last seconds; *now* is any clock that goes on."""
        ready = sum(one.verdict is Verdict.READY for one in self._judged.values())
        rate = self._rate(now, ready)
        marks = _BAR * ready // max(len(self.vms), 1)
        bar = f"[{'#' * marks}{'.' * (_BAR - marks)}] "
        return bar + summary(vm.word for vm in self.vms) + (f"; {rate:.1f} ready a second" if rate > 0 else "")

    def row(self, vm: Stands, steps: Steps, now: float) -> tuple[str, ...]:
        """The VM under `HEADER`, with the *steps* of its latest run; *now* is the time of day."""
        at = progress(steps)
        if vm.state == State.PROVISIONING and (at.ended or not at.began):  # a long life's later steps are not kept
            at = Progress(vm.since)
        is_well = self._judged[vm.key].verdict is Verdict.READY
        over = at.ended or (vm.since if is_well else now)
        spent = _duration(over - at.began) if at.began else ""
        bar = f"{'#' * min(at.items, _MARKS)} {at.items}" if at.items else ""
        why = "" if is_well else printable(self._judged[vm.key].why, _WHY)
        return (printable(vm.name, _NAME), vm.word, bar, at.item, spent, why)

    def line(self, vm: Stands) -> str:
        """The VM in one line, where no terminal shows a table."""
        verdict, why = self._judged[vm.key]
        return f"{printable(vm.name, _NAME)} {vm.word}" + (f": {why}" if why and verdict is not Verdict.READY else "")

    def _rank(self, vm: Stands) -> int:
        verdict = self._judged[vm.key].verdict
        if verdict is Verdict.FAILED and vm.state != State.REMOVED:
            return 0
        return _WELL if verdict is Verdict.READY else _RANK.get(vm.state, _OTHERS)

    def _rate(self, now: float, ready: int) -> float:
        self._ready.append((now, ready))
        while now - self._ready[0][0] > _RATE_SECONDS:
            self._ready.popleft()
        then, before = self._ready[0]
        return (ready - before) / (now - then) if now > then else 0.0


def _duration(seconds: float) -> str:
    """As short as it can be said."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
