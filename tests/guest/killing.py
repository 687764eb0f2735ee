# SPDX-License-Identifier: Apache-2.0
"""Strike the agent at one of its own lines, chosen by number: kill a process of its own there, or have the line raise."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import guest_agent
from pv_channel.messages import Outcome
from tests.guest.machine import Machine, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PACKAGE = str(Path(guest_agent.__file__).parent)


def is_agents(frame: FrameType) -> bool:
    """Whether the line is one of the agent's."""
    return frame.f_code.co_filename.startswith(PACKAGE)


def trace(at: int, strike: Callable[[], None], counts: Callable[[FrameType], bool] = is_agents) -> list[int]:
    """Count the lines of frames that count, from now on, into the list; strike before the one numbered *at*."""
    count = [0]

    def line(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            count[0] += 1
            if count[0] == at:
                strike()
        return line

    sys.settrace(lambda frame, event, argument: line if counts(frame) else None)
    return count


def killed(at: int, do: Callable[[], object], counts: Callable[[FrameType], bool] = is_agents) -> bool:
    """Whether *do*, in a process of its own, was killed before its line number *at*; False where it ended well before that."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            trace(at, lambda: os.kill(os.getpid(), signal.SIGKILL), counts)
            do()
            status = 0
        except BaseException:  # noqa: BLE001  a child's error is for the parent's test to fail by
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def survivors(
    make: Callable[[Path], Machine], do: Callable[[Machine], object], stride: int, lines: int
) -> Iterator[tuple[int, Machine]]:
    """Machines on which *do* was killed, at every *stride*-th of the agent's lines, with the line's number.

    In memory: thousands are made. There are more than *lines* lines, or nothing much was killed.
    """
    with TemporaryDirectory(dir="/dev/shm") as memory:
        Path(memory).chmod(0o755)  # users get home through it
        for at in itertools.count(1, stride):
            top = Path(memory) / str(at)
            machine = make(top)
            if not killed(at, lambda machine=machine: do(machine)):  # type: ignore[misc]  # bound for B023
                break
            yield at, machine
            shutil.rmtree(top)
    assert at > lines


def leaves_old_or_new(
    make: Callable[[Path], Machine], raw: bytes, stride: int, is_new: Callable[[Machine], bool] | None = None
) -> None:
    """Check that a kill at no line keeps the next start from the old machine or the new, nor the document from the new one.

    *is_new* tells a new machine where no two of them are the same.
    """

    def become(machine: Machine) -> None:
        assert machine.provisioner().provision(raw, None, no_progress).outcome in (Outcome.APPLIED, Outcome.UNCHANGED)

    with TemporaryDirectory(dir="/dev/shm") as memory:
        Path(memory).chmod(0o755)
        peace = make(Path(memory))
        old = peace.snapshot()
        become(peace)
        new = peace.snapshot()
    is_new = is_new or (lambda machine: machine.snapshot() == new)
    for at, machine in survivors(make, become, stride, 1000):
        machine.provisioner().recover()
        assert machine.snapshot() == old or is_new(machine), f"half a configuration after a kill at line {at}"
        become(machine)
        assert is_new(machine), f"another configuration after a kill at line {at}"
