# SPDX-License-Identifier: Apache-2.0
"""What a host remembers of its fleet while etcd is away: the documents last seen, its lease, and which VMs were its own."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import BadFile, shown
from host_agent.files import PRIVATE_FILE, private_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger("pv-host-agent")

FILE_NAME: Final = "fleet.sqlite"
_VERSION: Final = 1
_BUSY_SECONDS: Final = 5.0
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TABLES: Final = """
CREATE TABLE text (name TEXT PRIMARY KEY, revision INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE held (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Text(NamedTuple):
    """What an operator wrote, at which revision."""

    revision: int
    value: bytes


class Remembered(NamedTuple):
    """What a cache has: all that operators wrote, and the number of this host's lease, 0 where there is none."""

    texts: dict[str, Text]
    lease: int


def look(state: Path, fleet: str) -> Remembered | None:
    """What the cache in *state* has, beside the service that writes it; None where it has nothing of this *fleet*."""
    path = state / FILE_NAME
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)) as db:
            facts = dict(db.execute("SELECT name, value FROM fact"))
            texts = _texts(db)
    except sqlite3.Error:
        return None
    return Remembered(texts, _lease(facts.get("lease", ""), facts.get("boot", ""))) if facts.get("fleet") == fleet else None


class Cache:
    """In the directory *state*, for the fleet that is called *fleet*: another's is forgotten, and so is a file that is damaged.

    What cannot be written is said once and kept in memory: etcd has it.
    """

    def __init__(self, state: Path, fleet: str) -> None:
        private_directory(state)
        self._path = state / FILE_NAME
        self._trouble = ""
        try:
            self._db = self._open()
        except sqlite3.DatabaseError:
            self._forget_file()
            self._db = self._open()
        if self._fact("fleet") != fleet:
            self.write([("DELETE FROM text", ()), ("DELETE FROM held", ()), ("DELETE FROM fact", ()), _put("fleet", fleet)])

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def texts(self) -> dict[str, Text]:
        """All that operators wrote, as it was last seen."""
        return _texts(self._db)

    def replace(self, texts: dict[str, Text]) -> None:
        """They are these from now on."""
        rows = ((name, *text) for name, text in texts.items())
        self.write([("DELETE FROM text", ()), *(("INSERT INTO text VALUES (?, ?, ?)", row) for row in rows)])

    def change(self, changes: dict[str, Text | None]) -> None:
        """Some were written, or are gone."""
        self.write(
            ("DELETE FROM text WHERE name=?", (name,)) if text is None
            else ("INSERT OR REPLACE INTO text VALUES (?, ?, ?)", (name, *text))
            for name, text in changes.items()
        )  # fmt: skip

    def held(self) -> list[str]:
        """The keys of the VMs that were this host's."""
        return [str(key) for (key,) in self._db.execute("SELECT key FROM held")]

    def hold(self, key: str) -> None:
        """The VM is this host's."""
        self.write([("INSERT OR IGNORE INTO held VALUES (?)", (key,))])

    def let_go(self, key: str) -> None:
        """It is not any more."""
        self.write([("DELETE FROM held WHERE key=?", (key,))])

    def lease(self) -> int:
        """The number of this host's lease, 0 where there is none: one from before a boot, or of a copy of this disk, is none."""
        return _lease(self._fact("lease"), self._fact("boot"))

    def leases(self, number: int) -> None:
        """This host's lease has that number."""
        self.write([_put("lease", str(number)), _put("boot", _boot_id())])

    def write(self, statements: Iterable[tuple[str, tuple[object, ...]]]) -> None:
        """All of them, or none."""
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    self._db.execute(statement, values)
        except sqlite3.Error as exc:
            if str(exc) != self._trouble:
                log.error("%s: %s; is the disk full? Without etcd a restart would know less", shown(self._path), exc)
            self._trouble = str(exc)

    def _fact(self, name: str) -> str:
        row = self._db.execute("SELECT value FROM fact WHERE name=?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.touch(PRIVATE_FILE)
            db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        except (OSError, sqlite3.OperationalError) as exc:
            raise BadFile(f"{shown(self._path)}: {exc}") from None
        found = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        if found != _VERSION:
            if found:
                db.close()
                raise sqlite3.DatabaseError("of another version")
            db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={_VERSION};COMMIT;")
        db.execute("SELECT (SELECT count(*) FROM text), (SELECT count(*) FROM held), (SELECT count(*) FROM fact)").fetchone()
        return db

    def _forget_file(self) -> None:
        log.warning("%s: damaged, or of another version; what it has is read from etcd again", shown(self._path))
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _texts(db: sqlite3.Connection) -> dict[str, Text]:
    return {name: Text(revision, value) for name, revision, value in db.execute("SELECT * FROM text")}


def _lease(number: str, boot: str) -> int:
    return int(number) if number.isdecimal() and boot == _boot_id() else 0


def _put(name: str, value: str) -> tuple[str, tuple[object, ...]]:
    return "INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value)


def _boot_id() -> str:
    return _BOOT_ID.read_text("ascii").strip()
