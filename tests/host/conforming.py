# SPDX-License-Identifier: Apache-2.0
"""Fake backend programs under examination: each has one fault, by its name, and should fail just the sentence that is on it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from host_agent.backends.conformance import SENTENCES
from host_agent.backends.examination import Patience, Result, examine
from tests.host import fake_backend

if TYPE_CHECKING:
    from collections.abc import Sequence

FAKE = Path(str(fake_backend.__file__))
#: A program that is as it should be is never waited for so long.
PATIENT = Patience(60, 60, 60, 60)
#: What a program of no device that is installed nowhere does not come to.
NEVER_TRIED = {"dynamic-capabilities", "described", "input-options", "gpu-options", "block-options"}


class Fault(NamedTuple):
    """What the fake is told to do wrong, which sentences it fails, and which are not tried on account of that."""

    name: str
    fails: frozenset[str]
    untried: frozenset[str] = frozenset()
    patience: Patience = PATIENT

    def __str__(self) -> str:
        return self.name


_AFTER_CAPABILITIES = frozenset({"capabilities-schema", "ignores-the-rest", "does-nothing-else"})
_CAPABILITIES, _EARLY = frozenset({"print-capabilities"}), frozenset({"fails-early"})
_SIGTERM = frozenset({"sigterm"})

FAULTS = (
    Fault("daemonises", frozenset({"foreground"}), frozenset({"sigterm", "sigkill"})),
    Fault("ignores-sigterm", _SIGTERM, patience=PATIENT._replace(stop=1)),
    Fault("accepts-both", frozenset({"socket-path-without-fd", "fd-without-socket-path"})),
    Fault("prints-junk", _CAPABILITIES, _AFTER_CAPABILITIES),
    Fault("prints-much", _CAPABILITIES, _AFTER_CAPABILITIES),
    Fault("hangs", _EARLY, frozenset({"says-why"}), PATIENT._replace(early=1)),
)
#: Of less consequence, or slower to see.
MORE_FAULTS = (
    Fault("leaves-a-child", _SIGTERM, patience=PATIENT._replace(stop=1)),
    Fault("ends-with-3", _SIGTERM),
    Fault("answers-late", _CAPABILITIES, _AFTER_CAPABILITIES, PATIENT._replace(answer=2)),
    Fault("answers-with-7", _CAPABILITIES, _AFTER_CAPABILITIES),
    Fault("has-no-type", frozenset({"capabilities-schema"})),
    Fault("heeds-others", frozenset({"ignores-the-rest"})),
    Fault("listens-meanwhile", frozenset({"does-nothing-else"})),
    Fault("fails-with-0", _EARLY, frozenset({"says-why"})),
    Fault("closes-its-streams", frozenset({"standard-streams"})),
    Fault("trips-over-itself", frozenset({"sigkill"})),
)


def examined(fault: str, patience: Patience = PATIENT) -> dict[str, Result]:
    """What the examination finds of the fake with this *fault*."""
    return results(Path(sys.executable), ["-I", "-S", os.fspath(FAKE), fault], patience)


def results(program: Path, words: Sequence[str], patience: Patience, directories: Sequence[Path] = ()) -> dict[str, Result]:
    """What the examination finds of *program*."""
    judged = examine(program, words, SENTENCES, patience, directories)
    return {each.sentence.name: each.verdict.result for each in judged}


def named(found: dict[str, Result], result: Result) -> set[str]:
    """The sentences that came to *result*."""
    return {name for name, each in found.items() if each is result}


def check_fault(fault: Fault) -> None:
    """The fake with this fault fails just what is on it, and leaves nothing running."""
    found = examined(fault.name, fault.patience)
    assert named(found, Result.FAIL) == fault.fails
    assert named(found, Result.NOT_TESTED) - NEVER_TRIED == fault.untried
    assert fakes_that_run() == []


def fakes_that_run() -> list[str]:
    """The numbers of processes of fakes."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:  # it has ended meanwhile
            continue
        if os.fsencode(FAKE) in line:
            found.append(entry.name)
    return found
