# SPDX-License-Identifier: Apache-2.0
"""When each VM was last heard, and last answered whether it is there: on record now and then, and not with every byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.ledger.transactions import Transactions

#: It goes to the disk this often.
HEARD_EVERY_SECONDS: Final = 5.0


class Heard:
    """Of all VMs of one ledger."""

    def __init__(self, db: Transactions, wall: Callable[[], float]) -> None:
        self._db, self._wall = db, wall
        self._heard: set[str] = set()
        self._beaten: set[str] = set()
        self._written = 0.0

    def something(self, key: str) -> None:
        """The VM's guest said something authentic now."""
        self._heard.add(key)

    def heartbeat(self, key: str) -> None:
        """The guest answered now whether it is there."""
        self._beaten.add(key)

    def write_if_due(self) -> None:
        """Write what was heard since the last time, unless that was a moment ago."""
        if self._wall() - self._written >= HEARD_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what was heard since the last time."""
        if not self._heard and not self._beaten:
            return
        now = self._written = self._wall()
        self._db.do_all("UPDATE vm SET last_heard=? WHERE key=?", [(now, key) for key in self._heard])
        self._db.do_all("UPDATE vm SET last_heartbeat=? WHERE key=?", [(now, key) for key in self._beaten])
        self._heard.clear()
        self._beaten.clear()
