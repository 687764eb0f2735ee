# SPDX-License-Identifier: Apache-2.0
"""What happened to the VMs, in the order of time: their events, and who had what done to them; and what happens next.

What is next is found by each VM's own count of its entries: clocks may be set back, and two programs write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host_agent.ledger.schema import AUDITS_KEPT, EVENTS_KEPT
from host_agent.views.vm_values import iso_exact
from pv_channel.text import printable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from host_agent.views.status import View

_WORD, _LINE = 200, 500
_EVENTS: Final = "SELECT at, event.key AS key, name, 'event' AS kind, '' AS who, what, slot FROM event JOIN vm USING (key)"
_AUDITS: Final = "SELECT at, audit.key AS key, name, 'audit' AS kind, who, what, slot FROM audit JOIN vm USING (key)"
#: Of each kind: its entries, and how many a VM's latest are kept.
_KINDS: Final = {"event": (_EVENTS, EVENTS_KEPT), "audit": (_AUDITS, AUDITS_KEPT)}


class Entry(NamedTuple):
    """Something that happened to a VM; of kind ``audit`` it has *who* had it done. Safe to print."""

    at: float
    vm: str
    key: str
    kind: str
    who: str
    what: str

    def values(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict() | {"at": iso_exact(self.at)}


class Chronicle:
    """The entries of the VMs with these *keys*, or of all (None), with the *audit* trail or without."""

    def __init__(self, keys: Sequence[str] | None, *, audit: bool) -> None:
        self._keys = None if keys is None else set(keys)
        self._kinds = ["event", "audit"] if audit else ["event"]
        self._counts: dict[tuple[str, str], int] = {}

    def so_far(self, view: View, since: float) -> Iterator[Entry]:
        """What happened from *since* on. To the end of the iterator nothing that is written meanwhile is seen."""
        with view.as_it_is():
            self._counts = dict(self._count(view))
            statement = " UNION ALL ".join(f"{_KINDS[kind][0]} WHERE at >= ?" for kind in self._kinds)
            for row in view.each(f"SELECT * FROM ({statement}) ORDER BY at, key, slot", (since,) * len(self._kinds)):  # noqa: S608
                if self._keys is None or row["key"] in self._keys:
                    yield _entry(row)

    def more(self, view: View) -> list[Entry]:
        """What was written since the last call, or since `so_far`."""
        found: list[Entry] = []
        with view.as_it_is():
            for (kind, key), count in self._count(view):
                before = self._counts.get((kind, key), 0)
                if count != before:  # a lower one is a VM's, or a ledger's, that was begun anew
                    self._counts[kind, key] = count
                    found += _latest(view, kind, key, count - before if count > before else count, count)
        return sorted(found, key=lambda entry: entry.at)

    def _count(self, view: View) -> Iterator[tuple[tuple[str, str], int]]:
        for row in view.each("SELECT key, events, audits FROM vm"):
            if self._keys is None or row["key"] in self._keys:
                for kind in self._kinds:
                    yield (kind, row["key"]), row[f"{kind}s"]


def _latest(view: View, kind: str, key: str, number: int, count: int) -> list[Entry]:
    """The VM's latest *number* entries of that *kind*, or as many as are kept, in the order in which it has made *count*."""
    statement, kept = _KINDS[kind]
    slots = [n % kept for n in range(count - min(number, kept, count), count)]
    rows = {row["slot"]: row for row in view.each(f"{statement} WHERE key=?", (key,))}
    return [_entry(rows[slot]) for slot in slots if slot in rows]


def _entry(row: sqlite3.Row) -> Entry:
    name, key = printable(row["name"], _WORD), printable(row["key"], _WORD)
    return Entry(row["at"], name, key, row["kind"], printable(row["who"], _WORD), printable(row["what"], _LINE))
