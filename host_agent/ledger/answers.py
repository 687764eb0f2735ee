# SPDX-License-Identifier: Apache-2.0
"""What guests were sent and what they answered, as the ledger has it: item by item, then and later, and their facts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgspec

from host_agent.ledger.standing import State
from pv_channel.messages import MAX_ITEMS, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.ledger.known import Called
    from host_agent.ledger.transactions import Transactions
    from pv_channel.messages import Facts, ItemResult, Result

_HOST_KEYS: Final = "host-keys"
_BAD: Final = (Outcome.FAILED, Outcome.REFUSED)
_NEW_ITEM: Final = "INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)"
#: Where a VM stands whose items are on record: a part of what is in force may have failed later.
_STANDS: Final = (
    "UPDATE vm SET state=CASE WHEN outcome IN ('applied', 'unchanged') AND EXISTS"
    " (SELECT 1 FROM item WHERE item.key=vm.key AND item.outcome IN ('failed', 'refused')) THEN ? ELSE ? END WHERE key=?"
)


class Answers:
    """Of the guests of all VMs of one ledger."""

    def __init__(self, db: Transactions, wall: Callable[[], float]) -> None:
        self._db, self._wall = db, wall

    def sending(self, key: str, instance_id: str, generation: int, digest: str) -> None:
        """A document is about to be sent."""
        self._db.do(
            "UPDATE vm SET instance_id=?, generation_sent=?, digest_sent=?, state=?, detail='', since=?, reprovision=0"
            " WHERE key=?",
            (instance_id, generation, digest, State.PROVISIONING, self._wall(), key),
        )

    def in_force(self, key: str, instance_id: str, generation: int, digest: str, agent: str) -> None:
        """The guest says that it has this already. The result of that generation, if it was a good one, stays on record."""
        now = self._wall()
        about_another = "key=? AND (generation_items!=? OR instance_id!=?)"
        values = (key, generation, instance_id)
        self._db.do(f"DELETE FROM item WHERE key IN (SELECT key FROM vm WHERE {about_another})", values)  # noqa: S608 -- ours
        self._db.do(
            "UPDATE vm SET outcome=CASE WHEN generation_applied=? AND outcome='applied' THEN outcome ELSE 'unchanged' END,"
            " instance_id=?, generation_sent=?, digest_sent=?, generation_applied=?, generation_items=?, agent=?, detail='',"
            " since=?, last_heard=? WHERE key=?",
            (generation, instance_id, generation, digest, generation, generation, agent, now, now, key),
        )
        self._db.do(_STANDS, (State.DEGRADED, State.READY, key))

    def settle(
        self, key: str, generation: int, result: Result, agent: str, *, applied: bool, called: Called | None = None
    ) -> None:
        """The guest answered for *generation*, item by item; *applied* is whether that is in force now, and it is *called* so.

        Where it names no ssh host keys, as in a refusal, those that it named before stay on record.
        """
        now = self._wall()
        host_keys = json.dumps(result.host_keys) if result.host_keys else None
        degraded = applied and any(item.outcome in _BAD for item in result.items)
        self._db.do(
            "UPDATE vm SET generation_applied=CASE WHEN ? THEN ? ELSE generation_applied END, generation_items=?, outcome=?,"
            " reason=?, path=?, result_detail=?, host_keys=coalesce(?, host_keys), agent=?, milliseconds=?, state=?, detail='',"
            " since=?, last_heard=?, names=coalesce(?, names), certified=coalesce(?, certified) WHERE key=?",
            (
                applied, generation, generation, result.outcome.value, _word(result.reason), result.path, result.detail,
                host_keys, agent, result.milliseconds, State.DEGRADED if degraded else State.READY, now, now,
                *((None, None) if called is None else called.values()), key,
            ),
        )  # fmt: skip
        self._db.do("DELETE FROM item WHERE key=?", (key,))
        self._db.do_all(_NEW_ITEM, [(key, number, *_item(item)) for number, item in enumerate(result.items)])

    def report(self, key: str, generation: int, items: list[ItemResult]) -> bool:
        """The guest says what became later of *items* of *generation*; whether that is news.

        It is none of what is not in force, nor of an item whose end is known: a guest does not fill the disk with news.
        """
        row = self._db.read("SELECT generation_items, generation_applied, state FROM vm WHERE key=?", (key,)).fetchone()
        if row is None or row[:2] != (generation, generation):
            return False
        rows = self._db.read("SELECT item, number, outcome FROM item WHERE key=?", (key,)).fetchall()
        numbers = {item: number for item, number, _ in rows}
        under_way = {item for item, _, outcome in rows if outcome == Outcome.PENDING.value}
        news = [i for i in items if i.item not in numbers or (i.item in under_way and i.outcome is not Outcome.PENDING)]
        news = [i for i in news if i.item in numbers or len(numbers) < MAX_ITEMS]
        for item in news:
            number = numbers.setdefault(item.item, max(numbers.values(), default=-1) + 1)
            self._db.do("DELETE FROM item WHERE key=? AND item=?", (key, item.item))
            self._db.do(_NEW_ITEM, (key, number, *_item(item)))
        if news and row[2] in (State.READY, State.DEGRADED):
            self._db.do(_STANDS, (State.DEGRADED, State.READY, key))
        return bool(news)

    def facts(self, key: str, facts: Facts) -> list[str]:
        """What the guest says of its machine now; which of it is news, by the names of the fields.

        Where it names no ssh host keys, those that it named before stay on record.
        """
        row = self._db.read("SELECT facts, host_keys FROM vm WHERE key=?", (key,)).fetchone()
        if row is None:
            return []
        values = msgspec.to_builtins(facts)
        host_keys = values.pop(_HOST_KEYS, None) or json.loads(row[1])
        known = json.loads(row[0])
        news = sorted(name for name in values.keys() | known.keys() if values.get(name) != known.get(name))
        if host_keys != json.loads(row[1]):
            news.append(_HOST_KEYS)
        if news:
            self._db.do("UPDATE vm SET facts=?, host_keys=? WHERE key=?", (json.dumps(values), json.dumps(host_keys), key))
        return news


def _word(reason: object) -> str:
    """A reason that may be absent."""
    return reason if isinstance(reason, str) else ""


def _item(item: ItemResult) -> tuple[str, str, str, str, str]:
    return (item.item, item.outcome.value, _word(item.reason), item.detail, "\n".join(item.log))
