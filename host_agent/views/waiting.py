# SPDX-License-Identifier: Apache-2.0
"""Wait until VMs are what their documents say: all of them are, one will not be, or the time is over."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host_agent.ledger.standing import State
from host_agent.serve_lock import is_served
from host_agent.views.follow import LOOK_EVERY_SECONDS, Follow
from host_agent.views.overview import summary
from host_agent.views.status import chosen
from host_agent.views.verdict import Asked, Judged, Verdict, judged
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from host_agent.views.verdict import Stands

#: What is waited for is told when it changes, but not more often than this; and now and then although it has not changed.
_TELL_SECONDS: Final = 1.0
_TELL_AGAIN_SECONDS: Final = 15.0
#: Of those that are waited for, this many are told with their reasons.
_TOLD: Final = 3
_NAME, _WHY = 200, 160
_UNKNOWN: Final = Judged(Verdict.WAITING, "not in the ledger; 'serve' puts it there as soon as it has read a document for it")


class Target(NamedTuple):
    """A VM by its name or uuid, and what of it is waited for."""

    vm: str
    asked: Asked = Asked()


class Waited(NamedTuple):
    """A VM that is waited for, as it stands: *word* and *generation* are empty and 0 while the ledger has none such."""

    name: str
    key: str
    word: str
    generation: int
    judged: Judged

    def values(self) -> dict[str, Any]:
        """For JSON."""
        verdict, why = self.judged
        return {
            "vm": self.name, "key": self.key, "verdict": verdict.value, "standing": self.word, "why": why,
            "generation-applied": self.generation,
        }  # fmt: skip

    @property
    def text(self) -> str:
        """It and what it waits for, or how it ended, in one line."""
        verdict, why = self.judged
        if verdict is Verdict.READY:
            return f"{self.name}: ready, generation {self.generation} is in force"
        word = f", {self.word}" if self.word not in ("", State.READY, verdict.value) else ""
        return f"{self.name}: {verdict.value}{word}: {why}"


class End(Enum):
    """How the waiting ended; the values are `wait`'s exit statuses."""

    GOOD = 0
    BAD = 1
    TIMEOUT = 2


class Ending(NamedTuple):
    """How, and each VM as it stands then."""

    end: End
    vms: list[Waited]


class Wait:
    """Waiting for *targets*, or for every VM that has a document (None), in the ledger in *directory*.

    A VM that will not be what it should ends it at once, unless *patient*: an operator may be mending it.
    """

    def __init__(self, targets: Sequence[Target] | None, *, generation: int = 0, patient: bool = False) -> None:
        self._targets, self._generation, self._patient = targets, generation, patient
        self.vms = [] if targets is None else [_unknown(target) for target in targets]

    @property
    def names(self) -> list[str] | None:
        """The names and uuids of those that are waited for, or None for all."""
        return None if self._targets is None else [target.vm for target in self._targets]

    def look(self, found: list[Stands]) -> None:
        """The VMs of `names` stand like this now."""
        if self._targets is None:
            self.vms = [_waited(vm, Asked(self._generation)) for vm in found if vm.state != State.REMOVED]
        else:
            self.vms = [self._one(target, found) for target in self._targets]

    def ending(self, *, time_is_over: bool) -> Ending | None:
        """How it ends now, if it does."""
        verdicts = {vm.judged.verdict for vm in self.vms}
        if verdicts == {Verdict.READY}:
            return Ending(End.GOOD, self.vms)
        is_hopeless = Verdict.FAILED in verdicts and (not self._patient or (time_is_over and Verdict.WAITING not in verdicts))
        if is_hopeless:
            return Ending(End.BAD, self.vms)
        return Ending(End.TIMEOUT, self.vms) if time_is_over else None

    @property
    def text(self) -> str:
        """What is waited for, in one line."""
        if len(self.vms) == 1:
            return self.vms[0].text
        if not self.vms:
            return "no VM with a document is in the ledger yet"
        rest = [vm for vm in self.vms if vm.judged.verdict is not Verdict.READY]
        more = f", and {len(rest) - _TOLD:,} more" if len(rest) > _TOLD else ""
        told = ", ".join(f"{vm.name} ({printable(vm.judged.why, _WHY)})" for vm in rest[:_TOLD])
        return f"{summary(vm.word or 'unknown' for vm in self.vms)}; waiting for {told}{more}"

    def _one(self, target: Target, found: list[Stands]) -> Waited:
        key = chosen(target.vm, [(vm.key, vm.name, vm.state) for vm in found])
        asked = target.asked._replace(generation=self._generation)
        return next((_waited(vm, asked) for vm in found if vm.key == key), _unknown(target))


def wait(directory: Path, waiting: Wait, timeout: float, tell: Callable[[str], None]) -> Ending:
    """Wait at most *timeout* seconds; *tell* is told of the progress. Raise `LedgerTrouble` where the ledger cannot be read."""
    over = time.monotonic() + timeout
    telling = Telling(tell)
    if not is_served(directory):
        tell("no 'pv-host-agent serve' is running on this state directory: what the ledger says is of when one last was")
    with Follow(directory) as follow:
        while True:
            view = follow.news()
            if view is not None:
                waiting.look(view.standings(waiting.names))
            now = time.monotonic()
            ending = waiting.ending(time_is_over=now >= over)
            if ending is not None:
                return ending
            telling.tell(waiting.text, now)
            time.sleep(min(LOOK_EVERY_SECONDS, over - now))


class Telling:
    """Tells what changes, not too often, and now and then what does not."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._told, self._at = tell, "", float("-inf")

    def tell(self, text: str, now: float) -> None:
        if now - self._at >= (_TELL_SECONDS if text != self._told else _TELL_AGAIN_SECONDS):
            self._told, self._at = text, now
            self._tell(text)


def _waited(vm: Stands, asked: Asked) -> Waited:
    return Waited(printable(vm.name, _NAME), printable(vm.key, _NAME), vm.word, vm.generation_applied, judged(vm, asked))


def _unknown(target: Target) -> Waited:
    return Waited(printable(target.vm, _NAME), "", "", 0, _UNKNOWN)
