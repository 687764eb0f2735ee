# SPDX-License-Identifier: Apache-2.0
"""A VM's row of the ledger as values that are safe to print: what `--json` shows, and what every table is made of."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from host_agent.views.verdict import Stands, judged
from pv_channel.text import printable
from pv_channel.trust import fingerprint

if TYPE_CHECKING:
    import sqlite3

_WORD, _LINE, _KEY_LINE, _FACT = 200, 500, 2048, 128
_FACTS: Final = ("os", "kernel", "hostname", "boot-id")
#: What a `Stands` is made of, in its order; the last two are its items under way, and the first that failed.
STANDS_COLUMNS: Final = (
    "key, name, state, detail, since, domid, document_error, generation_wanted, digest_wanted, generation_sent, digest_sent,"
    " generation_applied, generation_items, outcome, reason, path, result_detail, rival_key IS NOT NULL, reprovision,"
    " coalesce((SELECT group_concat(item, ', ') FROM item WHERE item.key=vm.key AND outcome='pending'), ''),"
    " coalesce((SELECT item || ': ' || reason || CASE detail WHEN '' THEN '' ELSE ': ' || detail END FROM item"
    " WHERE item.key=vm.key AND outcome IN ('failed', 'refused') ORDER BY number LIMIT 1), '')"
)
#: What else `vm_values` needs.
MORE_COLUMNS: Final = (
    "first_met, last_heard, last_heartbeat, guest_key, rival_key, agent, instance_id, host_keys, milliseconds, names, certified,"
    " channel, facts, sessions, dropped, echoed, stale"
)


def stands(row: sqlite3.Row) -> Stands:
    """Where the VM of a row that begins with `STANDS_COLUMNS` stands."""
    return Stands._make(tuple(row)[: len(Stands._fields)])


def vm_values(row: sqlite3.Row) -> dict[str, Any]:
    """The VM of a row of `STANDS_COLUMNS` and `MORE_COLUMNS`. The names of the values are an interface: add, never change."""
    vm = stands(row)
    verdict, why = judged(vm)
    counted = vm.generation_sent if vm.digest_sent == vm.digest_wanted else None
    return {
        "vm": printable(vm.name, _WORD),
        "key": printable(vm.key, _WORD),
        "standing": vm.word,
        "verdict": verdict.value,
        "why": why,
        "state": printable(vm.state, 40),
        "since": iso(vm.since),
        "detail": printable(vm.detail, _LINE),
        "document-error": printable(vm.document_error, _LINE),
        "domid": vm.domid,
        "channel": printable(row["channel"], _LINE),
        "instance-id": printable(row["instance_id"], _WORD),
        "generation-wanted": vm.generation_wanted if vm.generation_wanted is not None else counted,
        "generation-sent": vm.generation_sent,
        "generation-applied": vm.generation_applied,
        "reprovision": bool(vm.reprovision),
        "outcome": printable(vm.outcome, 40),
        "reason": printable(vm.reason, 40),
        "path": printable(vm.path, _LINE),
        "result-detail": printable(vm.result_detail, _LINE),
        "milliseconds": row["milliseconds"],
        "agent": printable(row["agent"], 40),
        "guest-key": fingerprint(row["guest_key"]) if row["guest_key"] else "",
        "rival-key": fingerprint(row["rival_key"]) if row["rival_key"] else "",
        "first-met": iso(row["first_met"]),
        "last-heard": iso(row["last_heard"]),
        "last-heartbeat": iso(row["last_heartbeat"]),
        "sessions": row["sessions"],
        "dropped": row["dropped"],
        "echoed": row["echoed"],
        "stale": row["stale"],
        "facts": _facts(json.loads(row["facts"])),
        "host-keys": [printable(key, _KEY_LINE) for key in json.loads(row["host_keys"])],
        "names": [printable(name, _LINE) for name in json.loads(row["names"])],
        "certified": bool(row["certified"]),
    }


def event_values(row: sqlite3.Row) -> dict[str, Any]:
    """An event: when, and what happened."""
    return {"at": iso(row["at"]), "what": printable(row["what"], _LINE)}


def audit_values(row: sqlite3.Row) -> dict[str, Any]:
    """An entry of the audit trail: when, who, and what was done."""
    return {"at": iso(row["at"]), "who": printable(row["who"], _WORD), "what": printable(row["what"], _LINE)}


def iso(seconds: float) -> str:
    """A time as ISO 8601 has it, in UTC; empty for never."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""


def iso_exact(seconds: float) -> str:
    """As `iso`, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def ago(seconds: float) -> str:
    """How long ago, in the largest unit of which there are two."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _facts(said: dict[str, Any]) -> dict[str, Any]:
    words: dict[str, Any] = {name: printable(said.get(name, ""), _FACT) for name in _FACTS}
    return words | {"addresses": [printable(address, _FACT) for address in said.get("addresses", [])]}
