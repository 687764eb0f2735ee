# SPDX-License-Identifier: Apache-2.0
"""What it costs to read the ledger of 10,000 VMs: the whole table of `status`, and one look of those that wait and watch.

The floor is the sqlite3 module's plain SELECT of the same rows.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.row import Row, paired
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.schema import FILE_NAME
from host_agent.views import overview
from host_agent.views.status import View
from host_agent.views.table import plain
from pv_channel.messages import Facts, ItemResult, Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable

VMS = 10_000
PAIRS = 7
ITEMS = [ItemResult(name, Outcome.APPLIED) for name in ("hostname", "users", "ssh", "network", "write-files")]


def rows() -> list[Row]:
    """Both, each against the floor in turn."""
    with tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
        state = Path(scratch) / "state"
        fill(state)
        with View(state) as view:

            def table() -> None:
                plain(overview.HEADER, overview.rows_of(view.all(), time.time(), folded=False))

            return [
                _row(f"status of {VMS:,} VMs, to a plain SELECT", 12, table, lambda: select(state)),
                _row(f"one look of wait or watch at {VMS:,} VMs, to a plain SELECT", 3, view.standings, lambda: select(state)),
            ]


def fill(state: Path) -> None:
    """A ledger of VMs that are ready, each with its items, facts and an event."""
    ledger = Ledger.open(state)
    for number in range(VMS):
        key, name = f"{number:08x}-0000-4000-8000-000000000000", f"web{number}.example.org"
        ledger.want(key, name, None, "0" * 64)
        ledger.seen(key, number, f"/run/pv-channel/{name}.sock")
        ledger.pin(key, number.to_bytes(32))
        ledger.sending(key, f"i-{number}", 1, "0" * 64)
        ledger.settle(key, 1, Result(1, Outcome.APPLIED, ITEMS, ["ssh-ed25519 AAAA " * 4]), "0.1.0", applied=True)
        ledger.facts(key, Facts("Debian GNU/Linux 12 (bookworm)", "6.1.0-56-amd64", name, addresses=["192.0.2.10/24"]))
        ledger.event(key, "generation 1: applied")
        ledger.heard(key)
    ledger.close()


def select(state: Path) -> None:
    """The floor."""
    db = sqlite3.connect(state / FILE_NAME)
    db.execute("SELECT * FROM vm ORDER BY name, key").fetchall()
    db.close()


def _row(name: str, target: float, ours: Callable[[], object], floor: Callable[[], object]) -> Row:
    ratio, mine, least = paired(lambda: _seconds(ours), lambda: _seconds(floor), PAIRS)
    measured = f"{mine * 1000:.0f} ms, floor {least * 1000:.0f} ms"
    return Row(name, ratio, target, "lower", measured, "making each value safe to print, and a query of its items for each VM")


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began
