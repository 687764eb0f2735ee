# SPDX-License-Identifier: Apache-2.0
"""What an idle VM costs dom0's memory, of ten thousand: all of it, beside what a bare connection of asyncio costs.

`python -m bench.idle DIRECTORY COUNT` is that: streams to so many sockets and nothing else; it prints the bytes for each.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.crowd import Crowd, name
from bench.dom0 import APPLIED, Dom0, cpu_seconds, private_bytes
from bench.row import Row

VMS = 10_000
#: So many have loaded all code, and are not counted.
_BEFORE = 10
#: From a document that is applied to the first question whether the guest is there, and its answer.
_QUIET_SECONDS = 7


def rows() -> list[Row]:
    """The service has a session, a document, a ledger's row and what else it keeps for each; guests are other processes."""
    with tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
        dom0 = Dom0(Path(scratch))
        with Crowd(dom0.sockets, VMS) as guests:
            guests.boot()
            bare = _bare(dom0.sockets)
            ours, cpu = _served(dom0)
    measured = f"{ours:.0f} bytes a VM; a bare asyncio stream {bare:.0f}; {cpu * 100:.0f} % of a core for all of them"
    note = "per VM: the session, the conversation, the document's JSON, its path and what tells its file from the next"
    what = f"memory of an idle VM, of {VMS:,}, to a bare asyncio stream"
    return [Row(what, ours / bare, 2.0, "lower", measured, note)]


def _served(dom0: Dom0) -> tuple[float, float]:
    """Bytes for each VM, and processor seconds a second for all."""
    dom0.want(0, _BEFORE)
    with dom0:
        dom0.wait(APPLIED, _BEFORE)
        time.sleep(_QUIET_SECONDS)
        before = private_bytes(dom0.process.pid)
        dom0.want(_BEFORE, VMS - _BEFORE)
        dom0.wait(APPLIED, VMS)
        time.sleep(_QUIET_SECONDS)
        began, used = time.monotonic(), cpu_seconds(dom0.process.pid)
        time.sleep(_QUIET_SECONDS)
        share = (cpu_seconds(dom0.process.pid) - used) / (time.monotonic() - began)
        return (private_bytes(dom0.process.pid) - before) / (VMS - _BEFORE), share


def _bare(sockets: Path) -> float:
    """Bytes for each connection, of as many."""
    command = [sys.executable, "-m", "bench.idle", os.fspath(sockets), str(VMS)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def connect(sockets: Path, count: int) -> float:
    """Have so many; bytes for each."""
    before = private_bytes(os.getpid())
    streams = [await asyncio.open_unix_connection(sockets / f"{name(number)}.sock") for number in range(count)]
    gc.collect()
    after = private_bytes(os.getpid())
    for _, writer in streams:
        writer.transport.abort()
    return (after - before) / count


if __name__ == "__main__":
    print(asyncio.run(connect(Path(sys.argv[1]), int(sys.argv[2]))))
