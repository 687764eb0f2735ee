# SPDX-License-Identifier: Apache-2.0
"""A thousand VMs that boot at once, alone and beside ten guests that flood: until the last of them is what its document says.

They are connected to and greeted, as by a host whose guests are off; then they all answer. What that took is held against what
has to be computed and written for it; and with a flood, which begins in the same moment, against the same without.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.crowd import Crowd
from bench.dom0 import APPLIED, GREETED, Dom0
from bench.row import Row
from bench.sessions import x25519

VMS = 1000
FLOODING = 10
ROUNDS = 5
_METRICS_SECONDS = 1


class Storm(NamedTuple):
    """Seconds from the boot until the last honest VM has applied, and in that time those that the ledger's commits took."""

    took: float
    commits: float


def rows() -> list[Row]:
    """Wall time of the real service, with its ledger on a disk; round by round, with and without a flood in turn."""
    alone, flooded, floors = [], [], []
    for _ in range(ROUNDS):
        alone.append(storm(0))
        floors.append(x25519_seconds())
        flooded.append(storm(FLOODING))
    return [_to_floor(alone, floors), _to_each_other(flooded, alone)]


def _to_floor(alone: list[Storm], floors: list[float]) -> Row:
    ratio = median(one.took / (floor + one.commits) for one, floor in zip(alone, floors, strict=True))
    measured = (
        f"{median(one.took for one in alone):.2f} s; X25519 of dom0 {median(floors):.2f} s,"
        f" commits {median(one.commits for one in alone):.2f} s"
    )
    note = "beside those: sessions' lines, the ledger's rows, three lines of log a VM; guests run on another core, if it is free"
    return Row("storm: 1,000 VMs boot at once, to their X25519 and the ledger's commits", ratio, 4.0, "lower", measured, note)


def _to_each_other(flooded: list[Storm], alone: list[Storm]) -> Row:
    ratio = median(beside.took / one.took for beside, one in zip(flooded, alone, strict=True))
    slowest, without = median(one.took for one in flooded), median(one.took for one in alone)
    measured = f"{slowest:.2f} s with ten that flood, {without:.2f} s without"
    note = "what a flood costs before its guest is not read any more (host_agent/talk/intake.py), and the core it floods from"
    name = "fairness: the slowest honest VM of 1,000 beside ten flooding guests, to the same without"
    return Row(name, ratio, 1.5, "lower", measured, note)


def x25519_seconds() -> float:
    """What the handshakes of all cost dom0 in X25519 alone, by the same clock, and beside whatever else this machine does."""
    began = time.monotonic()
    x25519(VMS)
    return time.monotonic() - began


def storm(flooding: int) -> Storm:
    """One, beside so many guests that flood."""
    with tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
        metrics = Path(scratch) / "metrics.prom"
        dom0 = Dom0(Path(scratch), "--metrics-file", str(metrics), "--metrics-every", str(_METRICS_SECONDS))
        dom0.want(0, VMS + flooding)
        with Crowd(dom0.sockets, VMS) as honest, Crowd(dom0.sockets, flooding, VMS, flood=True) as others, dom0:
            dom0.wait(GREETED, VMS + flooding)
            before = _commits(metrics)
            began = time.monotonic()
            others.boot()
            honest.boot()
            took = dom0.wait(APPLIED, VMS) - began
            return Storm(took, _commits(metrics) - before)


def _commits(metrics: Path) -> float:
    """Seconds in commits so far, by the service's own count, from the next file that it writes."""
    asked = time.time()
    while not metrics.exists() or metrics.stat().st_mtime <= asked:
        time.sleep(_METRICS_SECONDS / 10)
    found = re.search(r"^pv_host_agent_ledger_commit_seconds_sum (\S+)$", metrics.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise RuntimeError("the service does not say how long its commits took")
    return float(found[1])
