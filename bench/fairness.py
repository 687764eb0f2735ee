# SPDX-License-Identifier: Apache-2.0
"""The slowest honest VM of a thousand that boot at once, while ten guests flood from that moment on, beside that without."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from bench.crowd import Crowd
from bench.dom0 import APPLIED, GREETED, Dom0
from bench.row import Row

HONEST = 1000
FLOODING = 10
ROUNDS = 3


def rows() -> list[Row]:
    """Wall time until the last honest VM is what its document says; round by round, with and without in turn."""
    both = [(slowest(FLOODING), slowest(0)) for _ in range(ROUNDS)]
    ratio = median(flooded / quiet for flooded, quiet in both)
    measured = f"{median(b[0] for b in both):.2f} s with ten that flood, {median(b[1] for b in both):.2f} s without"
    note = "what a flood costs before its guest is not read any more (host_agent/talk/intake.py), and the core it floods from"
    name = "fairness: the slowest honest VM beside ten flooding guests, to the same without"
    return [Row(name, ratio, 1.5, "lower", measured, note)]


def slowest(flooding: int) -> float:
    """Seconds from the boot until the last honest VM has applied."""
    with tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
        dom0 = Dom0(Path(scratch))
        dom0.want(0, HONEST + flooding)
        with Crowd(dom0.sockets, HONEST) as honest, Crowd(dom0.sockets, flooding, HONEST, flood=True) as others, dom0:
            dom0.wait(GREETED, HONEST + flooding)
            began = time.monotonic()
            others.boot()
            honest.boot()
            return dom0.wait(APPLIED, HONEST) - began
