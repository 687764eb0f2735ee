# SPDX-License-Identifier: Apache-2.0
"""What is logged of one VM: each thing once, and never so much that a VM fills the log by misbehaving."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("pv-host-agent")

#: A VM may say this much at once …
BURST: Final = 30.0
#: … and then a line each so many seconds.
SECONDS_PER_LINE: Final = 10.0
#: Sentences remembered per VM.
_REMEMBERED: Final = 16
_MAX_TEXT: Final = 600


class Teller:
    """Logs sentences about the VM *name*; what is logged also goes to *record*."""

    def __init__(self, name: str, record: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._name, self._record, self._clock = printable(name, 100), record, clock
        self._said: dict[str, None] = {}
        self._allowance, self._at = BURST, clock()
        self._suppressed = 0

    def tell_once(self, level: int, text: str) -> None:
        """Log *text*, unless it was said since `again`."""
        if text not in self._said:
            self._said[text] = None
            if len(self._said) > _REMEMBERED:
                del self._said[next(iter(self._said))]
            self.tell(level, text)

    def tell(self, level: int, text: str) -> None:
        """Log *text*, unless too much was said lately."""
        now = self._clock()
        self._allowance = min(BURST, self._allowance + (now - self._at) / SECONDS_PER_LINE)
        self._at = now
        if self._allowance < 1:
            self._suppressed += 1
            return
        self._allowance -= 1
        more = f" (and {self._suppressed} lines that were not logged)" if self._suppressed else ""
        self._suppressed = 0
        log.log(level, "%s: %s%s", self._name, text[:_MAX_TEXT], more)
        self._record(text)

    def again(self) -> None:
        """Something changed for the better: what was said before is news if it has to be said again."""
        self._said.clear()
