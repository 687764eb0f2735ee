# SPDX-License-Identifier: Apache-2.0
"""The ledger's file: made with its tables or not at all, and opened as a database that commits by itself."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from host_agent.errors import LedgerDamaged, LedgerTrouble, shown
from host_agent.files import PRIVATE_FILE
from host_agent.ledger.schema import BUSY_SECONDS, prepare, trouble

#: SQLite's word for a database without a file.
NOWHERE: Final = Path(":memory:")


def open_file(path: Path) -> sqlite3.Connection:
    """The ledger at *path*, made where it is missing and of this version; raise `LedgerDamaged`, or `LedgerTrouble`."""
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_size == 0:  # none of ours ever was, and SQLite would take it for a new one
            raise LedgerDamaged(f"{shown(path)}: the ledger is damaged (it is empty)")
        return _connected(path)
    except sqlite3.Error as exc:
        raise trouble(path, exc) from exc
    except OSError as exc:
        raise LedgerTrouble(f"{shown(path)}: {exc.strerror}; is the disk full, or the directory another's?") from None


def in_memory() -> sqlite3.Connection:
    """A ledger that is forgotten when it is closed."""
    return _connected(NOWHERE)


def _make(path: Path) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fresh.touch(PRIVATE_FILE, exist_ok=False)
    try:
        _connected(fresh).close()
        with suppress(FileExistsError):  # somebody else was faster
            os.link(fresh, path)
    finally:
        fresh.unlink()


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=64)
    try:
        prepare(db, path)
    except (sqlite3.Error, LedgerTrouble):
        db.close()
        raise
    return db
