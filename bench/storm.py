# SPDX-License-Identifier: Apache-2.0
"""A thousand VMs that boot at once: until all are what their documents say, beside what has to be computed and written for that.

They are connected to and greeted, as by a host whose guests are off; then they all answer.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

from bench.crowd import Crowd
from bench.dom0 import APPLIED, GREETED, Dom0
from bench.row import Row
from bench.sessions import x25519_seconds

VMS = 1000
ROUNDS = 3
_METRICS_SECONDS = 1


def rows() -> list[Row]:
    """Wall time of the real service, with its ledger on a disk, over the handshakes' X25519 and its own commits."""
    rounds = []
    for _ in range(ROUNDS):
        took, commits = storm()
        x25519 = VMS * x25519_seconds()
        rounds.append((took / (x25519 + commits), took, x25519, commits))
    ratio, took, x25519, commits = sorted(rounds)[ROUNDS // 2]
    measured = f"{took:.2f} s; X25519 of dom0 {x25519:.2f} s, commits {commits:.2f} s"
    note = "beside those: sessions' lines, the ledger's rows, the loop, three lines of log a VM; guests have another core, if any"
    return [Row("storm: 1,000 VMs boot at once, to their X25519 and the ledger's commits", ratio, 4.0, "lower", measured, note)]


def storm() -> tuple[float, float]:
    """Seconds from the boot until all have applied, and of these in commits."""
    with tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
        metrics = Path(scratch) / "metrics.prom"
        dom0 = Dom0(Path(scratch), "--metrics-file", str(metrics), "--metrics-every", str(_METRICS_SECONDS))
        dom0.want(0, VMS)
        with Crowd(dom0.sockets, VMS) as guests, dom0:
            dom0.wait(GREETED, VMS)
            before = _commits(metrics)
            began = time.monotonic()
            guests.boot()
            took = dom0.wait(APPLIED, VMS) - began
            return took, _commits(metrics) - before


def _commits(metrics: Path) -> float:
    """Seconds in commits so far, by the service's own count, from the next file that it writes."""
    asked = time.time()
    while not metrics.exists() or metrics.stat().st_mtime <= asked:
        time.sleep(_METRICS_SECONDS / 10)
    found = re.search(r"^pv_host_agent_ledger_commit_seconds_sum (\S+)$", metrics.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise RuntimeError("the service does not say how long its commits took")
    return float(found[1])
