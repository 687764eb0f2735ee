# SPDX-License-Identifier: Apache-2.0
"""Look at what VMs should become, in the directory of documents, and at what became of them, in the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from host_agent.doctor.evidence import Record
from host_agent.documents.inventory import Inventory
from host_agent.errors import BadFile, LedgerTrouble
from host_agent.ledger.schema import FILE_NAME
from host_agent.ledger.standing import State
from host_agent.talk.notices import GOOD
from host_agent.views.status import View

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.documents.document_file import Wanted


class Documents(NamedTuple):
    """The documents that can be used, and by the VM's name why others cannot; *trouble* is why none could be read."""

    wanted: tuple[Wanted, ...]
    errors: dict[str, str]
    trouble: str = ""


class Recorded(NamedTuple):
    """A VM of the ledger: its name there, its key, and what is on record."""

    name: str
    key: str
    record: Record


class Records(NamedTuple):
    """The VMs of the ledger; *latest* is its latest time, *trouble* why it could not be read."""

    vms: tuple[Recorded, ...]
    latest: float = 0.0
    trouble: str = ""


def read_documents(directory: Path) -> Documents:
    """All of them, however fresh."""
    inventory = Inventory(directory, wall=lambda: float("inf"))
    wanted: dict[str, Wanted] = {}
    errors: dict[str, str] = {}
    try:
        while True:
            changes = inventory.look()
            wanted |= {each.name: each for each in changes.wanted}
            errors |= dict(changes.errors)
            if not changes.more:
                return Documents(tuple(wanted.values()), errors)
    except BadFile as exc:
        return Documents((), {}, str(exc))


def read_records(state: Path) -> Records:
    """All VMs of the ledger; none where there is no ledger yet."""
    if not (state / FILE_NAME).exists():
        return Records(())
    try:
        with View(state) as view:
            digests = {stands.key: stands.digest_wanted for stands in view.standings()}
            rows = view.all()
            failed = {row["key"]: _failed(view, row["key"]) for row in rows if _is_bad(row)}
    except LedgerTrouble as exc:
        return Records((), trouble=str(exc))
    vms = tuple(
        Recorded(row["vm"], row["key"], _record(row, failed.get(row["key"], ()), digests.get(row["key"], "")))
        for row in rows
    )
    times = ("since", "last-heard", "last-heartbeat", "first-met")
    return Records(vms, max((_seconds(row[name]) for row in rows for name in times), default=0.0))


def _is_bad(row: dict[str, Any]) -> bool:
    return row["state"] == State.DEGRADED or row["outcome"] not in ("", *GOOD)


def _failed(view: View, key: str) -> tuple[tuple[str, str], ...]:
    items = (view.one(key) or {"items": ()})["items"]
    return tuple((item["item"], item["reason"]) for item in items if item["outcome"] in ("failed", "refused"))


def _record(row: dict[str, Any], failed: tuple[tuple[str, str], ...], digest: str) -> Record:
    return Record(
        state=row["state"],
        detail=row["detail"],
        document_error=row["document-error"],
        outcome=row["outcome"],
        reason=row["reason"],
        path=row["path"],
        result_detail=row["result-detail"],
        failed=failed,
        digest=digest,
        channel=row["channel"],
        sessions=row["sessions"],
        dropped=row["dropped"],
        echoed=row["echoed"],
        last_heartbeat=_seconds(row["last-heartbeat"]),
    )


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp() if iso else 0.0
