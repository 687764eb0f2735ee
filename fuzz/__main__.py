# SPDX-License-Identifier: Apache-2.0
"""`python -m fuzz [SECONDS] [--seed N]`: parsers and whole ends in turn; exit 1 with a reproducer where one breaks.

A run with the same seed makes the same cases in the same order, so a reproducer is also the seed and the number of a case.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Final

from fuzz.ends import Broken, Rig
from fuzz.mutate import mutate, random_bytes
from fuzz.parsers import PARSERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuzz.parsers import Parser

#: Two ends hold at most a message each way, 1 MiB and 64 KiB, and while one is joined or split it is there twice or thrice.
MAX_LIVE_BYTES: Final = 12 * 1024 * 1024
#: By how much the whole process may grow: the above, what tracing it costs, and an allocator's slack.
MAX_GROWTH_KIB: Final = 128 * 1024
_PROGRESS_SECONDS: Final = 5.0
_CASES_AT_ONCE: Final = 200


class Crash(Exception):  # noqa: N818 -- it says what was found
    """Something broke a promise; the text tells how to see it again."""


class Progress:
    """Counts, and says every few seconds how far it is."""

    def __init__(self, seconds: float) -> None:
        self.cases = 0
        self.sessions = 0
        self.carried = 0
        self._began = self._told = time.monotonic()
        self._seconds = seconds

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def tell(self, *, last: bool = False) -> None:
        """Say how far it is, if it is time to."""
        now = time.monotonic()
        if last or now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            rate = self.cases / max(self.elapsed, 0.001)
            resident = peak_kib()
            print(
                f"{self.elapsed:5.0f}/{self._seconds:.0f} s  {self.cases} cases, {rate:.0f}/s; {self.sessions} sessions started"
                f" again after {self.carried // 1024} KiB of hostile wire; {resident // 1024} MiB resident",
                flush=True,
            )


def attack(parser: Parser, source: random.Random) -> None:
    """One case for *parser*; raise `Crash`."""
    seed = source.choice(parser.seeds)
    data = random_bytes(source) if source.random() < 0.1 else mutate(source, seed, parser.seeds)
    if parser.prepare is not None and source.random() < 0.7:
        data = parser.prepare(data)
    try:
        parser.parse(data)
    except parser.errors:
        return
    except Exception as exc:
        raise Crash(f"{parser.name}: {exc!r}\nthe bytes, in hexadecimal: {data.hex()}") from exc


def run_ends(source: random.Random, progress: Progress) -> None:
    """One pair of ends through a hostile wire and back to a session; raise `Crash`."""
    rig = Rig(source)
    try:
        rig.hostile()
        rig.start_again()
    except Broken as exc:
        wire = "\n".join(f"{to}: {data.hex()}" for to, data in exc.wire)
        raise Crash(f"ends: {exc}\nwhat was carried to whom, in hexadecimal:\n{wire}") from exc
    progress.sessions += 1
    progress.carried += rig.carried


def peak_kib() -> int:
    """The most that was ever resident of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check_memory(at_start: int, peak_at_start: int) -> None:
    """Raise `Crash` where something keeps what it was fed."""
    live, _ = tracemalloc.get_traced_memory()
    if live - at_start > MAX_LIVE_BYTES:
        raise Crash(f"{live - at_start} bytes are held that were not at the start")
    growth = peak_kib() - peak_at_start
    if growth > MAX_GROWTH_KIB:
        raise Crash(f"the process grew by {growth} KiB")


def fuzz(seconds: float, seed: int) -> Progress:
    """Do it for *seconds*; raise `Crash` at the first thing that breaks."""
    progress = Progress(seconds)
    tracemalloc.start(1)
    try:
        for parser in PARSERS:  # what parsers cache for good is there before memory is measured
            attack(parser, random.Random(seed))
        at_start, _ = tracemalloc.get_traced_memory()
        peak_at_start = peak_kib()
        number = 0
        while progress.elapsed < seconds:
            number += 1
            _round(random.Random(f"{seed} {number}"), f"seed {seed}, round {number}", progress)
            check_memory(at_start, peak_at_start)
            progress.tell()
    finally:
        tracemalloc.stop()
    return progress


def _round(source: random.Random, name: str, progress: Progress) -> None:
    try:
        for _ in range(_CASES_AT_ONCE):
            attack(source.choice(PARSERS), source)
            progress.cases += 1
        run_ends(source, progress)
        progress.cases += 1
    except Crash as exc:
        raise Crash(f"{name}: {exc}") from exc


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 where nothing broke, 1 where something did."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Throw bytes at every parser and at whole sessions.")
    parser.add_argument("seconds", nargs="?", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, help="repeat the run of this seed")
    chosen = parser.parse_args(arguments)
    seed = chosen.seed if chosen.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}", flush=True)
    try:
        progress = fuzz(chosen.seconds, seed)
    except Crash as exc:
        print(exc, file=sys.stderr)
        print(f"again: python -m fuzz {chosen.seconds:g} --seed {seed}", file=sys.stderr)
        return 1
    progress.tell(last=True)
    print("nothing broke")
    return 0


if __name__ == "__main__":
    sys.exit(main())
