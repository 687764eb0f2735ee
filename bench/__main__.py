# SPDX-License-Identifier: Apache-2.0
"""`./run bench`: measure everything, print the table, write bench/report.json. A missed target is shown, never a failure."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.qemu_ga import qemu_ga

if TYPE_CHECKING:
    from bench.row import Row

#: In the order of the report. Some need root, for namespaces and a Debian tree; the last boots the lab besides.
SUBJECTS = ("cold_start", "round_trips", "wire", "sessions", "storm", "idle", "status", "qemu_ga")
ROOT_SUBJECTS = ("cloud_init",)
LAB_SUBJECTS = ("hvc",)
ALL = (*SUBJECTS, *ROOT_SUBJECTS, *LAB_SUBJECTS)
REPORT = Path(__file__).with_name("report.json")


def main() -> int:
    """Measure what was asked for; 0 when everything could be measured, whatever it came to."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("subject", nargs="*", choices=[*ALL, []], help="measure only these")
    parser.add_argument("--no-lab", action="store_true", help="leave out what needs the emulated Xen")
    arguments = parser.parse_args()
    subjects = arguments.subject or list(ALL)
    for reason, left_out in (
        ("needs root", (*ROOT_SUBJECTS, *LAB_SUBJECTS) if os.geteuid() != 0 else ()),
        ("--no-lab", LAB_SUBJECTS if arguments.no_lab else ()),
        ("needs qemu-ga: apt-get install qemu-guest-agent", ("qemu_ga",) if not qemu_ga() else ()),
    ):
        for subject in set(subjects) & set(left_out):
            print(f"not measured: {subject} ({reason})")
        subjects = [subject for subject in subjects if subject not in left_out]
    rows: list[Row] = []
    for subject in subjects:
        began = time.monotonic()
        print(f"measuring {subject} …", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"bench.{subject}").rows()
        print(f"measuring {subject} took {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    show(rows)
    REPORT.write_text(json.dumps([row.report() for row in rows], indent=1) + "\n", encoding="utf-8")
    print(f"written to {REPORT.relative_to(Path.cwd()) if REPORT.is_relative_to(Path.cwd()) else REPORT}")
    return 0


def show(rows: list[Row]) -> None:
    """The table, and below it by how much a missed target is missed and where the time goes."""
    width = max((len(row.name) for row in rows), default=0)
    print(f"{'what':{width}}  {'ratio':>8}  {'target':>8}  holds  measured")
    for row in rows:
        sign = "<=" if row.better == "lower" else ">="
        print(f"{row.name:{width}}  {row.ratio:8.3f}  {sign} {row.target:5g}  {'yes' if row.holds else 'NO ':5}  {row.measured}")
    for row in rows:
        if not row.holds:
            print(f"missed: {row.name}: {row.ratio:.3f} where {row.target:g} was wanted; {row.note}")


if __name__ == "__main__":
    sys.exit(main())
