# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables, and how an SQLite file becomes one that this version can use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.errors import LedgerDamaged, LedgerTrouble, shown

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

FILE_NAME: Final = "ledger.sqlite"
#: Kept in the file's user_version; a higher one was written by a newer agent.
VERSION: Final = 5
#: A VM's latest events; each VM has as many places of its own.
EVENTS_KEPT: Final = 64
#: A VM's latest entries of the audit trail.
AUDITS_KEPT: Final = 256
#: A VM's latest runs, and the steps of one: every item of a document begins once, and what a guest repeats is cut.
RUNS_KEPT: Final = 8
MOMENTS_KEPT: Final = 96
#: A detail or an event: a sentence with two fingerprints in it.
MAX_TEXT: Final = 500
#: Another process writes for milliseconds at a time.
BUSY_SECONDS: Final = 5.0

_FIRST: Final = """
CREATE TABLE IF NOT EXISTS vm (
    key TEXT PRIMARY KEY,                       -- the VM's uuid, or its name where no uuid is known
    name TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'unreachable',
    detail TEXT NOT NULL DEFAULT '',            -- why it stands there
    since REAL NOT NULL DEFAULT 0,
    first_met REAL NOT NULL DEFAULT 0,
    last_heard REAL NOT NULL DEFAULT 0,
    guest_key BLOB,                             -- pinned at first contact
    rival_key BLOB,                             -- not null: nothing is sent until an operator says forget-key
    agent TEXT NOT NULL DEFAULT '',
    instance_id TEXT NOT NULL DEFAULT '',
    generation_wanted INTEGER,                  -- null where the host counts
    digest_wanted TEXT NOT NULL DEFAULT '',
    document_error TEXT NOT NULL DEFAULT '',
    generation_sent INTEGER NOT NULL DEFAULT 0,
    digest_sent TEXT NOT NULL DEFAULT '',
    generation_applied INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    path TEXT NOT NULL DEFAULT '',
    result_detail TEXT NOT NULL DEFAULT '',
    host_keys TEXT NOT NULL DEFAULT '[]',       -- the guest's ssh host public keys, as JSON
    milliseconds INTEGER NOT NULL DEFAULT 0,
    events INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS vm_by_guest_key ON vm (guest_key) WHERE guest_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS item (
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    item TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    log TEXT NOT NULL,
    PRIMARY KEY (key, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    key TEXT NOT NULL,
    slot INTEGER NOT NULL,                      -- a ring: the number of the event modulo what is kept
    at REAL NOT NULL,
    what TEXT NOT NULL,
    PRIMARY KEY (key, slot)
) WITHOUT ROWID;
"""
_KNOWN_HOSTS: Final = """
ALTER TABLE vm ADD COLUMN names TEXT NOT NULL DEFAULT '[]';         -- what an ssh client may call it, as JSON
ALTER TABLE vm ADD COLUMN certified INTEGER NOT NULL DEFAULT 0;     -- its document has certificates for its host keys
"""
_REPORTS: Final = """
ALTER TABLE vm ADD COLUMN generation_items INTEGER NOT NULL DEFAULT 0;  -- the generation that its items are about
UPDATE vm SET generation_items=generation_sent WHERE outcome!='';
"""
_LIVES: Final = """
ALTER TABLE vm ADD COLUMN domid INTEGER;                            -- null: no domain is known to run
ALTER TABLE vm ADD COLUMN channel TEXT NOT NULL DEFAULT '';         -- the socket or terminal in dom0, last seen
ALTER TABLE vm ADD COLUMN facts TEXT NOT NULL DEFAULT '{}';         -- what the guest says of its machine, as JSON
ALTER TABLE vm ADD COLUMN last_heartbeat REAL NOT NULL DEFAULT 0;   -- the last answer to a question whether it is there
ALTER TABLE vm ADD COLUMN sessions INTEGER NOT NULL DEFAULT 0;      -- handshakes
ALTER TABLE vm ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;       -- lines that were none of the protocol's, or too long
ALTER TABLE vm ADD COLUMN echoed INTEGER NOT NULL DEFAULT 0;        -- our own lines, come back
ALTER TABLE vm ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;         -- lines of earlier sessions
ALTER TABLE vm ADD COLUMN reprovision INTEGER NOT NULL DEFAULT 0;   -- an operator wants it all applied again
ALTER TABLE vm ADD COLUMN run INTEGER NOT NULL DEFAULT 0;           -- the number of its latest run in moment
CREATE TABLE moment (                       -- the steps of the VM's latest runs, from a channel that was seen on
    key TEXT NOT NULL,
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    what TEXT NOT NULL,                     -- a word: Moment
    detail TEXT NOT NULL,
    PRIMARY KEY (key, run, number)
) WITHOUT ROWID;
CREATE TABLE audit (                        -- who had what done to the VM, which its guest cannot add to
    key TEXT NOT NULL,
    slot INTEGER NOT NULL,                  -- a ring, as in event
    at REAL NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    PRIMARY KEY (key, slot)
) WITHOUT ROWID;
ALTER TABLE vm ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;          -- it was known to a ledger that is damaged, and not met since
ALTER TABLE vm ADD COLUMN audits INTEGER NOT NULL DEFAULT 0;
CREATE INDEX vm_to_reprovision ON vm (key) WHERE reprovision;
"""
_PENDING: Final = """
ALTER TABLE vm ADD COLUMN wanted_at REAL NOT NULL DEFAULT 0;        -- since when it is to become what is wanted now
UPDATE vm SET wanted_at=since;
CREATE INDEX item_not_well ON item (key, outcome) WHERE outcome IN ('pending', 'failed', 'refused');
"""
#: SQLite's codes (https://sqlite.org/rescode.html): SQLITE_CORRUPT and SQLITE_NOTADB, in the bits of the primary code.
_DAMAGE: Final = (11, 26)
_PRIMARY: Final = 0xFF
#: What makes a file of version N one of version N + 1, from nothing at all on.
_STEPS: Final = (_FIRST, _KNOWN_HOSTS, _REPORTS, _LIVES, _PENDING)


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the file behind *db*, which commits by itself, a ledger of this version; raise `LedgerTrouble` for a newer agent's."""
    found = check_version(db, path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    while found < VERSION:
        db.execute("BEGIN IMMEDIATE")
        found = check_version(db, path)  # another process may have been faster
        statements = _STEPS[found].split(";")[:-1] if found < VERSION else []
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {min(found + 1, VERSION)}")
        db.execute("COMMIT")
        found += 1


def check_version(db: sqlite3.Connection, path: Path) -> int:
    """The version of the ledger; raise `LedgerTrouble` for one that a newer agent wrote."""
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise LedgerTrouble(f"{shown(path)}: a newer pv-host-agent wrote it (schema {found}, not {VERSION})")
    return found


def trouble(path: Path, exc: sqlite3.Error) -> LedgerTrouble:
    """What to tell the operator of *exc*."""
    if getattr(exc, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGE:
        return LedgerDamaged(f"{shown(path)}: the ledger is damaged ({exc})")
    return LedgerTrouble(f"{shown(path)}: {exc}; is the disk full, or the file damaged or another's?")
