# SPDX-License-Identifier: Apache-2.0
"""The conventions' sentences on ``--socket-path``, ``--fd``, and on what cannot be done, tried on a program."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from host_agent.backends.capabilities import FD, SOCKET_PATH
from host_agent.backends.examination import Force, Sentence, Verdict, failed, not_tested, passed
from host_agent.backends.offer import FDS, PATHS
from host_agent.backends.spawn import ended_how

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from host_agent.backends.examination import Examination
    from host_agent.backends.offer import Way
    from host_agent.backends.trial import Trial

BY_PATH: Final = "socket-path"
BY_FD: Final = "fd"
EARLY: Final = "fails-early"


def serves_a_path(examination: Examination) -> Verdict:
    """It serves the socket at a path, at one of its ends."""
    return _serves(examination, PATHS)


def serves_a_descriptor(examination: Examination) -> Verdict:
    """It serves the socket behind a descriptor, at one of its ends."""
    return _serves(examination, FDS)


def _serves(examination: Examination, ways: Sequence[Way]) -> Verdict:
    seen = []
    for way in ways:
        with examination.serving(way) as (trial, is_served):
            if is_served:
                examination.ways.append(way)
                return passed(way.value)
            seen.append(f"{way.value}: {_state(trial)}")
    return failed("; ".join(seen))


def _state(trial: Trial) -> str:
    if not trial.is_over:
        return f"it runs, and does not serve it{trial.said()}"
    return f"it {ended_how(trial.status or 0)}{trial.said()}"


def refuses_both(examination: Examination, *, fd_first: bool) -> Verdict:
    """It ends at once, with a status that is not 0, where it is given both."""
    with ExitStack() as stack:
        offers = [stack.enter_context(examination.offer(way)) for way in examination.ways]
        options = sorted((offer.option for offer in offers), key=lambda option: option.startswith(FD) is not fd_first)
        keep = [number for offer in offers for number in offer.keep]
        trial = stack.enter_context(examination.trial(*options, keep=keep))
        for offer in offers:
            offer.given()
        trial.until(lambda: trial.is_over or any(offer.is_served() for offer in offers), examination.patience.answer)
        if not trial.is_over:
            return failed("it serves all the same" if any(offer.is_served() for offer in offers) else "it runs all the same")
        trial.ends(0)
        return _refused(trial)


def fails_early(examination: Examination) -> Verdict:
    """It ends at once, with a status that is not 0, where a socket cannot be had; what it says to that is kept."""
    for what, option, keep in _impossible(examination):
        with examination.trial(option, keep=keep) as trial:
            if not trial.until(lambda: trial.is_over, examination.patience.early):
                return failed(f"{what}: it runs on{trial.said()}")
            trial.ends(0)
            if not trial.status:
                return failed(f"{what}: it ended with status 0")
            if trial.message:
                examination.messages.append(f"{what}: '{trial.message}'")
    return passed("a status that is not 0 for each")


def says_why(examination: Examination) -> Verdict:
    """It may print a message."""
    said = "; ".join(examination.messages)
    return passed(said) if said else not_tested("it prints none, which is no fault")


def _impossible(examination: Examination) -> Iterator[tuple[str, str, Sequence[int]]]:
    """What cannot be done, the option that asks for it, and the descriptors that go with it."""
    yield f"a {SOCKET_PATH} in a directory that is not there", f"{SOCKET_PATH}={examination.work}/nowhere/at-all.sock", ()
    yield f"a {FD} that is not open", f"{FD}=999", ()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield f"a {FD} that is no socket", f"{FD}={null}", (null,)
    finally:
        os.close(null)


def _refused(trial: Trial) -> Verdict:
    if trial.status:
        return passed(f"it {ended_how(trial.status)}{trial.said()}")
    return failed("it ended with status 0")


SENTENCES: Final = (
    Sentence(
        BY_PATH, Force.MUST, "--socket-path=PATH: This option specify the location of the vhost-user Unix domain socket.",
        "started with a path that is free; else with one where somebody listens, for a program that connects", serves_a_path,
    ),
    Sentence(
        BY_FD, Force.MUST,
        "--fd=FDNUM: When this argument is given, the back-end program is started with the vhost-user socket as file descriptor"
        " FDNUM.",
        "started with a listening socket; else with a connected one", serves_a_descriptor,
    ),
    Sentence(
        "socket-path-without-fd", Force.MUST, "--socket-path: It is incompatible with --fd.",
        "started with both, --socket-path first: it has to end, and not with status 0",
        lambda examination: refuses_both(examination, fd_first=False), (BY_PATH, BY_FD),
    ),
    Sentence(
        "fd-without-socket-path", Force.MUST, "--fd: It is incompatible with --socket-path.",
        "started with both, --fd first: it has to end, and not with status 0",
        lambda examination: refuses_both(examination, fd_first=True), (BY_PATH, BY_FD),
    ),
    Sentence(
        EARLY, Force.SHOULD,
        "If the back-end is not capable of enabling a requested feature on the host (such as 3D acceleration with virgl), or the"
        " initialization failed, the back-end should fail to start early and exit with a status != 0.",
        "started with a path in a directory that is not there, a descriptor that is not open, and one that is no socket",
        fails_early,
    ),
    Sentence(
        "says-why", Force.MAY, "It may also print a message to stderr for further details.",
        "the same, and what it prints is read", says_why, (EARLY,),
    ),
)  # fmt: skip
