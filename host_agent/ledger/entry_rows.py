# SPDX-License-Identifier: Apache-2.0
"""A VM's entry out of the ledger's rows, and into them: what `ledger_entry` says, and nothing else of the VM."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from host_agent.ledger import entry as ledger_entry
from host_agent.ledger.standing import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from host_agent.ledger.entry import Entry
    from pv_channel.messages import ItemResult

    #: The rows of a query.
    Read = Callable[[str, tuple[Any, ...]], Iterable[Sequence[Any]]]
    #: Carries a statement out with each of the rows.
    Write = Callable[[str, Iterable[tuple[Any, ...]]], None]

_PLAIN: Final = (
    "guest_key", "rival_key", "first_met", "last_heard", "agent", "instance_id", "generation_sent", "digest_sent",
    "generation_applied", "generation_items", "reason", "path", "result_detail", "milliseconds",
)  # fmt: skip
_AS_JSON: Final = ("host_keys", "names", "facts")
_FLAGS: Final = ("certified", "reprovision")
_COLUMNS: Final = ("key", "name", *_PLAIN, "outcome", *_AS_JSON, *_FLAGS)
#: What an operator's document says of the VM.
_OF_DOCUMENT: Final = ("names", "certified")
_ITEM: Final = ("item", "outcome", "reason", "detail", "log")


def read(rows: Read, key: str, host: str) -> Entry | None:
    """The entry of the VM *key*, as *host* has it; None where there is no VM, or none whose guest was met. Raise `BadEntry`."""
    found = list(rows(f"SELECT {', '.join(_COLUMNS)} FROM vm WHERE key=?", (key,)))  # noqa: S608 -- our own names
    if not found:
        return None
    values = dict(zip(_COLUMNS, found[0], strict=True))
    if values["guest_key"] is None and values["rival_key"] is None:
        return None
    values |= {name: json.loads(values[name]) for name in _AS_JSON} | {name: bool(values[name]) for name in _FLAGS}
    items = rows(f"SELECT {', '.join(_ITEM)} FROM item WHERE key=? ORDER BY number", (key,))  # noqa: S608 -- our own names
    values["items"] = [dict(zip(_ITEM, item, strict=True)) for item in items]
    return ledger_entry.of_values(values, host)


class EntryRows:
    """All VMs' entries, as they stand in one ledger."""

    def __init__(self, rows: Read, write: Write) -> None:
        self._rows, self._write = rows, write

    def read(self, *keys: str) -> Entry | None:
        """The entry of the first of these VMs whose guest was met; raise `BadEntry`."""
        return next(filter(None, (read(self._rows, key, "") for key in keys)), None)

    def write(self, entry: Entry, *, as_document: bool) -> None:
        """Its VM has it from now on; where *as_document* is false, but for what only an operator's document says of a VM."""
        values = {**{name: getattr(entry, name) for name in _PLAIN}, **_others(entry)}
        if not as_document:
            values = {name: value for name, value in values.items() if name not in _OF_DOCUMENT}
        settings = ", ".join(f"{name}=?" for name in values)
        self._write("INSERT INTO vm (key, name) VALUES (?, ?) ON CONFLICT DO NOTHING", [(entry.key, entry.name)])
        self._write(f"UPDATE vm SET {settings}, lost=0 WHERE key=?", [(*values.values(), entry.key)])  # noqa: S608 -- ours
        self._write("DELETE FROM item WHERE key=?", [(entry.key,)])
        items = [(entry.key, number, *_item(item)) for number, item in enumerate(entry.items)]
        self._write("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", items)

    def same_guest(self, entry: Entry) -> str | None:
        """Which other VM has the guest's key of *entry*, if one has: not one that is this VM by its name alone."""
        found = self._rows("SELECT key, name FROM vm WHERE guest_key=? AND key!=?", (entry.guest_key, entry.key))
        others = (str(key) for key, name in found if not (name == entry.name and name in (key, entry.key)))
        return next(others, None)

    def called(self, name: str) -> list[str]:
        """The keys of the VMs with that name, whose documents are there."""
        found = self._rows("SELECT key FROM vm WHERE name=? AND state!=? ORDER BY key", (name, State.REMOVED))
        return [str(key) for (key,) in found]


def _others(entry: Entry) -> dict[str, Any]:
    """The columns whose values are not an entry's own."""
    return {
        "reason": entry.reason or "",
        "outcome": "" if entry.outcome is None else entry.outcome.value,
        "host_keys": json.dumps(entry.host_keys),
        "names": json.dumps(entry.names),
        "facts": json.dumps(msgspec.to_builtins(entry.facts)),
        "certified": entry.certified,
        "reprovision": entry.reprovision,
    }


def _item(item: ItemResult) -> tuple[str, str, str, str, str]:
    return (item.item, item.outcome.value, item.reason or "", item.detail, "\n".join(item.log))
