# SPDX-License-Identifier: Apache-2.0
"""How many lines of one stream were dropped since it was last asked, by reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.ledger.known import Counted

if TYPE_CHECKING:
    from pv_channel.session import Host


_NOTHING: Final = Counted()


class Tally:
    """Of the stream whose host's end is *end*."""

    __slots__ = ("_end", "last")

    def __init__(self, end: Host) -> None:
        self._end = end
        #: What was counted when it was last asked for.
        self.last = _NOTHING

    def growth(self) -> Counted | None:
        """What was dropped since the last time; None where nothing was."""
        counters, last = self._end.counters, self.last
        dropped = counters.garbage + self._end.overlong
        if (dropped, counters.echoes, counters.stale) == last:
            return None
        self.last = Counted(dropped, counters.echoes, counters.stale)
        return Counted(dropped - last.dropped, counters.echoes - last.echoed, counters.stale - last.stale)
