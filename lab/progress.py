# SPDX-License-Identifier: Apache-2.0
"""Say what is being done and for how long, whenever it takes more than a moment."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Progress = Callable[[str], None]

#: A shorter step is not worth a line; a longer one without a line looks hung.
QUIET_SECONDS = 2.0

#: How often a long step says that it is still at it.
REMINDER_SECONDS = 15.0


def silent(_text: str) -> None:
    """Print nothing: the progress of a caller who did not ask for any."""


@contextlib.contextmanager
def step(progress: Progress, what: str) -> Iterator[None]:
    """Report *what* once it has taken QUIET_SECONDS, again every REMINDER_SECONDS, and how long it took."""
    started = time.monotonic()
    finished = threading.Event()
    spoken = threading.Event()

    def remind() -> None:
        pause = QUIET_SECONDS
        while not finished.wait(pause):
            spoken.set()
            progress(f"lab: {what} … {time.monotonic() - started:.0f} s")
            pause = REMINDER_SECONDS

    reminder = threading.Thread(target=remind, name=f"progress of {what}", daemon=True)
    reminder.start()
    outcome = "failed after"
    try:
        yield
        outcome = "took"
    finally:
        finished.set()
        reminder.join()
        if spoken.is_set():
            progress(f"lab: {what} {outcome} {time.monotonic() - started:.1f} s")
