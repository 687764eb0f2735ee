# SPDX-License-Identifier: Apache-2.0
"""Watch a fleet: a table that a terminal draws anew, or a line for each change; it costs little however many VMs there are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TextIO

from host_agent.ledger.standing import State
from host_agent.views.fleet import HEADER, LESS, Fleet
from host_agent.views.follow import LOOK_EVERY_SECONDS, Follow
from host_agent.views.table import drawn
from host_agent.views.waiting import End, Ending

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from host_agent.views.verdict import Stands
    from host_agent.views.waiting import Wait

#: Where nothing changed, only how long things take is drawn anew.
_REDRAW_SECONDS: Final = 1.0
#: Looking and drawing may take this part of a processor.
_SHARE: Final = 0.1
#: What stands below and above the rows, and the line that the cursor is left in.
_AROUND: Final = 4


class Watch:
    """Watching the VMs of *waiting*: till the time is over, or *until_ready*, as `waiting` ends."""

    def __init__(self, directory: Path, waiting: Wait, *, until_ready: bool) -> None:
        self._directory, self._waiting, self._until_ready = directory, waiting, until_ready
        self._fleet = Fleet()
        self._over = float("inf")

    def run(self, out: TextIO, timeout: float | None) -> Ending:
        """Show them on *out* until it ends; raise `LedgerTrouble` where the ledger cannot be read."""
        if timeout is not None:
            self._over = time.monotonic() + timeout
        with Follow(self._directory) as follow:
            return self._draw(follow, out) if out.isatty() else self._print(follow, out)

    def _print(self, follow: Follow, out: TextIO) -> Ending:
        while True:
            began = time.monotonic()
            out.writelines(f"{time.strftime('%H:%M:%S')} {self._fleet.line(vm)}\n" for vm in self._look(follow) or [])
            out.flush()
            ending = self._ending()
            if ending is not None:
                return ending
            self._rest(began)

    def _draw(self, follow: Follow, out: TextIO) -> Ending:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=out, highlight=False)
        drawn_at = float("-inf")
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                began = time.monotonic()
                changed = self._look(follow)
                ending = self._ending()
                if changed is not None or ending is not None or began - drawn_at >= _REDRAW_SECONDS:
                    live.update(self._picture(follow, console.width, console.height), refresh=True)
                    drawn_at = began
                if ending is not None:
                    return ending
                self._rest(began)

    def _look(self, follow: Follow) -> list[Stands] | None:
        """Those that changed; None where nothing was written."""
        view = follow.news()
        if view is None:
            return None
        found = view.standings(self._waiting.names)
        self._waiting.look(found)
        return self._fleet.look([vm for vm in found if self._waiting.names is not None or vm.state != State.REMOVED])

    def _ending(self) -> Ending | None:
        is_over = time.monotonic() >= self._over
        if self._until_ready:
            return self._waiting.ending(time_is_over=is_over)
        return Ending(End.TIMEOUT, self._waiting.vms) if is_over else None

    def _picture(self, follow: Follow, width: int, height: int) -> RenderableType:
        """As many rows as there is room for, and the totals below."""
        from rich.console import Group
        from rich.text import Text

        room = max(height - _AROUND, 1)
        vms = self._fleet.first(room)
        steps = {} if follow.view is None else follow.view.latest_run(vm.key for vm in vms)
        now = time.time()
        rows = [self._fleet.row(vm, steps.get(vm.key, []), now) for vm in vms]
        more = len(self._fleet.vms) - len(vms)
        totals = self._fleet.totals(time.monotonic()) + (f"; {more:,} are not shown" if more else "")
        table = drawn(HEADER, rows, width, LESS, folds=False)
        return Group(table, Text(totals, style="bold", no_wrap=True, overflow="ellipsis"))

    def _rest(self, began: float) -> None:
        spent = time.monotonic() - began
        left = max(self._over - time.monotonic(), 0.0)
        time.sleep(min(max(LOOK_EVERY_SECONDS, spent / _SHARE), left))
