# SPDX-License-Identifier: Apache-2.0
"""VMs counted: by where they stand, and by how far their documents are, as `views.verdict` would say of each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host_agent.ledger.ledger import Ledger
from host_agent.ledger.standing import State
from host_agent.views.status import View
from host_agent.views.verdict import of_document
from tests.host.records import a_fleet, answered, wanted

if TYPE_CHECKING:
    from pathlib import Path

_STATES: Final = [value for name, value in vars(State).items() if name.isupper()]
_FEW: Final = st.integers(0, 2)
#: A row of the ledger with whatever can stand in it, and its items.
_ROWS: Final = st.fixed_dictionaries(
    {
        "state": st.sampled_from(_STATES), "document_error": st.sampled_from(["", "x"]),
        "digest_wanted": st.sampled_from(["", "d"]), "digest_sent": st.sampled_from(["", "d", "e"]),
        "generation_wanted": st.none() | _FEW, "generation_sent": _FEW, "generation_applied": _FEW,
        "generation_items": _FEW, "reprovision": st.booleans(),
        "outcome": st.sampled_from(["", "applied", "unchanged", "failed", "rolled-back", "refused"]),
        "rival_key": st.sampled_from([None, b"k"]),
        "items": st.lists(st.sampled_from(["applied", "failed", "refused", "pending"])),
    }
)  # fmt: skip


def by_verdict(state: Path) -> Counter[tuple[str, str]]:
    """What `of_document` says of each VM."""
    with View(state) as view:
        vms = view.standings()
    return Counter((vm.state, of_document(vm).value) for vm in vms if vm.state != State.REMOVED)


def by_census(ledger: Ledger) -> Counter[tuple[str, str]]:
    """What the census counts."""
    return Counter({(group.state, group.document): group.vms for group in ledger.census()})


def put(ledger: Ledger, key: str, row: dict[str, Any]) -> None:
    """Write a row just as it is."""
    wanted(ledger, key)
    values = {name: value for name, value in row.items() if name != "items"}
    ledger._db.do(f"UPDATE vm SET {', '.join(f'{name}=?' for name in values)} WHERE key=?", (*values.values(), key))
    for number, outcome in enumerate(row["items"]):
        ledger._db.do("INSERT INTO item VALUES (?, ?, ?, ?, '', '', '')", (key, number, f"item{number}", outcome))


def test_a_fleet_is_counted_as_its_verdicts_are(ledger: Ledger, state: Path) -> None:
    a_fleet(ledger)
    counted = by_census(ledger)
    assert counted == by_verdict(state)
    assert counted[State.READY, "ready"] == 1
    assert counted[State.READY, "failed"] == 2
    assert sum(group.bad_documents for group in ledger.census()) == 1
    assert State.REMOVED not in {group.state for group in ledger.census()}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_ROWS, min_size=20, max_size=40))
def test_whatever_stands_in_the_ledger_is_counted_as_its_verdicts_are(
    ledger: Ledger, state: Path, rows: list[dict[str, Any]]
) -> None:
    for table in ("vm", "item"):
        ledger._db.do(f"DELETE FROM {table}", ())
    for number, row in enumerate(rows):
        put(ledger, f"vm{number}", row)
    ledger.commit()
    assert by_census(ledger) == by_verdict(state)
    assert Counter((one.document) for one in ledger.each()) == Counter(document for _, document in by_verdict(state).elements())


def test_a_document_has_been_wanted_since_it_was_first_wanted(state: Path) -> None:
    now = 100.0
    ledger = Ledger.open(state, lambda: now)
    wanted(ledger, "vm1", digest="d")
    now = 200.0
    wanted(ledger, "vm1", digest="d")
    ledger.stand("vm1", State.GREETING)
    assert [group.since for group in ledger.census()] == [100.0]
    wanted(ledger, "vm1", digest="e")
    assert [group.since for group in ledger.census()] == [200.0]
    now = 300.0
    wanted(ledger, "vm1", generation=7, digest="e")
    assert [group.since for group in ledger.census()] == [300.0]
    answered(ledger, "vm1")
    now = 400.0
    ledger.ask_to_reprovision("vm1")
    assert [group.since for group in ledger.census()] == [400.0]
    ledger.close()
