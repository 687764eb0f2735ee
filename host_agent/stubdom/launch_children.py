# SPDX-License-Identifier: Apache-2.0
"""Programs that the launcher starts: they end when it ends, however it does. As process 1 it also takes what orphans leave."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from host_agent.stubdom.launch_failure import LaunchError, Status
from host_agent.stubdom.launch_show import short

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

#: prctl(2).
_SET_PARENT_DEATH_SIGNAL: Final = 1


def started(command: Sequence[bytes], descriptors: Collection[int] = ()) -> subprocess.Popen[bytes]:
    """The program of *command*, which inherits these descriptors beside output and errors; raise `LaunchError`.

    It is sent SIGTERM when the launcher dies: no second launcher may find a QEMU that nobody looks after.
    """
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bound_to_us() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # we died before it was set
            os._exit(1)

    try:
        # There are no threads here that a function between fork and exec could hang on.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=descriptors, preexec_fn=bound_to_us)  # noqa: PLW1509
    except OSError as exc:
        raise LaunchError(Status.PROGRAM, f"{short(command[0], 300)} cannot be started: {exc.strerror}") from None


def take_statuses(children: Iterable[subprocess.Popen[bytes]]) -> None:
    """Of everything that has ended: each of *children* has its `returncode` then, and of orphans nothing is left."""
    ours = {child.pid: child for child in children}
    with suppress(ChildProcessError):  # there is none
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in ours:
                ours[ended.si_pid].poll()
            else:
                os.waitpid(ended.si_pid, 0)


def ended(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Have it end now: asked first, killed where it has not done so after *seconds*."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def exit_status(returncode: int) -> int:
    """A child's `returncode` as a shell has it: a signal's number counts from 128."""
    return 128 - returncode if returncode < 0 else returncode


def outcome(returncode: int) -> str:
    """The same in words."""
    if returncode >= 0:
        return f"exited with status {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal
        return f"was ended by signal {-returncode}"
