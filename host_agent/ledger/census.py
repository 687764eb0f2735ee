# SPDX-License-Identifier: Apache-2.0
"""How many VMs stand where, and how far their documents are: one look at the ledger, cheap however many VMs there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.ledger.standing import State

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    #: Answers a query.
    Read = Callable[[str, tuple[str | float, ...]], sqlite3.Cursor]

#: The VMs of which an item is not well: under way, or failed.
_NOT_WELL: Final = (
    "not_well AS MATERIALIZED (SELECT key AS vm, max(outcome!='pending') AS failed FROM item"
    " WHERE outcome IN ('pending', 'failed', 'refused') GROUP BY key)"
)
#: What `views.verdict.of_document` says of a VM, in SQL: of ten thousand, Python would take a tenth of a second. A test holds the
#: two against each other.
_DOCUMENT: Final = f"""CASE
    WHEN rival_key IS NOT NULL OR state IN ('{State.REFUSED}', '{State.KEY_CHANGED}', '{State.KEY_SHARED}') THEN 'failed'
    WHEN document_error!='' THEN 'failed'
    WHEN digest_wanted='' OR reprovision THEN 'waiting'
    WHEN digest_sent!=digest_wanted OR generation_wanted!=generation_sent THEN 'waiting'
    WHEN generation_items=generation_sent AND generation_items>0 AND state!='{State.PROVISIONING}'
        AND outcome NOT IN ('', 'applied', 'unchanged') THEN 'failed'
    WHEN generation_items!=generation_sent OR generation_applied!=generation_sent OR generation_applied<=0 THEN 'waiting'
    WHEN failed THEN 'failed'
    WHEN failed=0 THEN 'waiting'
    WHEN state='{State.DEGRADED}' THEN 'failed'
    ELSE 'ready' END"""
_VMS: Final = f"vm LEFT JOIN not_well ON not_well.vm=vm.key WHERE state!='{State.REMOVED}'"
#: Materialized, so that what is grouped by is not computed twice for each.
_CENSUS: Final = (
    f"WITH {_NOT_WELL}, each AS MATERIALIZED"  # noqa: S608 -- ours
    f" (SELECT state, {_DOCUMENT} AS document, document_error!='' AS bad, wanted_at FROM {_VMS})"
    " SELECT state, document, count(*), sum(bad), min(wanted_at) FROM each GROUP BY 1, 2"
)
_EACH: Final = (
    f"WITH {_NOT_WELL} SELECT key, name, {_DOCUMENT}, generation_applied, sessions, dropped + echoed + stale, last_heard"  # noqa: S608 -- ours
    f" FROM {_VMS}"
)


class Group(NamedTuple):
    """VMs that stand at *state*, and their *document* is ``ready``, ``waiting`` or ``failed``."""

    state: str
    document: str
    vms: int
    #: Of them, those whose document cannot be used as it is now.
    bad_documents: int
    #: Since when one of them is to become what is wanted of it now: the longest.
    since: float


class OfOne(NamedTuple):
    """One VM."""

    key: str
    name: str
    document: str
    generation_applied: int
    sessions: int
    dropped: int
    last_heard: float


def take(read: Read) -> list[Group]:
    """Of all VMs that have a document, or had none that was good; raise `LedgerTrouble`."""
    return [Group._make(row) for row in read(_CENSUS, ())]


def each(read: Read) -> list[OfOne]:
    """All of them, one by one: this costs much more."""
    return [OfOne._make(row) for row in read(_EACH, ())]
