# SPDX-License-Identifier: Apache-2.0
"""What became of each VM: an SQLite ledger that the agent writes while others read it.

Writes gather in one transaction until `commit`; whoever sends bytes because of a write commits first. A guest's key is
on the disk before anything is sent on its account; the rest may be lost in a power cut, and the guest's next hello mends it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from host_agent.entry_rows import EntryRows
from host_agent.errors import LedgerDamaged, shown
from host_agent.files import private_directory
from host_agent.gathered import Gathered
from host_agent.ledger_file import open_file
from host_agent.ledger_schema import AUDITS_KEPT, FILE_NAME, VERSION, trouble
from host_agent.standing import Moment, State
from pv_channel.messages import MAX_ITEMS, Outcome
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pv_channel.messages import Facts, ItemResult, Result

#: When a VM was last heard goes to the disk this often, not with every byte.
HEARD_EVERY_SECONDS: Final = 5.0
#: For so long after a ledger was begun anew VMs are taken for such as the one before knew: a host's documents are read by then.
ANEW_SECONDS: Final = 600.0
#: A detail or an event: a sentence with two fingerprints in it.
_MAX_TEXT: Final = 500
_HOST_KEYS: Final = "host-keys"
#: The entries of a VM's audit trail, behind those that it has under its other name.
_TRAIL: Final = (
    f"INSERT OR REPLACE INTO audit SELECT vm.key, (vm.audits + slot) % {AUDITS_KEPT}, at, who, what FROM audit, vm"  # noqa: S608
    " WHERE vm.key=? AND audit.key=?"
)
_BAD: Final = (Outcome.FAILED, Outcome.REFUSED)
_NEW_ITEM: Final = "INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)"
#: What goes with a VM that turns out to be known by another name.
_KEPT: Final = (
    "guest_key, rival_key, first_met, instance_id, generation_sent, digest_sent, generation_applied, outcome, host_keys, names,"
    " certified, generation_items, facts"
)
_KNOWN: Final = "guest_key, rival_key, instance_id, generation_sent, digest_sent, generation_items, reprovision, lost"
#: Where a VM stands whose items are on record: a part of what is in force may have failed later.
_STANDS: Final = (
    "UPDATE vm SET state=CASE WHEN outcome IN ('applied', 'unchanged') AND EXISTS"
    " (SELECT 1 FROM item WHERE item.key=vm.key AND item.outcome IN ('failed', 'refused')) THEN ? ELSE ? END WHERE key=?"
)


class Known(NamedTuple):
    """What the ledger knew of a VM when it was met."""

    guest_key: bytes | None = None
    rival_key: bytes | None = None
    instance_id: str = ""
    generation_sent: int = 0
    digest_sent: str = ""
    #: The generation whose items are on record: what a guest answered for it, or 0.
    generation_items: int = 0
    #: An operator wants it all applied again.
    reprovision: bool = False
    #: A ledger that is damaged knew it.
    lost: bool = False


class Counted(NamedTuple):
    """Lines that were dropped since it was last counted, by reason."""

    dropped: int = 0
    echoed: int = 0
    stale: int = 0


class Called(NamedTuple):
    """What an ssh client may call a VM; *certified* is whether its host keys come with certificates."""

    names: list[str]
    certified: bool

    def values(self) -> tuple[str, bool]:
        """As they stand in the ledger."""
        return json.dumps(self.names), self.certified


class Meeting(NamedTuple):
    """The VM as the ledger knows it, and which other VM (by its key in the ledger) has the same guest key, if one has."""

    known: Known
    shared_with: str | None


class Ledger:
    """The ledger in one directory. Every method may raise `LedgerTrouble`, and then nothing since the last commit is recorded."""

    def __init__(self, path: Path, db: sqlite3.Connection, wall: Callable[[], float] = time.time) -> None:
        self.path = path
        self._anew_until = 0.0
        self._db, self._wall = db, wall
        self._durable = False
        self._gathered = Gathered(self._latest_run)
        self._heard: set[str] = set()
        self._beaten: set[str] = set()
        self._heard_written = 0.0

    @classmethod
    def open(cls, directory: Path, wall: Callable[[], float] = time.time) -> Ledger:
        """The ledger in *directory*, both made where they are missing.

        Raise `BadFile` for a directory that is open to others, `LedgerDamaged` for a file that is none as far as is seen at once.
        """
        private_directory(directory)
        path = directory / FILE_NAME
        return cls(path, open_file(path), wall)

    def close(self) -> None:
        """Commit, move it all into the file itself as far as readers allow, and let go."""
        self._heard_written = 0.0
        self.commit()
        self._run("PRAGMA wal_checkpoint(PASSIVE)")
        self._db.close()

    def commit(self) -> None:
        """Put everything written so far on record: what depends on it may be sent after this, and not before."""
        self._gathered.write(self._do_all)
        if (self._heard or self._beaten) and self._wall() - self._heard_written >= HEARD_EVERY_SECONDS:
            self._write_heard()
        if self._in_transaction:
            self._run("COMMIT")
            if self._durable:
                self._run("PRAGMA synchronous=NORMAL")
                self._durable = False

    def check(self) -> None:
        """Look at the whole file, which takes a fifth of a second for 10,000 VMs; raise `LedgerDamaged` where it is not sound."""
        found = str(self._run("PRAGMA integrity_check(1)").fetchone()[0])
        if found != "ok":
            raise LedgerDamaged(f"{shown(self.path)}: the ledger is damaged ({printable(found, _MAX_TEXT)})")

    def abandon_file(self) -> None:
        """Let go of a file that is damaged. Until `reopen` nothing can be read or written."""
        self._gathered.abandon()
        with suppress(sqlite3.Error):
            self._db.close()

    def reopen(self) -> None:
        """Have the file that stands in the same place now, or a new one; raise `LedgerTrouble`."""
        self._db, self._durable = open_file(self.path), False

    def replaces_another(self) -> None:
        """A damaged ledger stood in its place: VMs that are wanted soon are none that it alone has known."""
        self._anew_until = self._wall() + ANEW_SECONDS

    def abandon(self) -> None:
        """Forget what was written since the last commit: it could not be recorded, so nothing may be sent on its account."""
        self._gathered.abandon()
        if self._in_transaction:
            with suppress(sqlite3.Error):  # of a file that is damaged: nothing of it was recorded either way
                self._db.rollback()

    def prove(self) -> None:
        """Write something that changes nothing, to see whether the ledger takes it."""
        self._begin()
        self._run(f"PRAGMA user_version = {VERSION}")

    def states(self) -> dict[str, str]:
        """Where each VM stands."""
        return dict(self._run("SELECT key, state FROM vm").fetchall())

    @property
    def changes(self) -> int:
        """Grows with all that is written; another number where another file is written to."""
        try:
            return self._db.total_changes
        except sqlite3.ProgrammingError:  # closed, until it can be opened again
            return -1

    def want(self, key: str, name: str, generation: int | None, digest: str) -> None:
        """A VM is to become what *digest* says, as *generation* if the document names one."""
        if key != name:  # all that is known by the name may be that its document had no uuid, or was none
            self._do("DELETE FROM vm WHERE key=? AND guest_key IS NULL AND rival_key IS NULL", (name,))
        self._ensure(key, name)
        self._do(
            "UPDATE vm SET name=?, generation_wanted=?, digest_wanted=?, document_error='' WHERE key=?",
            (name, generation, digest, key),
        )

    def document_error(self, key: str, name: str, error: str) -> None:
        """The VM's file cannot be used as it is now; what was wanted before stays in force."""
        self._ensure(key, name)
        self._do(
            "UPDATE vm SET document_error=?, state=CASE WHEN digest_wanted='' THEN ? ELSE state END WHERE key=?",
            (error[:_MAX_TEXT], State.BAD_DOCUMENT, key),
        )

    def stand(self, key: str, state: str, detail: str = "") -> None:
        """A VM stands at *state* now, because of *detail*. A quarrel over its key is the worse news, and stays."""
        self._do(
            "UPDATE vm SET state=?, detail=?, since=? WHERE key=? AND rival_key IS NULL",
            (state, detail[:_MAX_TEXT], self._wall(), key),
        )

    def heard(self, key: str) -> None:
        """The VM's guest said something authentic now."""
        self._heard.add(key)

    def meet(self, key: str, name: str, guest_key: bytes, *, counts: bool = True) -> Meeting:
        """What is known of the VM *key*, whose guest has just proven that it holds *guest_key*: a session that *counts* or not.

        A VM first met by its name and now by its uuid, or the other way round, is the same VM.
        """
        self._ensure(key, name)
        if counts:
            self._gathered.session(key)
        shared = None
        for other, other_name in self._run("SELECT key, name FROM vm WHERE guest_key=? AND key!=?", (guest_key, key)).fetchall():
            if other_name == name and name in (key, other):
                self._adopt(key, other)
            else:
                shared = str(other)
        known = self._run(f"SELECT {_KNOWN} FROM vm WHERE key=?", (key,))  # noqa: S608 -- ours
        return Meeting(Known(*known.fetchone()), shared)

    def pin(self, key: str, guest_key: bytes) -> None:
        """The VM's guest has this key from now on; on the disk once committed."""
        self._next_is_durable()
        self._do("UPDATE vm SET guest_key=?, first_met=?, lost=0 WHERE key=?", (guest_key, self._wall(), key))

    def block(self, key: str, state: str, rival_key: bytes, detail: str) -> None:
        """Nothing goes to this VM until an operator resolves it: *rival_key* is not the guest's, or not its alone."""
        self._do(
            "UPDATE vm SET rival_key=?, state=?, detail=?, since=? WHERE key=?",
            (rival_key, state, detail[:_MAX_TEXT], self._wall(), key),
        )

    def sending(self, key: str, instance_id: str, generation: int, digest: str) -> None:
        """A document is about to be sent."""
        self._do(
            "UPDATE vm SET instance_id=?, generation_sent=?, digest_sent=?, state=?, detail='', since=?, reprovision=0"
            " WHERE key=?",
            (instance_id, generation, digest, State.PROVISIONING, self._wall(), key),
        )

    def in_force(self, key: str, instance_id: str, generation: int, digest: str, agent: str) -> None:
        """The guest says that it has this already. The result of that generation, if it was a good one, stays on record."""
        now = self._wall()
        about_another = "key=? AND (generation_items!=? OR instance_id!=?)"
        values = (key, generation, instance_id)
        self._do(f"DELETE FROM item WHERE key IN (SELECT key FROM vm WHERE {about_another})", values)  # noqa: S608 -- ours
        self._do(
            "UPDATE vm SET outcome=CASE WHEN generation_applied=? AND outcome='applied' THEN outcome ELSE 'unchanged' END,"
            " instance_id=?, generation_sent=?, digest_sent=?, generation_applied=?, generation_items=?, agent=?, detail='',"
            " since=?, last_heard=? WHERE key=?",
            (generation, instance_id, generation, digest, generation, generation, agent, now, now, key),
        )
        self._do(_STANDS, (State.DEGRADED, State.READY, key))

    def settle(
        self, key: str, generation: int, result: Result, agent: str, *, applied: bool, called: Called | None = None
    ) -> None:
        """The guest answered for *generation*, item by item; *applied* is whether that is in force now, and it is *called* so.

        Where it names no ssh host keys, as in a refusal, those that it named before stay on record.
        """
        now = self._wall()
        host_keys = json.dumps(result.host_keys) if result.host_keys else None
        degraded = applied and any(item.outcome in _BAD for item in result.items)
        self._do(
            "UPDATE vm SET generation_applied=CASE WHEN ? THEN ? ELSE generation_applied END, generation_items=?, outcome=?,"
            " reason=?, path=?, result_detail=?, host_keys=coalesce(?, host_keys), agent=?, milliseconds=?, state=?, detail='',"
            " since=?, last_heard=?, names=coalesce(?, names), certified=coalesce(?, certified) WHERE key=?",
            (
                applied, generation, generation, result.outcome.value, _word(result.reason), result.path, result.detail,
                host_keys, agent, result.milliseconds, State.DEGRADED if degraded else State.READY, now, now,
                *((None, None) if called is None else called.values()), key,
            ),
        )  # fmt: skip
        self._do("DELETE FROM item WHERE key=?", (key,))
        self._do_all(_NEW_ITEM, [(key, number, *_item(item)) for number, item in enumerate(result.items)])

    def report(self, key: str, generation: int, items: list[ItemResult]) -> bool:
        """The guest says what became later of *items* of *generation*; whether that is news.

        It is none of what is not in force, nor of an item whose end is known: a guest does not fill the disk with news.
        """
        row = self._run("SELECT generation_items, generation_applied, state FROM vm WHERE key=?", (key,)).fetchone()
        if row is None or row[:2] != (generation, generation):
            return False
        rows = self._run("SELECT item, number, outcome FROM item WHERE key=?", (key,)).fetchall()
        numbers = {item: number for item, number, _ in rows}
        under_way = {item for item, _, outcome in rows if outcome == Outcome.PENDING.value}
        news = [i for i in items if i.item not in numbers or (i.item in under_way and i.outcome is not Outcome.PENDING)]
        news = [i for i in news if i.item in numbers or len(numbers) < MAX_ITEMS]
        for item in news:
            number = numbers.setdefault(item.item, max(numbers.values(), default=-1) + 1)
            self._do("DELETE FROM item WHERE key=? AND item=?", (key, item.item))
            self._do(_NEW_ITEM, (key, number, *_item(item)))
        if news and row[2] in (State.READY, State.DEGRADED):
            self._do(_STANDS, (State.DEGRADED, State.READY, key))
        return bool(news)

    def seen(self, key: str, domid: int | None, channel: str) -> None:
        """The VM's channel is there, as *channel*, in the domain *domid* where one is known: the first moment of a run."""
        self._do("UPDATE vm SET domid=?, channel=? WHERE key=?", (domid, channel[:_MAX_TEXT], key))
        self.moment(key, Moment.SEEN, channel)

    def gone(self, key: str) -> None:
        """The VM's channel is not there any more."""
        self._do("UPDATE vm SET domid=NULL WHERE key=?", (key,))

    def moment(self, key: str, what: str, detail: str = "") -> None:
        """A step of the VM's run, *what* being one of `Moment`; past `MOMENTS_KEPT` of them it is not kept.

        A greeting or a document that follows upon what has come to its end begins another run.
        """
        self._gathered.moment(key, self._wall(), what, detail[:_MAX_TEXT])

    def facts(self, key: str, facts: Facts) -> list[str]:
        """What the guest says of its machine now; which of it is news, by the names of the fields.

        Where it names no ssh host keys, those that it named before stay on record.
        """
        row = self._run("SELECT facts, host_keys FROM vm WHERE key=?", (key,)).fetchone()
        if row is None:
            return []
        values = msgspec.to_builtins(facts)
        host_keys = values.pop(_HOST_KEYS, None) or json.loads(row[1])
        known = json.loads(row[0])
        news = sorted(name for name in values.keys() | known.keys() if values.get(name) != known.get(name))
        if host_keys != json.loads(row[1]):
            news.append(_HOST_KEYS)
        if news:
            self._do("UPDATE vm SET facts=?, host_keys=? WHERE key=?", (json.dumps(values), json.dumps(host_keys), key))
        return news

    def heartbeat(self, key: str) -> None:
        """The guest answered now whether it is there."""
        self._beaten.add(key)

    def counted(self, key: str, counted: Counted) -> None:
        """So many more lines were dropped."""
        self._gathered.counted(key, counted)

    def audit(self, key: str, who: str, what: str) -> None:
        """*who* had *what* done to the VM; a VM's entries push out its own older ones."""
        self._gathered.audit(key, self._wall(), who[:_MAX_TEXT], what[:_MAX_TEXT])

    def audit_once(self, key: str, who: str, what: str) -> None:
        """The same of what a guest can bring about as often as it likes: not where the VM's entries have it already."""
        entry = (key, who[:_MAX_TEXT], what[:_MAX_TEXT])
        known = self._run("SELECT 1 FROM audit WHERE key=? AND who=? AND what=?", entry).fetchone()
        if known is None and not self._gathered.has_audit(*entry):
            self.audit(key, who, what)

    def ask_to_reprovision(self, key: str) -> None:
        """All that the VM's document says is to be applied again, as a new generation; done with once that is sent."""
        self._do("UPDATE vm SET reprovision=1 WHERE key=?", (key,))

    def done_with_reprovisioning(self, key: str) -> None:
        """That is not to be done any more."""
        self._do("UPDATE vm SET reprovision=0 WHERE key=?", (key,))

    def wants_reprovisioning(self, key: str) -> bool:
        """Whether that was asked for the VM."""
        return self._run("SELECT 1 FROM vm WHERE key=? AND reprovision", (key,)).fetchone() is not None

    def to_reprovision(self) -> list[str]:
        """The keys of the VMs for which that was asked."""
        return [str(key) for (key,) in self._run("SELECT key FROM vm WHERE reprovision").fetchall()]

    def is_called(self, key: str, called: Called) -> None:
        """What an ssh client may call the VM from now on."""
        self._do("UPDATE vm SET names=?, certified=? WHERE key=?", (*called.values(), key))

    def event(self, key: str, text: str) -> None:
        """Something an operator may want to read later. A VM's events push out its own older ones, never another VM's."""
        self._gathered.event(key, self._wall(), text[:_MAX_TEXT])

    def forget_key(self, key: str) -> bool:
        """Forget the guest's key and any quarrel over it, another VM's over the same key included; whether there was one."""
        row = self._run("SELECT guest_key, rival_key FROM vm WHERE key=?", (key,)).fetchone()
        if row is None or row == (None, None):
            return False
        self._do(
            "UPDATE vm SET rival_key=NULL, state=?, detail='', since=? WHERE rival_key IS NOT NULL AND (key=? OR rival_key=?)",
            (State.GREETING, self._wall(), key, row[0]),
        )
        self._do("UPDATE vm SET guest_key=NULL, generation_sent=0, digest_sent='' WHERE key=?", (key,))  # and it counts anew
        self.event(key, "the guest's key was forgotten on request")
        return True

    @contextmanager
    def entries(self) -> Iterator[EntryRows]:
        """VMs' entries, to read and to replace. Nobody else writes meanwhile; all of it is on the disk at the end, or none."""
        self._next_is_durable()
        self.prove()
        try:
            yield EntryRows(self._run, self._do_all)
            self.commit()
        except BaseException:
            self.abandon()
            raise

    def _next_is_durable(self) -> None:
        """What is written from now on is on the disk once it is committed."""
        if not self._durable:
            self.commit()
            self._run("PRAGMA synchronous=FULL")  # between transactions only, so before the next one begins
            self._durable = True

    def _adopt(self, key: str, other: str) -> None:
        """What is known of *other* is known of *key* from now on."""
        self._gathered.write(self._do_all)
        self._do(f"UPDATE vm SET ({_KEPT}) = (SELECT {_KEPT} FROM vm WHERE key=?) WHERE key=?", (other, key))  # noqa: S608 -- ours
        self._do("DELETE FROM item WHERE key=?", (key,))
        self._do("UPDATE item SET key=? WHERE key=?", (key, other))
        self._do(_TRAIL, (key, other))
        self._do("UPDATE vm SET audits=audits+(SELECT audits FROM vm WHERE key=?) WHERE key=?", (other, key))
        for table in ("event", "moment", "audit", "vm"):
            self._do(f"DELETE FROM {table} WHERE key=?", (other,))  # noqa: S608 -- ours

    def _latest_run(self, key: str) -> int | None:
        """The number of the VM's latest run, inside the transaction that begins the next; None where there is no such VM."""
        self._begin()
        row = self._run("SELECT run FROM vm WHERE key=?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def _ensure(self, key: str, name: str) -> None:
        lost = self._wall() < self._anew_until
        self._do("INSERT INTO vm (key, name, lost) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (key, name, lost))

    def _write_heard(self) -> None:
        now = self._heard_written = self._wall()
        self._do_all("UPDATE vm SET last_heard=? WHERE key=?", [(now, key) for key in self._heard])
        self._do_all("UPDATE vm SET last_heartbeat=? WHERE key=?", [(now, key) for key in self._beaten])
        self._heard.clear()
        self._beaten.clear()

    @property
    def _in_transaction(self) -> bool:
        try:
            return self._db.in_transaction
        except sqlite3.ProgrammingError:  # closed, until it can be opened again; who writes to it hears of that
            return False

    def _do(self, statement: str, values: tuple[Any, ...]) -> None:
        self._do_all(statement, (values,))

    def _do_all(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._begin()
        try:
            self._db.executemany(statement, rows)
        except sqlite3.Error as exc:
            raise trouble(self.path, exc) from exc

    def _begin(self) -> None:
        if not self._in_transaction:
            self._run("BEGIN IMMEDIATE")

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as exc:
            raise trouble(self.path, exc) from exc


def _word(reason: object) -> str:
    """A reason that may be absent."""
    return reason if isinstance(reason, str) else ""


def _item(item: ItemResult) -> tuple[str, str, str, str, str]:
    return (item.item, item.outcome.value, _word(item.reason), item.detail, "\n".join(item.log))
