# SPDX-License-Identifier: Apache-2.0
"""The conventions' sentences on ``--print-capabilities`` and on description files, tried on a program."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from host_agent.backends.capabilities import FD, MAX_BYTES, PRINT_CAPABILITIES, QEMU_FEATURES, SOCKET_PATH, is_qemus, parse
from host_agent.backends.descriptions import Convention
from host_agent.backends.directories import directories, look
from host_agent.backends.examination import Force, Sentence, Verdict, failed, not_tested, passed
from host_agent.backends.spawn import ended_how
from host_agent.errors import HostError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from host_agent.backends.descriptions import Description
    from host_agent.backends.examination import Examination

CAPABILITIES: Final = "print-capabilities"
SCHEMA: Final = "capabilities-schema"
#: What no program knows, and what none can do.
_BESIDE: Final = (
    ("--no-such-option", PRINT_CAPABILITIES),
    (PRINT_CAPABILITIES, "--no-such-option=1", "no-such-argument"),
    (f"{FD}=999", f"{SOCKET_PATH}=/nowhere/at-all.sock", PRINT_CAPABILITIES),
)


def answers(examination: Examination) -> Verdict:
    """It prints JSON on standard output and ends with 0."""
    answer, problem = _answer(examination, PRINT_CAPABILITIES)
    if problem:
        return failed(problem)
    try:
        msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return failed("what it prints is no JSON")
    return passed(f"{len(answer)} bytes of JSON, then status 0")


def fits_the_schema(examination: Examination) -> Verdict:
    """The answer is a VHostUserBackendCapabilities."""
    answer, problem = _answer(examination, PRINT_CAPABILITIES)
    if problem:
        return failed(problem)
    try:
        found = examination.capabilities = parse(answer)
    except HostError as exc:
        return failed(str(exc))
    if not is_qemus(found.type):
        return passed(f"a type of its own, {found.type}, which no file in QEMU's directories may have")
    unknown = set(found.features) - QEMU_FEATURES.get(found.type, frozenset(found.features))
    if unknown:
        return failed(f"type {found.type} has no feature {', '.join(sorted(unknown))}")
    return passed(f"type {found.type}" + (f", features {', '.join(found.features)}" if found.features else ""))


def ignores_the_rest(examination: Examination) -> Verdict:
    """Whatever stands beside it, the answer is the same."""
    first, problem = _answer(examination, PRINT_CAPABILITIES)
    for words in _BESIDE:
        answer, problem = _answer(examination, *words)
        if problem:
            return failed(f"with {' '.join(words)}: {problem}")
        if answer != first:
            return failed(f"with {' '.join(words)}: another answer")
    return passed(f"the same answer beside {len(_BESIDE)} sets of options and arguments that mean nothing")


def does_nothing_else(examination: Examination) -> Verdict:
    """No socket is made, and nothing of it runs on."""
    path = examination.work / "capabilities.sock"
    with examination.trial(f"{SOCKET_PATH}={path}", PRINT_CAPABILITIES) as trial:
        if not trial.ends(examination.patience.answer):
            return failed(f"it still runs after {examination.patience.answer:g} s")
        if path.exists():
            return failed("it made the socket")
        left = trial.family()
    return failed(f"process {left[0]} of it runs on") if left else passed("no socket was made, and nothing of it runs on")


def is_described(examination: Examination) -> Verdict:
    """A description file names the program, and tells the type that it tells itself."""
    found = examination.capabilities
    for description in _descriptions(examination):
        if description.binary.resolve() == examination.program.resolve():
            if found is not None and found.type != description.type:
                return failed(f"{shown(description.path)} says that its type is {shown(description.type)}")
            return passed(f"{shown(description.path)}: {shown(description.about)}")
    return not_tested("no description file names it: it is not installed")


def _descriptions(examination: Examination) -> Iterator[Description]:
    for convention in (Convention.VHOST_USER, Convention.CHANNELS):
        paths = [*directories(convention, os.environ, os.geteuid()), *examination.directories]
        yield from look(paths, convention).descriptions


def has_options_of(kind: str, examination: Examination) -> Verdict:
    """It reports those of the options of the device *kind* that it has; they are not tried."""
    found = examination.capabilities
    if found is None or found.type != kind:
        return not_tested("it is no such device")
    return passed(f"it reports {', '.join(found.features) or 'none of them'}")


def _answer(examination: Examination, *words: str) -> tuple[bytes, str]:
    """What the program prints, and what is wrong with how it does, or ""."""
    patience = examination.patience.answer
    with examination.trial(*words) as trial:
        trial.until(lambda: trial.status is not None or trial.prints_too_much, patience)
        over = not trial.prints_too_much and trial.ends(0)
        if trial.prints_too_much:
            return b"", f"it prints more than {MAX_BYTES} bytes"
        if not over or trial.status is None:
            return b"", f"no answer within {patience:g} s"
        return bytes(trial.output), f"it {ended_how(trial.status)}{trial.said()}" if trial.status else ""


def _of_device(kind: str, words: str) -> Sentence:
    how = "asked for its capabilities, whose features tell which of these options it has"
    return Sentence(f"{kind}-options", Force.MAY, words, how, partial(has_options_of, kind), (SCHEMA,))


SENTENCES: Final = (
    Sentence(
        CAPABILITIES, Force.MUST,
        "--print-capabilities: Output to stdout the back-end capabilities in JSON format, and then exit successfully.",
        "started with it alone", answers,
    ),
    Sentence(
        SCHEMA, Force.MUST,
        "The JSON output is described in the vhost-user.json schema, by @VHostUserBackendCapabilities.",
        "the answer is read as the schema has it", fits_the_schema, (CAPABILITIES,),
    ),
    Sentence(
        "ignores-the-rest", Force.MUST, "Other options and arguments should be ignored,",
        "asked beside options that do not exist, arguments, a descriptor that is not open, a path that leads nowhere, and both",
        ignores_the_rest, (CAPABILITIES,),
    ),
    Sentence(
        "does-nothing-else", Force.MUST, "and the back-end program should not perform its normal function.",
        "asked beside a path that could be listened on", does_nothing_else, (CAPABILITIES,),
    ),
    Sentence(
        "dynamic-capabilities", Force.MAY, "The capabilities can be reported dynamically depending on the host capabilities.",
        "not tried", lambda _: not_tested("a freedom of the program's: no answer would be against it"),
    ),
    Sentence(
        "described", Force.SHOULD,
        "Each back-end installed on a host system should come with at least one JSON file that conforms to the vhost-user.json"
        " schema. Each file informs the management applications about the back-end type, and binary location.",
        "looked for in QEMU's directories and in ours", is_described, (SCHEMA,),
    ),
    _of_device("input", "vhost-user-input: --evdev-path=PATH, --no-grab (optional)"),
    _of_device("gpu", "vhost-user-gpu: --render-node=PATH, --virgl (optional)"),
    _of_device("block", "vhost-user-blk: --blk-file=PATH, --read-only (optional)"),
)  # fmt: skip
