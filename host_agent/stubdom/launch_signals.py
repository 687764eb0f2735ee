# SPDX-License-Identifier: Apache-2.0
"""Signals as something to wait for beside descriptors: that a child ended, and that somebody wants us to end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import FrameType

#: Who stops a service sends SIGTERM; a terminal, and the kernel for Ctrl-Alt-Del to its init, SIGINT.
ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_NOTED: Final = (*ENDING, signal.SIGCHLD)


class Signals:
    """While in the block, these signals do nothing but make `descriptor` readable; programs started in it have them as usual."""

    def __enter__(self) -> Self:
        self.descriptor, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._before = {each: signal.signal(each, _noted) for each in _NOTED}
        return self

    def __exit__(self, *_: object) -> None:
        for each, before in self._before.items():
            signal.signal(each, before)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.descriptor)
        os.close(self._writing)

    def taken(self) -> set[int]:
        """Which of them came since the last time."""
        came: set[int] = set()
        with suppress(BlockingIOError):
            while data := os.read(self.descriptor, 4096):
                came.update(data)
        return came


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Python writes its number into the pipe."""
