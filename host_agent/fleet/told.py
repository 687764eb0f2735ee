# SPDX-License-Identifier: Apache-2.0
"""What of this host's ledger is news to the fleet: how VMs are, and what their next owners have to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from host_agent.fleet.claims import News
from host_agent.fleet.report import of_values
from host_agent.ledger import entry as ledger_entry
from host_agent.ledger import entry_rows
from host_agent.views.status import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


class Mark(NamedTuple):
    """By what it is known later that there is no news: of the report, and of the entry."""

    report: int = 0
    entry: int = 0


class Looked(NamedTuple):
    """What there is to tell of a VM, and the mark that it leaves once it was told."""

    key: str
    news: News
    mark: Mark


class Told:
    """What etcd has of the VMs of the host *dom0*, whose ledger is in *state*."""

    def __init__(self, state: Path, dom0: str, wall: Callable[[], float]) -> None:
        self._state, self._dom0, self._wall = state, dom0, wall
        self._marks: dict[str, Mark] = {}

    def look(self, keys: Iterable[str]) -> list[Looked]:
        """What there is to tell of *keys*; raise `LedgerTrouble`, or `BadEntry`."""
        with View(self._state) as view:
            return [found for found in (self._look(view, key) for key in keys) if found is not None]

    def was_told(self, looked: Looked) -> None:
        """etcd has it."""
        self._marks[looked.key] = looked.mark

    def forget(self, key: str) -> None:
        """Whether etcd has it is not known any more."""
        self._marks.pop(key, None)

    def _look(self, view: View, key: str) -> Looked | None:
        values = view.one(key)
        if values is None:
            return None
        report = of_values(values, self._dom0, self._wall())
        found = entry_rows.read(view.each, key, self._dom0)
        told, mark = self._marks.get(key, Mark()), Mark(_mark(msgspec.structs.replace(report, time=0.0)), _mark(found))
        if mark == told:
            return None
        entry = b"" if found is None else ledger_entry.encode(found)
        return Looked(key, News(report.encode(), None if mark.entry == told.entry else entry), mark)


def _mark(value: msgspec.Struct | None) -> int:
    """Another number for another value, but for when a guest was last heard: that alone is not worth a write."""
    if isinstance(value, ledger_entry.Entry):
        value = msgspec.structs.replace(value, last_heard=0.0)
    return hash(msgspec.json.encode(value)) or 1
