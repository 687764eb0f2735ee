# SPDX-License-Identifier: Apache-2.0
"""What the agent says on standard error: one line each, with a priority the journal understands, the same thing once.

No `logging`: it costs a quarter of the start and would do no more here.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

#: A path, a sentence and two fingerprints fit.
MAX_LINE: Final = 400
#: How many different things are remembered as said. A peer chooses some of them, so there is an end to it.
MAX_REMEMBERED: Final = 64

#: sd-daemon(3)
INFO: Final = 6
WARNING: Final = 4
ERROR: Final = 3


class Log:
    """Writes lines to *stream*; behind systemd each begins with its priority (sd-daemon(3))."""

    def __init__(self, stream: TextIO | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._journal = "JOURNAL_STREAM" in environment
        self._said: set[tuple[str, object]] = set()

    def note(self, text: str) -> None:
        """Say what happened."""
        self._write(INFO, text)

    def alert(self, text: str) -> None:
        """Say what somebody may have to look at."""
        self._write(WARNING, text)

    def fail(self, text: str) -> None:
        """Say what is broken."""
        self._write(ERROR, text)

    def once(self, kind: str, about: object, text: str, priority: int = WARNING) -> None:
        """Say *text*, of *kind* *about* something, the first time only; past `MAX_REMEMBERED` different ones, never."""
        if (kind, about) in self._said or len(self._said) > MAX_REMEMBERED:
            return
        self._said.add((kind, about))
        if len(self._said) > MAX_REMEMBERED:
            text = "more of this kind is not written: see the first ones"
        self._write(priority, text)

    def forget(self, kind: str) -> None:
        """Say the next of *kind* again: what it was about has passed."""
        self._said = {said for said in self._said if said[0] != kind}

    def _write(self, priority: int, text: str) -> None:
        prefix = f"<{priority}>" if self._journal else "pv-guest-agent: "
        try:
            self._stream.write(f"{prefix}{printable(text, MAX_LINE)}\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed: no reason to stop serving
            self._journal = False
