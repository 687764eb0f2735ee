# SPDX-License-Identifier: Apache-2.0
"""What became of each VM: an SQLite ledger that the agent writes while others read it.

Writes gather in one transaction until `commit`; whoever sends bytes because of a write commits first. A guest's key is
on the disk before anything is sent on its account; the rest may be lost in a power cut, and the guest's next hello mends it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from host_agent.files import private_directory
from host_agent.ledger import census
from host_agent.ledger.answers import Answers
from host_agent.ledger.entry_rows import EntryRows
from host_agent.ledger.file import open_file
from host_agent.ledger.gathered import Gathered
from host_agent.ledger.guest_keys import GuestKeys
from host_agent.ledger.heard import Heard
from host_agent.ledger.known import Counted
from host_agent.ledger.schema import FILE_NAME, MAX_TEXT
from host_agent.ledger.standing import Moment, State
from host_agent.ledger.transactions import Transactions

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from host_agent.durations import Durations
    from host_agent.ledger.census import Group, OfOne
    from host_agent.ledger.known import Called, Meeting
    from pv_channel.messages import Facts, ItemResult, Result

#: For so long after a ledger was begun anew VMs are taken for such as the one before knew: a host's documents are read by then.
ANEW_SECONDS: Final = 600.0
#: What is wanted already has been wanted since it first was.
_WANT: Final = (
    "UPDATE vm SET wanted_at=CASE WHEN generation_wanted IS ? AND digest_wanted=? THEN wanted_at ELSE ? END, name=?,"
    " generation_wanted=?, digest_wanted=?, document_error='' WHERE key=?"
)


class Ledger:
    """The ledger in one directory. Every method may raise `LedgerTrouble`, and then nothing since the last commit is recorded."""

    def __init__(self, path: Path, db: sqlite3.Connection, wall: Callable[[], float] = time.time) -> None:
        self.path = path
        self._wall = wall
        self._anew_until = 0.0
        #: Lines that were dropped since this was made.
        self.dropped = Counted()
        self._db = Transactions(path, db)
        self._gathered = Gathered(self._db, wall)
        self._heard = Heard(self._db, wall)
        self._guest_keys = GuestKeys(self._db, self._gathered, wall)
        self._answers = Answers(self._db, wall)

    @classmethod
    def open(cls, directory: Path, wall: Callable[[], float] = time.time) -> Ledger:
        """The ledger in *directory*, both made where they are missing.

        Raise `BadFile` for a directory that is open to others, `LedgerDamaged` for a file that is none as far as is seen at once.
        """
        private_directory(directory)
        return cls(directory / FILE_NAME, open_file(directory / FILE_NAME), wall)

    def close(self) -> None:
        """Commit, move it all into the file itself as far as readers allow, and let go."""
        self._heard.write()
        self.commit()
        self._db.close()

    def commit(self) -> None:
        """Put everything written so far on record: what depends on it may be sent after this, and not before."""
        self._gathered.write()
        self._heard.write_if_due()
        self._db.commit()

    def check(self) -> None:
        """Look at the whole file, which takes a fifth of a second for 10,000 VMs; raise `LedgerDamaged` where it is not sound."""
        self._db.check()

    def abandon_file(self) -> None:
        """Let go of a file that is damaged. Until `reopen` nothing can be read or written."""
        self._gathered.abandon()
        self._db.let_go()

    def reopen(self) -> None:
        """Have the file that stands in the same place now, or a new one; raise `LedgerTrouble`."""
        self._db.reopen()

    def replaces_another(self) -> None:
        """A damaged ledger stood in its place: VMs that are wanted soon are none that it alone has known."""
        self._anew_until = self._wall() + ANEW_SECONDS

    def abandon(self) -> None:
        """Forget what was written since the last commit: it could not be recorded, so nothing may be sent on its account."""
        self._gathered.abandon()
        self._db.abandon()

    def prove(self) -> None:
        """Write something that changes nothing, to see whether the ledger takes it."""
        self._db.prove()

    def states(self) -> Iterator[tuple[str, str]]:
        """Where each VM stands, by its key, one after the other."""
        return self._db.read("SELECT key, state FROM vm")

    def census(self) -> list[Group]:
        """How many VMs stand where, and how far their documents are."""
        return census.take(self._db.read)

    def each(self) -> list[OfOne]:
        """Every VM, as it is counted."""
        return census.each(self._db.read)

    @property
    def commits(self) -> Durations:
        """How long commits took since this was made."""
        return self._db.commits

    @property
    def changes(self) -> int:
        """Grows with all that is written; another number where another file is written to."""
        return self._db.changes

    def want(self, key: str, name: str, generation: int | None, digest: str) -> None:
        """A VM is to become what *digest* says, as *generation* if the document names one."""
        if key != name:  # all that is known by the name may be that its document had no uuid, or was none
            self._db.do("DELETE FROM vm WHERE key=? AND guest_key IS NULL AND rival_key IS NULL", (name,))
        self._ensure(key, name)
        self._db.do(_WANT, (generation, digest, self._wall(), name, generation, digest, key))

    def document_error(self, key: str, name: str, error: str) -> None:
        """The VM's file cannot be used as it is now; what was wanted before stays in force."""
        self._ensure(key, name)
        self._db.do(
            "UPDATE vm SET document_error=?, state=CASE WHEN digest_wanted='' THEN ? ELSE state END WHERE key=?",
            (error[:MAX_TEXT], State.BAD_DOCUMENT, key),
        )

    def stand(self, key: str, state: str, detail: str = "") -> None:
        """A VM stands at *state* now, because of *detail*. A quarrel over its key is the worse news, and stays."""
        self._db.do(
            "UPDATE vm SET state=?, detail=?, since=? WHERE key=? AND rival_key IS NULL",
            (state, detail[:MAX_TEXT], self._wall(), key),
        )

    def heard(self, key: str) -> None:
        """The VM's guest said something authentic now."""
        self._heard.something(key)

    def meet(self, key: str, name: str, guest_key: bytes, *, counts: bool = True) -> Meeting:
        """What is known of the VM *key*, whose guest has proven that it holds *guest_key* in a session that *counts* or not."""
        self._ensure(key, name)
        if counts:
            self._gathered.session(key)
        return self._guest_keys.meet(key, name, guest_key)

    def pin(self, key: str, guest_key: bytes) -> None:
        """The VM's guest has this key from now on; on the disk once committed."""
        self._next_is_durable()
        self._guest_keys.pin(key, guest_key)

    def block(self, key: str, state: str, rival_key: bytes, detail: str) -> None:
        """Nothing goes to this VM until an operator resolves it: *rival_key* is not the guest's, or not its alone."""
        self._guest_keys.block(key, state, rival_key, detail)

    def forget_key(self, key: str) -> bool:
        """Forget the guest's key and any quarrel over it, another VM's over the same key included; whether there was one."""
        return self._guest_keys.forget_key(key)

    def sending(self, key: str, instance_id: str, generation: int, digest: str) -> None:
        """A document is about to be sent."""
        self._answers.sending(key, instance_id, generation, digest)

    def in_force(self, key: str, instance_id: str, generation: int, digest: str, agent: str) -> None:
        """The guest says that it has this already. The result of that generation, if it was a good one, stays on record."""
        self._answers.in_force(key, instance_id, generation, digest, agent)

    def settle(
        self, key: str, generation: int, result: Result, agent: str, *, applied: bool, called: Called | None = None
    ) -> None:
        """The guest answered for *generation*, item by item; *applied* is whether that is in force now, and it is *called* so."""
        self._answers.settle(key, generation, result, agent, applied=applied, called=called)

    def report(self, key: str, generation: int, items: list[ItemResult]) -> bool:
        """The guest says what became later of *items* of *generation*; whether that is news."""
        return self._answers.report(key, generation, items)

    def facts(self, key: str, facts: Facts) -> list[str]:
        """What the guest says of its machine now; which of it is news, by the names of the fields."""
        return self._answers.facts(key, facts)

    def is_called(self, key: str, called: Called) -> None:
        """What an ssh client may call the VM from now on."""
        self._db.do("UPDATE vm SET names=?, certified=? WHERE key=?", (*called.values(), key))

    def seen(self, key: str, domid: int | None, channel: str) -> None:
        """The VM's channel is there, as *channel*, in the domain *domid* where one is known: the first moment of a run."""
        self._db.do("UPDATE vm SET domid=?, channel=? WHERE key=?", (domid, channel[:MAX_TEXT], key))
        self.moment(key, Moment.SEEN, channel)

    def belongs(self, key: str, domid: int | None) -> None:
        """The channel that is there is known to be that of the domain *domid*."""
        self._db.do("UPDATE vm SET domid=? WHERE key=?", (domid, key))

    def gone(self, key: str) -> None:
        """The VM's channel is not there any more."""
        self.belongs(key, None)

    def moment(self, key: str, what: str, detail: str = "") -> None:
        """A step of the VM's run, *what* being one of `Moment`; past `MOMENTS_KEPT` of them it is not kept."""
        self._gathered.moment(key, what, detail)

    def heartbeat(self, key: str) -> None:
        """The guest answered now whether it is there."""
        self._heard.heartbeat(key)

    def counted(self, key: str, counted: Counted) -> None:
        """So many more lines were dropped."""
        self.dropped = self.dropped.plus(counted)
        self._gathered.counted(key, counted)

    def event(self, key: str, text: str) -> None:
        """Something an operator may want to read later. A VM's events push out its own older ones, never another VM's."""
        self._gathered.event(key, text)

    def audit(self, key: str, who: str, what: str) -> None:
        """*who* had *what* done to the VM; a VM's entries push out its own older ones."""
        self._gathered.audit(key, who, what)

    def audit_once(self, key: str, who: str, what: str) -> None:
        """The same of what a guest can bring about as often as it likes: not where the VM's entries have it already."""
        self._gathered.audit_once(key, who, what)

    def ask_to_reprovision(self, key: str) -> None:
        """All that the VM's document says is to be applied again, as a new generation; done with once that is sent."""
        self._db.do("UPDATE vm SET reprovision=1, wanted_at=? WHERE key=?", (self._wall(), key))

    def done_with_reprovisioning(self, key: str) -> None:
        """That is not to be done any more."""
        self._db.do("UPDATE vm SET reprovision=0 WHERE key=?", (key,))

    def wants_reprovisioning(self, key: str) -> bool:
        """Whether that was asked for the VM."""
        return self._db.read("SELECT 1 FROM vm WHERE key=? AND reprovision", (key,)).fetchone() is not None

    def to_reprovision(self) -> list[str]:
        """The keys of the VMs for which that was asked."""
        return [str(key) for (key,) in self._db.read("SELECT key FROM vm WHERE reprovision").fetchall()]

    @contextmanager
    def entries(self) -> Iterator[EntryRows]:
        """VMs' entries, to read and to replace. Nobody else writes meanwhile; all of it is on the disk at the end, or none."""
        self._next_is_durable()
        self.prove()
        try:
            yield EntryRows(self._db.read, self._db.do_all)
            self.commit()
        except BaseException:
            self.abandon()
            raise

    def _next_is_durable(self) -> None:
        """What is written from now on is on the disk once it is committed."""
        if not self._db.durable:
            self.commit()
            self._db.next_is_durable()

    def _ensure(self, key: str, name: str) -> None:
        row = (key, name, self._wall() < self._anew_until)
        self._db.do("INSERT INTO vm (key, name, lost) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)
