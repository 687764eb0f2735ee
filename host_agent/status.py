# SPDX-License-Identifier: Apache-2.0
"""What the ledger says, for people and for programs, while the agent goes on writing it."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from host_agent.answer import item_value
from host_agent.errors import HostError, LedgerTrouble, shown
from host_agent.ledger import Ledger
from host_agent.ledger_schema import BUSY_SECONDS, FILE_NAME, VERSION, check_version, trouble
from host_agent.standing import State
from pv_channel.text import printable
from pv_channel.trust import fingerprint

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

HEADER: Final = ("vm", "state", "wanted", "applied", "outcome", "why", "guest key", "heard")
_COLUMNS: Final = (
    "key, name, state, detail, since, first_met, last_heard, guest_key, rival_key, agent, instance_id, generation_wanted,"
    " digest_wanted, document_error, generation_sent, digest_sent, generation_applied, outcome, reason, path, result_detail,"
    " host_keys, milliseconds, names, certified"
)
_WORD, _LINE, _KEY_LINE = 200, 500, 2048


class View:
    """A reader of the ledger in *directory*. Everything it returns is safe to print. Methods may raise `LedgerTrouble`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        if not self._path.is_file():
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

    def all(self) -> list[dict[str, Any]]:
        """Every VM, by name."""
        return [_values(row) for row in self._rows(f"SELECT {_COLUMNS} FROM vm ORDER BY name, key")]  # noqa: S608 -- our own names

    def one(self, vm: str) -> dict[str, Any] | None:
        """The VM with that name or uuid, with its items and events, or None. Raise `LedgerTrouble` where two had the name."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM vm WHERE key IN (?, lower(?)) OR name=?", (vm, vm, vm))  # noqa: S608 -- our own names
        exact = [row for row in rows if row["key"] in (vm, vm.lower())] or rows
        if len(exact) > 1:
            exact = [row for row in exact if row["state"] != State.REMOVED] or exact
        if len(exact) > 1:
            keys = ", ".join(printable(row["key"], _WORD) for row in exact)
            raise LedgerTrouble(f"{printable(vm)}: several VMs had that name; say which: {keys}")
        if not exact:
            return None
        key = exact[0]["key"]
        items = self._rows("SELECT item, outcome, reason, detail, log FROM item WHERE key=? ORDER BY number", (key,))
        events = self._rows("SELECT at, what FROM event WHERE key=? ORDER BY at", (key,))
        return _values(exact[0]) | {
            "items": [item_value(i["item"], i["outcome"], i["reason"], i["detail"], i["log"].splitlines()) for i in items],
            "events": [{"at": _time(event["at"]), "what": printable(event["what"], _LINE)} for event in events],
        }

    def named(self, vm: str) -> dict[str, Any]:
        """As `one`; raise `HostError` where the ledger has no such VM."""
        found = self.one(vm)
        if found is None:
            raise HostError(f"{printable(vm)}: not in the ledger; 'pv-host-agent status' lists the VMs")
        return found

    def moments(self, key: str) -> list[tuple[int, float, str, str]]:
        """The steps of a VM's latest runs, in their order: run, time, word (of `Moment`), detail. *key* is as `one` says it."""
        rows = self._rows("SELECT run, at, what, detail FROM moment WHERE key=? ORDER BY run, number", (key,))
        return [(row["run"], row["at"], printable(row["what"], _WORD), printable(row["detail"], _LINE)) for row in rows]

    def open_items(self) -> dict[str, str]:
        """For each VM's key the first item that failed, and why; or where none has, the first that is under way."""
        rows = self._rows(
            "SELECT key, item, CASE outcome WHEN 'pending' THEN outcome ELSE reason END AS why FROM item"
            " WHERE outcome IN ('failed', 'refused', 'pending') ORDER BY key, outcome!='pending', number DESC"
        )
        return {printable(row["key"], _WORD): printable(f"{row['item']}: {row['why']}", 90) for row in rows}

    def _rows(self, statement: str, values: tuple[str, ...] = ()) -> list[sqlite3.Row]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as exc:
            raise trouble(self._path, exc) from exc


def row_of(vm: dict[str, Any], items: dict[str, str], now: float) -> tuple[str, ...]:
    """A VM as a row of the table whose header is `HEADER`; *items* as `View.open_items` has them."""
    bad = vm["outcome"] not in ("", "applied", "unchanged")
    why = vm["document-error"] or vm["detail"] or items.get(vm["key"]) or (bad and vm["reason"]) or ""
    heard = _ago(now - datetime.fromisoformat(vm["last-heard"]).timestamp()) if vm["last-heard"] else "never"
    wanted = str(vm["generation-wanted"] or "new")
    key = vm["guest-key"].removeprefix("SHA256:")[:17]
    return (vm["vm"], vm["state"], wanted, str(vm["generation-applied"] or "-"), vm["outcome"], printable(why, 90), key, heard)


def _values(row: sqlite3.Row) -> dict[str, Any]:
    counted = row["generation_sent"] if row["digest_sent"] == row["digest_wanted"] else None
    return {
        "vm": printable(row["name"], _WORD),
        "key": printable(row["key"], _WORD),
        "state": printable(row["state"], 40),
        "since": _time(row["since"]),
        "detail": printable(row["detail"], _LINE),
        "document-error": printable(row["document_error"], _LINE),
        "instance-id": printable(row["instance_id"], _WORD),
        "generation-wanted": row["generation_wanted"] if row["generation_wanted"] is not None else counted,
        "generation-applied": row["generation_applied"],
        "outcome": printable(row["outcome"], 40),
        "reason": printable(row["reason"], 40),
        "path": printable(row["path"], _LINE),
        "result-detail": printable(row["result_detail"], _LINE),
        "milliseconds": row["milliseconds"],
        "agent": printable(row["agent"], 40),
        "guest-key": fingerprint(row["guest_key"]) if row["guest_key"] else "",
        "rival-key": fingerprint(row["rival_key"]) if row["rival_key"] else "",
        "first-met": _time(row["first_met"]),
        "last-heard": _time(row["last_heard"]),
        "host-keys": [printable(key, _KEY_LINE) for key in json.loads(row["host_keys"])],
        "names": [printable(name, _LINE) for name in json.loads(row["names"])],
        "certified": bool(row["certified"]),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
