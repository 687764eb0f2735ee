# SPDX-License-Identifier: Apache-2.0
"""Labs take turns: on two CPUs two of them at once run at a fifth of the speed each, and every bound is in danger."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.progress import Progress

#: An emulated machine keeps its two virtual CPUs busy, and whoever waits for it wants some too.
CPUS_PER_LAB = 3

#: Longer than the whole of the tests on Xen on a slow machine. Past it somebody has left a lab running.
TURN_SECONDS = 3 * 3600.0

#: Between two looks whether a turn has become free.
LOOK_SECONDS = 1.0


def turns() -> int:
    """Return how many labs this machine can run at once."""
    return max(1, (os.cpu_count() or 1) // CPUS_PER_LAB)


@contextlib.contextmanager
def take(directory: Path, progress: Progress) -> Iterator[int]:
    """Wait for one of the turns kept in *directory* and give the file descriptor that holds it.

    It is held as long as anyone has that descriptor open: a QEMU that inherits it keeps its turn until it ends, however it ends.
    LabError when TURN_SECONDS have passed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    held = _try(directory)
    if held is None:
        progress(
            "lab: another lab is running on this machine, and this one waits for it to end (python -m lab stop, if left running)"
        )
        give_up = time.monotonic() + TURN_SECONDS
        with step(progress, "waiting for another lab to end"):
            while held is None:
                if time.monotonic() > give_up:
                    raise LabError(
                        f"another lab has been running for {TURN_SECONDS / 3600:.0f} hours; python -m lab stop may end it"
                    )
                time.sleep(LOOK_SECONDS)
                held = _try(directory)
    try:
        yield held
    finally:
        os.close(held)


def _try(directory: Path) -> int | None:
    for number in range(turns()):
        turn = os.open(directory / f"turn-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(turn)
        else:
            return turn
    return None
