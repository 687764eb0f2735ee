# SPDX-License-Identifier: Apache-2.0
"""What the ledger says, for people and for programs, while the agent goes on writing it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from host_agent.errors import HostError, LedgerTrouble, shown
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.schema import BUSY_SECONDS, FILE_NAME, VERSION, check_version, trouble
from host_agent.ledger.standing import State
from host_agent.talk.answer import item_value
from host_agent.views.vm_values import MORE_COLUMNS, STANDS_COLUMNS, audit_values, event_values, stands, vm_values
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from host_agent.views.verdict import Stands

_WORD, _LINE = 200, 500
_ALL = f"SELECT {STANDS_COLUMNS}, {MORE_COLUMNS} FROM vm"  # noqa: S608 -- our own names
_STANDINGS = f"SELECT {STANDS_COLUMNS} FROM vm"  # noqa: S608 -- our own names


class View:
    """A reader of the ledger in *directory*. Everything it returns is safe to print, but for `Stands` and what says otherwise.

    Methods may raise `LedgerTrouble`.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        if not is_there(self._path):
            raise LedgerTrouble(f"{shown(self._path)}: no ledger; nothing was pushed or served from here yet (--state?)")
        try:
            self._db = self._open()
            if check_version(self._db, self._path) < VERSION:
                self._db.close()
                Ledger.open(directory).close()  # which brings it up to date
                self._db = self._open()
        except sqlite3.Error as exc:
            raise trouble(self._path, exc) from exc

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
        db.row_factory = sqlite3.Row
        return db

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def version_of_data(self) -> int:
        """A number that is another one when somebody has written since."""
        return int(self._rows("PRAGMA data_version")[0][0])

    def all(self) -> list[dict[str, Any]]:
        """Every VM, by name, as `vm_values`."""
        return [vm_values(row) for row in self._rows(f"{_ALL} ORDER BY name, key")]

    def one(self, vm: str) -> dict[str, Any] | None:
        """The VM with that name or uuid, with its items, events and audit trail, or None.

        Raise `LedgerTrouble` where two had the name.
        """
        rows = self._rows("SELECT key, name, state FROM vm WHERE key IN (?, lower(?)) OR name=?", (vm, vm, vm))
        key = chosen(vm, [(row["key"], row["name"], row["state"]) for row in rows])
        if key is None:
            return None
        items = self._rows("SELECT item, outcome, reason, detail, log FROM item WHERE key=? ORDER BY number", (key,))
        events = self._rows("SELECT at, what FROM event WHERE key=? ORDER BY at, slot", (key,))
        audit = self._rows("SELECT at, who, what FROM audit WHERE key=? ORDER BY at, slot", (key,))
        return vm_values(self._rows(f"{_ALL} WHERE key=?", (key,))[0]) | {
            "items": [item_value(i["item"], i["outcome"], i["reason"], i["detail"], i["log"].splitlines()) for i in items],
            "events": [event_values(event) for event in events],
            "audit": [audit_values(entry) for entry in audit],
        }

    def named(self, vm: str) -> dict[str, Any]:
        """As `one`; raise `HostError` where the ledger has no such VM."""
        found = self.one(vm)
        if found is None:
            raise HostError(f"{printable(vm)}: not in the ledger; 'pv-host-agent status' lists the VMs")
        return found

    def standings(self, vms: Sequence[str] | None = None) -> list[Stands]:
        """Where each VM stands, by name; of *vms* alone, where these are given, in which a name may mean several."""
        if vms is None:
            return [stands(row) for row in self._rows(f"{_STANDINGS} ORDER BY name, key")]
        names, keys = json.dumps(list(vms)), json.dumps([*vms, *(vm.lower() for vm in vms)])
        these = "name IN (SELECT value FROM json_each(?)) OR key IN (SELECT value FROM json_each(?))"
        return [stands(row) for row in self._rows(f"{_STANDINGS} WHERE {these} ORDER BY name, key", (names, keys))]

    def moments(self, key: str) -> list[tuple[int, float, str, str]]:
        """The steps of a VM's latest runs, in their order: run, time, word (of `Moment`), detail. *key* is as `one` says it."""
        rows = self._rows("SELECT run, at, what, detail FROM moment WHERE key=? ORDER BY run, number", (key,))
        return [(row["run"], row["at"], printable(row["what"], _WORD), printable(row["detail"], _LINE)) for row in rows]

    def latest_run(self, keys: Iterable[str]) -> dict[str, list[tuple[float, str, str]]]:
        """The steps of the latest run of each of the VMs with these *keys*, in their order: time, word (of `Moment`), detail."""
        found: dict[str, list[tuple[float, str, str]]] = {key: [] for key in keys}
        statement = (
            "SELECT moment.key, at, what, moment.detail FROM json_each(?) JOIN vm ON vm.key=json_each.value"
            " JOIN moment ON moment.key=vm.key AND moment.run=vm.run ORDER BY moment.key, number"
        )
        for row in self._rows(statement, (json.dumps(list(found)),)):
            found[row["key"]].append((row["at"], printable(row["what"], _WORD), printable(row["detail"], _LINE)))
        return found

    @contextmanager
    def as_it_is(self) -> Iterator[None]:
        """What is read inside is of one moment, whatever is written meanwhile."""
        self._rows("BEGIN")
        try:
            yield
        finally:
            self._rows("COMMIT")

    def each(self, statement: str, values: tuple[str | float, ...] = ()) -> Iterator[sqlite3.Row]:
        """The rows of a query, one after the other and as they are: not safe to print."""
        try:
            yield from self._db.execute(statement, values)
        except sqlite3.Error as exc:
            raise trouble(self._path, exc) from exc

    def _rows(self, statement: str, values: tuple[str | float, ...] = ()) -> list[sqlite3.Row]:
        return list(self.each(statement, values))


def is_there(path: Path) -> bool:
    """Whether the file is; raise `LedgerTrouble` where we may not even ask."""
    try:
        return path.is_file()
    except PermissionError:
        raise LedgerTrouble(f"{shown(path)}: no permission; the ledger is root's") from None


def chosen(vm: str, found: Sequence[tuple[str, str, str]]) -> str | None:
    """The key of the VM that is meant by *vm*, among (key, name, state) of all that have it for a key or a name, or None.

    Raise `LedgerTrouble` where several can be.
    """
    exact = [one for one in found if one[0] in (vm, vm.lower())] or [one for one in found if one[1] == vm]
    if len(exact) > 1:
        exact = [one for one in exact if one[2] != State.REMOVED] or exact
    if len(exact) > 1:
        keys = ", ".join(printable(key, _WORD) for key, _, _ in exact)
        raise LedgerTrouble(f"{printable(vm)}: several VMs had that name; say which: {keys}")
    return exact[0][0] if exact else None
