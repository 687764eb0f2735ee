# SPDX-License-Identifier: Apache-2.0
"""What a ledger writes with its next commit: events, the audit trail, the steps of runs, and counts, a VM's row once for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.ledger.schema import AUDITS_KEPT, EVENTS_KEPT, MAX_TEXT, MOMENTS_KEPT, RUNS_KEPT
from host_agent.ledger.standing import Moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.ledger.transactions import Transactions

_EVENT: Final = f"INSERT OR REPLACE INTO event SELECT key, (events + ?) % {EVENTS_KEPT}, ?, ? FROM vm WHERE key=?"  # noqa: S608 -- ours
_AUDIT: Final = f"INSERT OR REPLACE INTO audit SELECT key, (audits + ?) % {AUDITS_KEPT}, ?, ?, ? FROM vm WHERE key=?"  # noqa: S608 -- ours
#: Another process may have begun the same run.
_MOMENT: Final = "INSERT OR IGNORE INTO moment VALUES (?, ?, ?, ?, ?, ?)"
_OLD_RUNS: Final = f"DELETE FROM moment WHERE key=? AND run <= ? - {RUNS_KEPT}"  # noqa: S608 -- ours
_ROW: Final = (
    "UPDATE vm SET events=events+?, audits=audits+?, sessions=sessions+?, dropped=dropped+?, echoed=echoed+?, stale=stale+?,"
    " run=max(run, ?) WHERE key=?"
)
#: With these a guest has said what it is now; what begins after them is another run.
_ENDS: Final = (Moment.ANSWERED, Moment.IN_FORCE)
_BEGINNINGS: Final = (Moment.SEEN, Moment.CONNECTED, Moment.GREETING, Moment.SENT)
#: So many steps leave room for all the items of one more document.
_FULL: Final = MOMENTS_KEPT // 2


class _Row:
    """What is added to the row of one VM."""

    __slots__ = ("audits", "counts", "events", "run", "sessions")

    def __init__(self) -> None:
        self.events = self.audits = self.sessions = self.run = 0
        self.counts = (0, 0, 0)


class _Run:
    """The latest run of one VM: its number, how many steps it has so far, and whether another begins with the next."""

    __slots__ = ("is_over", "number", "steps")

    def __init__(self, number: int) -> None:
        self.number, self.steps, self.is_over = number, 0, False


class Gathered:
    """Of all VMs of one ledger."""

    def __init__(self, db: Transactions, wall: Callable[[], float]) -> None:
        self._db, self._wall = db, wall
        self._rows: dict[str, _Row] = {}
        self._events: list[tuple[int, float, str, str]] = []
        self._audits: list[tuple[int, float, str, str, str]] = []
        self._moments: list[tuple[str, int, int, float, str, str]] = []
        self._begun: list[tuple[str, int]] = []
        self._runs: dict[str, _Run] = {}
        self._over: list[str] = []

    def event(self, key: str, text: str) -> None:
        """The VM has another event."""
        row = self._row(key)
        self._events.append((row.events, self._wall(), text[:MAX_TEXT], key))
        row.events += 1

    def audit(self, key: str, who: str, what: str) -> None:
        """The VM has another entry of its audit trail."""
        row = self._row(key)
        self._audits.append((row.audits, self._wall(), who[:MAX_TEXT], what[:MAX_TEXT], key))
        row.audits += 1

    def session(self, key: str) -> None:
        """The VM's guest has shaken hands."""
        self._row(key).sessions += 1

    def counted(self, key: str, counts: tuple[int, int, int]) -> None:
        """So many more of the VM's lines were dropped, echoed and stale."""
        row = self._row(key)
        row.counts = (row.counts[0] + counts[0], row.counts[1] + counts[1], row.counts[2] + counts[2])

    def moment(self, key: str, what: str, detail: str) -> None:
        """A step of the VM's run, or the first one of its next.

        A greeting or a document that follows upon what has come to its end begins another run.
        """
        run = self._runs.get(key)
        if run is None and what not in _BEGINNINGS:
            run = self._ended(key)
        if run is None or (what in _BEGINNINGS and (run.is_over or run.steps >= _FULL or what == Moment.SEEN)):
            run = self._begin(key)
            if run is None:
                return
        if run.steps < MOMENTS_KEPT:
            self._moments.append((key, run.number, run.steps, self._wall(), what, detail[:MAX_TEXT]))
            run.steps += 1
        if what in _ENDS:
            run.is_over = True
            self._over.append(key)

    def audit_once(self, key: str, who: str, what: str) -> None:
        """The same, unless the VM's entries have it already, or are to have it."""
        entry = (who[:MAX_TEXT], what[:MAX_TEXT], key)
        known = self._db.read("SELECT 1 FROM audit WHERE who=? AND what=? AND key=?", entry).fetchone()
        if known is None and not any(waiting[2:] == entry for waiting in self._audits):
            self.audit(key, who, what)

    def write(self) -> None:
        """Write all of it."""
        for statement, rows in (
            (_EVENT, self._events), (_AUDIT, self._audits), (_MOMENT, self._moments), (_OLD_RUNS, self._begun),
            (_ROW, [(r.events, r.audits, r.sessions, *r.counts, r.run, key) for key, r in self._rows.items()]),
        ):  # fmt: skip
            if rows:
                self._db.do_all(statement, rows)
        self._forget()
        for key in self._over:  # which the file has now: of ten thousand VMs nearly all runs are over
            run = self._runs.get(key)
            if run is not None and run.is_over:
                del self._runs[key]
        self._over.clear()

    def abandon(self) -> None:
        """Forget what was not written; what runs were begun is then to be read again."""
        self._forget()
        self._runs.clear()
        self._over.clear()

    def _latest_run(self, key: str) -> int | None:
        """The number of the VM's latest run, inside the transaction that begins the next; None where there is no such VM."""
        self._db.begin()
        row = self._db.read("SELECT run FROM vm WHERE key=?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def _begin(self, key: str) -> _Run | None:
        """The VM's next run; None where the ledger does not have the VM."""
        known = self._runs.get(key)
        latest = self._latest_run(key)
        if latest is None:
            return None
        run = self._runs[key] = _Run(1 + max(latest, known.number if known else 0))
        self._row(key).run = run.number
        if run.number > RUNS_KEPT:
            self._begun.append((key, run.number))
        return run

    def _ended(self, key: str) -> _Run | None:
        """The VM's latest run, which is over, as the file has it; None where it has none."""
        number = self._latest_run(key)
        if not number:
            return None
        run = self._runs[key] = _Run(number)
        run.steps = int(self._db.read("SELECT count(*) FROM moment WHERE key=? AND run=?", (key, number)).fetchone()[0])
        run.is_over = True
        self._over.append(key)
        return run

    def _row(self, key: str) -> _Row:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Row()
        return row

    def _forget(self) -> None:
        self._rows.clear()
        for rows in (self._events, self._audits, self._moments, self._begun):
            rows.clear()
