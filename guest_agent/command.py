# SPDX-License-Identifier: Apache-2.0
"""Run a program: the one door through which programs start, without a shell, with bounded time and bounded output."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from subprocess import Popen

#: A DHCP client's first tries (RFC 2131, section 4.1: 4, 8, 16 and 32 s) fit; a host that waits for the answer still does.
MAX_SECONDS: Final = 75.0
#: The end of what a program prints says why it failed; more is not kept.
MAX_OUTPUT_BYTES: Final = 64 * 1024
#: How often a program that prints nothing is asked whether it has ended.
TICK_SECONDS: Final = 0.02

#: Nothing of our own environment reaches a program; C keeps its messages in one language.
ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/"}


class Completed(NamedTuple):
    """How a program ended: its exit status (negative: by that signal) and the last of what it printed."""

    status: int
    output: bytes


class CommandError(Exception):
    """A program that could not be started, or was killed because its time was up. *output* is the last of what it printed."""

    def __init__(self, problem: str, output: bytes = b"") -> None:
        super().__init__(problem)
        self.output = output


def run(argv: Sequence[str], seconds: float = MAX_SECONDS, *, given: bytes = b"") -> Completed:
    """Run *argv* to its end, both its outputs in one; raise `CommandError`. What it left in the background is not waited for.

    *given* is what it reads: less than a pipe holds (pipe(7)), so that nobody waits for it to be read.
    """
    # Loaded here: most starts of the agent run nothing, and its start is a budget.
    from subprocess import DEVNULL, PIPE, STDOUT, Popen

    try:
        process = Popen(
            list(argv),
            stdin=PIPE if given else DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
    except OSError as exc:
        raise CommandError(f"{argv[0]} does not start: {exc.strerror}") from None
    tail = bytearray()
    with process:
        try:
            _give(process, given)
            if not _follow(process, tail, time.monotonic() + seconds):
                raise CommandError(f"{argv[0]} did not end within {seconds:g} s", bytes(tail))
        finally:
            _end(process)
    return Completed(process.returncode, bytes(tail))


def _give(process: Popen[bytes], given: bytes) -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it has ended without reading
            process.stdin.write(given)
        process.stdin.close()


def _follow(process: Popen[bytes], tail: bytearray, deadline: float) -> bool:
    """Collect output until the program ends (True) or *deadline* passes (False)."""
    from select import POLLIN, poll

    pipe = process.stdout.fileno() if process.stdout else -1
    os.set_blocking(pipe, False)
    waiting = poll()
    waiting.register(pipe, POLLIN)
    while process.poll() is None:
        if time.monotonic() >= deadline:
            return False
        # A pipe whose writers are gone reports at once; then only the program's end is waited for.
        if not waiting.poll(TICK_SECONDS * 1000) or not _read(pipe, tail):
            time.sleep(TICK_SECONDS / 10)
    while _read(pipe, tail):
        # Something left in the background may hold the pipe and write for ever.
        if time.monotonic() >= deadline:
            break
    return True


def _read(pipe: int, tail: bytearray) -> bool:
    """Take what the pipe has; False where it has nothing now, or nothing any more."""
    try:
        data = os.read(pipe, MAX_OUTPUT_BYTES)
    except BlockingIOError:
        return False
    tail += data
    del tail[:-MAX_OUTPUT_BYTES]
    return bool(data)


def _end(process: Popen[bytes]) -> None:
    """Kill the program with its process group, unless it has ended: a daemon it left behind is what it was run for."""
    if process.poll() is None:
        import signal

        os.killpg(process.pid, signal.SIGKILL)
