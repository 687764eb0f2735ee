# SPDX-License-Identifier: Apache-2.0
"""A dom0 below a scratch directory: documents, sockets, and the real service as a process of its own, whose ledger says when."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from bench.crowd import name
from host_agent.documents.directory import SETTLED_SECONDS
from host_agent.ledger.schema import FILE_NAME

#: Generous: a machine that takes this long is not measured.
DEADLINE_SECONDS = 600
_LOOK_SECONDS = 0.01
#: To look at the ledger of many VMs must not take a part of what is measured.
_BETWEEN_LOOKS = 20
_NETWORK = {"version": 2, "ethernets": {"eth0": {"dhcp4": True}}}
_TICKS = os.sysconf("SC_CLK_TCK")


class Dom0:
    """Its directories are below *scratch*; within `with` the service runs, with these *words* besides."""

    def __init__(self, scratch: Path, *words: str) -> None:
        self.documents, self.sockets, self.state = scratch / "documents", scratch / "sockets", scratch / "state"
        for directory in (self.documents, self.sockets):
            directory.mkdir(mode=0o700, exist_ok=True)
        self._log, self._words = scratch / "log", words

    def __enter__(self) -> Self:
        where = ("--documents", self.documents, "--sockets", self.sockets, "--state", self.state)
        command = [sys.executable, "-m", "host_agent", "serve", "--no-xenstore", *map(str, where), *self._words]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(DEADLINE_SECONDS)
        finally:
            self.process.kill()

    def want(self, first: int, count: int) -> None:
        """Documents for so many VMs, old enough to be taken for whole."""
        then = time.time() - 2 * SETTLED_SECONDS
        for number in range(first, first + count):
            path = self.documents / f"{name(number)}.json"
            path.write_text(json.dumps({"instance-id": f"i-{number}", "local-hostname": f"web{number}", "network": _NETWORK}))
            os.utime(path, (then, then))

    def wait(self, what: str, count: int, names: str = "vm%") -> float:
        """Until of so many VMs with these *names* the ledger says *what*, in SQL; when that was."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            began = time.monotonic()
            if self._count(what, names) >= count:
                return began
            if began > deadline or self.process.poll() is not None:
                raise RuntimeError(f"not so within {DEADLINE_SECONDS} s, of {count} VMs: {what}; {self._log.read_text()[-2000:]}")
            time.sleep(max(_LOOK_SECONDS, _BETWEEN_LOOKS * (time.monotonic() - began)))

    def _count(self, what: str, names: str) -> int:
        try:
            with sqlite3.connect(f"file:{self.state / FILE_NAME}?mode=ro", uri=True) as db:
                found = db.execute(f"SELECT count(*) FROM vm WHERE name LIKE ? AND {what}", (names,)).fetchone()
        except sqlite3.OperationalError:  # it is not there yet
            return 0
        db.close()
        return int(found[0])


#: What the ledger says of a VM that is what its document says, and of one that has been greeted and has not answered.
APPLIED = "generation_applied>0"
GREETED = "state='greeting'"


def private_bytes(pid: int) -> int:
    """What a process has in memory that is its alone (proc_pid_smaps_rollup(5))."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    return 1024 * sum(int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.MULTILINE))


def cpu_seconds(pid: int) -> float:
    """What a process has used (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
