# SPDX-License-Identifier: Apache-2.0
"""Whose key is whose: the ledger's pins, the quarrels over them, and one VM that turns out to be known by two names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.ledger.known import Known, Meeting
from host_agent.ledger.schema import AUDITS_KEPT, MAX_TEXT
from host_agent.ledger.standing import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.ledger.gathered import Gathered
    from host_agent.ledger.transactions import Transactions

_KNOWN: Final = (
    "SELECT guest_key, rival_key, instance_id, generation_sent, digest_sent, generation_items, reprovision, lost FROM vm"
    " WHERE key=?"
)
#: What goes with a VM that turns out to be known by another name.
_KEPT: Final = (
    "guest_key, rival_key, first_met, instance_id, generation_sent, digest_sent, generation_applied, outcome, host_keys, names,"
    " certified, generation_items, facts"
)
#: The entries of a VM's audit trail, behind those that it has under its other name.
_TRAIL: Final = (
    f"INSERT OR REPLACE INTO audit SELECT vm.key, (vm.audits + slot) % {AUDITS_KEPT}, at, who, what FROM audit, vm"  # noqa: S608
    " WHERE vm.key=? AND audit.key=?"
)


class GuestKeys:
    """Of all VMs of one ledger."""

    def __init__(self, db: Transactions, gathered: Gathered, wall: Callable[[], float]) -> None:
        self._db, self._gathered, self._wall = db, gathered, wall

    def meet(self, key: str, name: str, guest_key: bytes) -> Meeting:
        """What is known of the VM *key*, whose guest has just proven that it holds *guest_key*.

        A VM first met by its name and now by its uuid, or the other way round, is the same VM.
        """
        shared = None
        others = self._db.read("SELECT key, name FROM vm WHERE guest_key=? AND key!=?", (guest_key, key)).fetchall()
        for other, other_name in others:
            if other_name == name and name in (key, other):
                self._adopt(key, other)
            else:
                shared = str(other)
        known = Known(*self._db.read(_KNOWN, (key,)).fetchone())
        return Meeting(known._replace(reprovision=bool(known.reprovision), lost=bool(known.lost)), shared)

    def pin(self, key: str, guest_key: bytes) -> None:
        """The VM's guest has this key from now on."""
        self._db.do("UPDATE vm SET guest_key=?, first_met=?, lost=0 WHERE key=?", (guest_key, self._wall(), key))

    def block(self, key: str, state: str, rival_key: bytes, detail: str) -> None:
        """Nothing goes to this VM until an operator resolves it: *rival_key* is not the guest's, or not its alone."""
        self._db.do(
            "UPDATE vm SET rival_key=?, state=?, detail=?, since=? WHERE key=?",
            (rival_key, state, detail[:MAX_TEXT], self._wall(), key),
        )

    def forget_key(self, key: str) -> bool:
        """Forget the guest's key and any quarrel over it, another VM's over the same key included; whether there was one."""
        row = self._db.read("SELECT guest_key, rival_key FROM vm WHERE key=?", (key,)).fetchone()
        if row is None or row == (None, None):
            return False
        self._db.do(
            "UPDATE vm SET rival_key=NULL, state=?, detail='', since=? WHERE rival_key IS NOT NULL AND (key=? OR rival_key=?)",
            (State.GREETING, self._wall(), key, row[0]),
        )
        self._db.do("UPDATE vm SET guest_key=NULL, generation_sent=0, digest_sent='' WHERE key=?", (key,))  # and it counts anew
        self._gathered.event(key, "the guest's key was forgotten on request")
        return True

    def _adopt(self, key: str, other: str) -> None:
        """What is known of *other* is known of *key* from now on."""
        self._gathered.write()
        self._db.do(f"UPDATE vm SET ({_KEPT}) = (SELECT {_KEPT} FROM vm WHERE key=?) WHERE key=?", (other, key))  # noqa: S608 -- ours
        self._db.do("DELETE FROM item WHERE key=?", (key,))
        self._db.do("UPDATE item SET key=? WHERE key=?", (key, other))
        self._db.do(_TRAIL, (key, other))
        self._db.do("UPDATE vm SET audits=audits+(SELECT audits FROM vm WHERE key=?) WHERE key=?", (other, key))
        for table in ("event", "moment", "audit", "vm"):
            self._db.do(f"DELETE FROM {table} WHERE key=?", (other,))  # noqa: S608 -- ours
