# SPDX-License-Identifier: Apache-2.0
"""What an examination of a backend program is made of: sentences of the conventions, how each is tried, and verdicts."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from host_agent.backends.capabilities import is_qemus
from host_agent.backends.offer import Offer, Way
from host_agent.backends.trial import Manner, Trial, orphans_come_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from host_agent.backends.capabilities import Capabilities


class Result(Enum):
    """What came of trying one sentence."""

    PASS = "pass"  # noqa: S105 -- no password
    FAIL = "fail"
    NOT_TESTED = "not tested"


class Force(Enum):
    """How much a sentence asks for. The options are mandatory, unless it is said differently."""

    MUST = "must"
    SHOULD = "should"
    MAY = "may"


class Verdict(NamedTuple):
    """The *result*, and what was *seen*: safe to print."""

    result: Result
    seen: str


class Sentence(NamedTuple):
    """A sentence of the conventions, in their own *words*, *how* it is tried, and what does it; *needs* must have passed."""

    name: str
    force: Force
    words: str
    how: str
    judge: Callable[[Examination], Verdict]
    needs: tuple[str, ...] = ()


class Judged(NamedTuple):
    """A sentence and its verdict."""

    sentence: Sentence
    verdict: Verdict

    def values(self) -> dict[str, Any]:
        """For JSON."""
        sentence, verdict = self
        return {
            "name": sentence.name, "force": sentence.force.value, "sentence": sentence.words, "how": sentence.how,
            "result": verdict.result.value, "seen": verdict.seen,
        }  # fmt: skip


class Patience(NamedTuple):
    """Seconds that a program has: until it serves, to find that it cannot, to answer or to refuse its options, and to end."""

    up: float = 10.0
    early: float = 10.0
    answer: float = 10.0
    stop: float = 5.0


class Examination:
    """Of *program*, which needs *words* before its other arguments; *directories* are of files that may describe it.

    What is learned on the way is kept: its `capabilities`, by which `ways` it takes a socket, its `messages` where it cannot.
    """

    def __init__(self, program: Path, words: Sequence[str], patience: Patience, directories: Sequence[Path], work: Path) -> None:
        self.program, self.patience, self.directories, self.work = program, patience, directories, work
        self._words = words
        self.capabilities: Capabilities | None = None
        self.ways: list[Way] = []
        self.messages: list[str] = []
        self._trials = 0

    def trial(self, *options: str, keep: Sequence[int] = (), manner: Manner = Manner()) -> Trial:  # noqa: B008 -- immutable
        """The program with these options, for a `with`."""
        return Trial([str(self.program), *self._words, *options], keep, manner)

    def offer(self, way: Way) -> Offer:
        """A socket for the next trial, for a `with`."""
        self._trials += 1
        is_vhost_user = self.capabilities is not None and is_qemus(self.capabilities.type)
        return Offer(way, self.work / f"{self._trials}.sock", is_vhost_user=is_vhost_user)

    @contextmanager
    def serving(self, way: Way, manner: Manner = Manner()) -> Iterator[tuple[Trial, bool]]:  # noqa: B008 -- immutable
        """A trial that was given a socket in this *way*, and whether it is seen to serve it."""
        with self.offer(way) as offer, self.trial(offer.option, keep=offer.keep, manner=manner) as trial:
            offer.given()
            trial.until(lambda: offer.is_served() or trial.is_over, self.patience.up)
            yield trial, offer.is_served()


def passed(seen: str) -> Verdict:
    """It is as the sentence says."""
    return Verdict(Result.PASS, seen)


def failed(seen: str) -> Verdict:
    """It is not."""
    return Verdict(Result.FAIL, seen)


def not_tested(why: str) -> Verdict:
    """It could not be seen whether it is."""
    return Verdict(Result.NOT_TESTED, why)


def examine(
    program: Path, words: Sequence[str], sentences: Sequence[Sentence], patience: Patience, directories: Sequence[Path]
) -> Iterator[Judged]:
    """Try *sentences* on *program*, one after the other; raise `HostError` where it cannot be started at all."""
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="pv-check-") as work, orphans_come_home():
        examination = Examination(program, words, patience, directories, Path(work))
        for sentence in sentences:
            lacking = [need for need in sentence.needs if results[need] is not Result.PASS]
            verdict = not_tested(f"it needs '{lacking[0]}' to pass") if lacking else sentence.judge(examination)
            results[sentence.name] = verdict.result
            yield Judged(sentence, verdict)


def conforms(judged: Sequence[Judged], forces: Sequence[Force] = (Force.MUST,)) -> bool:
    """Whether every sentence of these *forces* has passed."""
    return all(each.verdict.result is Result.PASS for each in judged if each.sentence.force in forces)
