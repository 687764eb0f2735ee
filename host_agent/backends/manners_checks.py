# SPDX-License-Identifier: Apache-2.0
"""The conventions' sentences on how a program runs and ends, tried on it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from host_agent.backends.examination import Force, Sentence, Verdict, failed, passed
from host_agent.backends.socket_checks import BY_FD, BY_PATH
from host_agent.backends.spawn import ended_how
from host_agent.backends.trial import Manner, has_standard_streams

if TYPE_CHECKING:
    from host_agent.backends.examination import Examination
    from host_agent.backends.trial import Trial

FOREGROUND: Final = "foreground"
#: For what was started to end, where it serves by more than one process, and has gone to the background with one of them.
_BACKGROUND_SECONDS: Final = 1.0


def stays(examination: Examination) -> Verdict:
    """The process that was started is the one that serves, in the session that it was started in."""
    for way in examination.ways:
        with examination.serving(way) as (trial, is_served):
            if trial.family() != [trial.pid]:
                trial.until(lambda: trial.status is not None, _BACKGROUND_SECONDS)
            if not is_served:
                return failed(f"{way.value}: this time it does not serve{trial.said()}")
            if trial.status is not None:
                return failed(f"{way.value}: what was started {ended_how(trial.status)}, and process {_first(trial)} serves on")
            with suppress(ProcessLookupError):
                if os.getsid(trial.pid) != trial.pid:
                    return failed(f"{way.value}: it left its session")
    return passed("what was started serves, in its session")


def is_managed(examination: Examination) -> Verdict:
    """A daemon that starts it in the background sees it work."""
    return _serves_by(examination, Manner(to_null=True), "leader of a session, in /, its streams /dev/null: it serves")


def is_restricted(examination: Examination) -> Verdict:
    """It works with less."""
    return _serves_by(examination, Manner(restricted=True), "without an environment or new privileges, umask 077: it serves")


def _serves_by(examination: Examination, manner: Manner, seen: str) -> Verdict:
    way = examination.ways[-1]
    with examination.serving(way, manner) as (trial, is_served):
        return passed(seen) if is_served else failed(f"{way.value}: it does not serve{trial.said()}")


def keeps_its_streams(examination: Examination) -> Verdict:
    """It has all three while it serves, whatever they are."""
    way = examination.ways[-1]
    for manner, what in ((Manner(to_null=True), "/dev/null"), (Manner(), "a log handler's pipes")):
        with examination.serving(way, manner) as (trial, is_served):
            pids = trial.family()
            if not is_served or not pids:
                return failed(f"{what}: it does not serve{trial.said()}")
            if not has_standard_streams(pids[0]):
                return failed(f"{what}: it has closed one of them")
    return passed("it serves with /dev/null and with a log handler's pipes, and keeps them open")


def ends_when_told(examination: Examination) -> Verdict:
    """SIGTERM ends it, and all that it started."""
    way, patience = examination.ways[-1], examination.patience.stop
    with examination.serving(way) as (trial, is_served):
        if not is_served:
            return failed(f"{way.value}: this time it does not serve{trial.said()}")
        began = time.monotonic()
        trial.send(signal.SIGTERM)
        if not trial.ends(patience):
            return failed(f"it still runs {patience:g} s after SIGTERM")
        took = time.monotonic() - began
        if not trial.until(lambda: not trial.family(), max(patience - took, 0)):
            return failed(f"process {_first(trial)} of it still runs {patience:g} s after SIGTERM")
        if trial.status not in (0, -signal.SIGTERM):
            return failed(f"it {ended_how(trial.status or 0)}{trial.said()}")
        return passed(f"it {ended_how(trial.status or 0)} after {took:.2f} s, and nothing of it is left")


def starts_again(examination: Examination) -> Verdict:
    """What SIGKILL leaves behind is not in the way of the next one."""
    way = examination.ways[0]
    with examination.offer(way) as offer:
        for turn in ("at first", "after a SIGKILL"):
            with examination.trial(offer.option, keep=offer.keep) as trial:
                trial.until(lambda: offer.is_served() or trial.is_over, examination.patience.up)
                if not offer.is_served():
                    return failed(f"{turn} it does not serve{trial.said()}")
            offer.again()
    return passed("killed while it served, and started again at the same path: it serves")


def _first(trial: Trial) -> str:
    """The number of a process of it, where one runs."""
    return next((str(pid) for pid in trial.family()), "none")


SENTENCES: Final = (
    Sentence(
        FOREGROUND, Force.MUST, "The back-end program must not daemonize itself,",
        "what was started has to be what serves, in the session that it was started in", stays, (BY_PATH, BY_FD),
    ),
    Sentence(
        "managed", Force.MAY, "but it may be daemonized by the management layer.",
        "started as the leader of a session, in /, with /dev/null for its streams", is_managed, (BY_PATH, BY_FD),
    ),
    Sentence(
        "restricted", Force.MAY, "It may also have a restricted access to the system.",
        "started without an environment, without a way to new privileges, with umask 077", is_restricted, (BY_PATH, BY_FD),
    ),
    Sentence(
        "standard-streams", Force.MUST,
        "File descriptors 0, 1 and 2 will exist, and have regular stdin/stdout/stderr usage (they may have been redirected to"
        " /dev/null by the management layer, or to a log handler).",
        "started with /dev/null, then with pipes: it has to serve, and to have all three open", keeps_its_streams,
        (BY_PATH, BY_FD),
    ),
    Sentence(
        "sigterm", Force.MUST,
        "The back-end program must end (as quickly and cleanly as possible) when the SIGTERM signal is received.",
        "sent to it while it serves: it has to end by it or with status 0, and nothing of it may be left", ends_when_told,
        (FOREGROUND,),
    ),
    Sentence(
        "sigkill", Force.MAY, "Eventually, it may receive SIGKILL by the management layer after a few seconds.",
        "sent to it while it serves: it has to start again at the same path", starts_again, (FOREGROUND,),
    ),
)  # fmt: skip
