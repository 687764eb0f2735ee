# SPDX-License-Identifier: Apache-2.0
"""What is logged of one VM: each thing once, and never so much that a VM fills the log by misbehaving."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from host_agent.log.allowance import Allowance
from host_agent.log.happenings import Fields, Happening, noted
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from host_agent.log.telling import Telling

log = logging.getLogger("pv-host-agent")

#: A VM may say this much at once …
BURST: Final = 30
#: … and then a line each so many seconds.
SECONDS_PER_LINE: Final = 10.0
#: Sentences remembered per VM.
_REMEMBERED: Final = 16
_MAX_TEXT: Final = 600
_LINES: Final = Allowance(BURST, SECONDS_PER_LINE)


class Teller:
    """Logs sentences about the VM *name*; what is logged also goes to *record*. `about` goes with each to the journal."""

    __slots__ = ("_clock", "_domid", "_done", "_name", "_record", "_said", "_suppressed", "_uuid")

    def __init__(self, name: str, record: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._name, self._record, self._clock = printable(name, 100), record, clock
        self._said: tuple[str, ...] = ()
        self._done = 0.0
        self._suppressed = 0
        self._uuid: str | None = None
        self._domid: int | None = None

    @property
    def about(self) -> Fields:
        """What the journal is told of the VM with every line, made of little: there are ten thousand of us."""
        if self._uuid is None:
            return {"vm": self._name}
        return {"vm": self._name, "uuid": self._uuid, "domid": self._domid}

    @about.setter
    def about(self, fields: Fields) -> None:
        self._uuid, self._domid = fields.get("uuid"), fields.get("domid")

    def hear(self, told: Telling | None) -> None:
        """Tell what of a conversation is to be told, if anything is."""
        if told is None:
            return
        if told.is_news:
            self.again()
        tell = self.tell_once if told.once else self.tell
        tell(told.level, told.text, told.happening, **told.fields)

    def tell_once(self, level: int, text: str, happening: Happening | None = None, **fields: Unpack[Fields]) -> None:
        """Log *text*, unless it was said since `again`."""
        if text not in self._said:
            self._said = (*self._said[1 - _REMEMBERED :], text)
            self.tell(level, text, happening, **fields)

    def tell(self, level: int, text: str, happening: Happening | None = None, **fields: Unpack[Fields]) -> None:
        """Log *text* as *happening*, unless too much was said lately."""
        done = _LINES.take(self._done, self._clock())
        if done is None:
            self._suppressed += 1
            return
        self._done = done
        more = f" (and {self._suppressed} lines that were not logged)" if self._suppressed else ""
        self._suppressed = 0
        log.log(level, "%s: %s%s", self._name, text[:_MAX_TEXT], more, extra=noted(happening, **(self.about | fields)))
        self._record(text)

    def again(self) -> None:
        """Something changed for the better: what was said before is news if it has to be said again."""
        self._said = ()
