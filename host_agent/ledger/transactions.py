# SPDX-License-Identifier: Apache-2.0
"""The ledger's file as its writer has it: all that is written between two commits is on record with the second, or none of it."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from host_agent.durations import Durations
from host_agent.errors import LedgerDamaged, shown
from host_agent.ledger.file import open_file
from host_agent.ledger.schema import MAX_TEXT, VERSION, trouble
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_BEGIN: Final = "BEGIN IMMEDIATE"


class Transactions:
    """Over *db*, which is the file at *path*. Every method may raise `LedgerTrouble`."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        #: Whether the next commit is on the disk when it is done.
        self.durable = False
        #: How long each commit took.
        self.commits = Durations()

    def do(self, statement: str, values: tuple[Any, ...]) -> None:
        """Write, with a row of values."""
        try:
            if not self._db.in_transaction:
                self._db.execute(_BEGIN)
            self._db.execute(statement, values)
        except sqlite3.Error as exc:
            raise trouble(self.path, exc) from exc

    def do_all(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write, once with each of the rows."""
        try:
            if not self._db.in_transaction:
                self._db.execute(_BEGIN)
            self._db.executemany(statement, rows)
        except sqlite3.Error as exc:
            raise trouble(self.path, exc) from exc

    def read(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """What was asked for, with what is not committed yet."""
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as exc:
            raise trouble(self.path, exc) from exc

    def begin(self) -> None:
        """From now on nobody else writes, until the next commit."""
        if not self.in_transaction:
            self.read(_BEGIN)

    def commit(self) -> None:
        """Put what was written on record."""
        if self.in_transaction:
            began = perf_counter()
            self.read("COMMIT")
            self.commits.add(perf_counter() - began)
            if self.durable:
                self.read("PRAGMA synchronous=NORMAL")
                self.durable = False

    def next_is_durable(self) -> None:
        """What is written from now on is on the disk once it is committed. Nothing may wait to be committed."""
        self.read("PRAGMA synchronous=FULL")  # between transactions only, so before the next one begins
        self.durable = True

    def abandon(self) -> None:
        """Forget what was written since the last commit."""
        if self.in_transaction:
            with suppress(sqlite3.Error):  # of a file that is damaged: nothing of it was recorded either way
                self._db.rollback()

    def prove(self) -> None:
        """Write something that changes nothing, to see whether the file takes it."""
        self.begin()
        self.read(f"PRAGMA user_version = {VERSION}")

    def check(self) -> None:
        """Look at the whole file; raise `LedgerDamaged` where it is not sound."""
        found = str(self.read("PRAGMA integrity_check(1)").fetchone()[0])
        if found != "ok":
            raise LedgerDamaged(f"{shown(self.path)}: the ledger is damaged ({printable(found, MAX_TEXT)})")

    @property
    def in_transaction(self) -> bool:
        """Whether something was written that is not committed yet."""
        try:
            return self._db.in_transaction
        except sqlite3.ProgrammingError:  # closed, until it can be opened again; who writes to it hears of that
            return False

    @property
    def changes(self) -> int:
        """Grows with all that is written; another number where another file is written to."""
        try:
            return self._db.total_changes
        except sqlite3.ProgrammingError:  # closed, until it can be opened again
            return -1

    def close(self) -> None:
        """Move it all into the file itself as far as readers allow, and let go."""
        self.read("PRAGMA wal_checkpoint(PASSIVE)")
        self._db.close()

    def let_go(self) -> None:
        """Of a file that is damaged. Until `reopen` nothing can be read or written."""
        with suppress(sqlite3.Error):
            self._db.close()

    def reopen(self) -> None:
        """Have the file that stands in the same place now, or a new one."""
        self._db, self.durable = open_file(self.path), False
