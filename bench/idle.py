# SPDX-License-Identifier: Apache-2.0
"""What an idle VM costs dom0's memory, of ten thousand: all of it, beside what a bare connection of asyncio costs.

`python -m bench.idle DIRECTORY COUNT KIND` is that: connections to so many sockets and nothing else; it prints the bytes of each.
The kind that we are held against, ``protocol``, is the least that asyncio has: a transport, whose protocol drops everything. What
`asyncio.open_unix_connection` gives, a reader and a writer (``stream``), is shown beside it. The kernel's part of a connection is
the same for all, and is not counted.
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
from bench.descriptors import connections
from bench.dom0 import APPLIED, Dom0, cpu_seconds, private_bytes
from bench.row import Row
from host_agent.at_start import allow_many_files

VMS = 10_000
#: So many have loaded all code, and are not counted.
_BEFORE = 10
#: From a document that is applied to the first question whether the guest is there, and its answer.
_QUIET_SECONDS = 7


def rows() -> list[Row]:
    """The service has a session, a document, a ledger's row and what else it keeps for each; guests are other processes."""
    with tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
        dom0 = Dom0(Path(scratch))
        vms = min(VMS, connections())
        with Crowd(dom0.sockets, vms) as guests:
            guests.boot()
            bare, stream = (_bare(dom0.sockets, vms, kind) for kind in ("protocol", "stream"))
            ours, cpu = _served(dom0, vms)
    measured = f"{ours:.0f} bytes a VM; a transport that drops everything {bare:.0f}, a bare reader and writer {stream:.0f}"
    measured += f"; {cpu * 100:.0f} % of a core for all of them"
    if vms < VMS:
        measured += f"; not of {VMS:,}: the hard limit of RLIMIT_NOFILE allows a process no more"
    note = "per VM: the sleeping conversation, the document's JSON, paths and what tells a file from the next, the log's words"
    what = f"memory of an idle VM, of {vms:,}, to a bare asyncio connection"
    return [Row(what, ours / bare, 2.0, "lower", measured, note)]


def _served(dom0: Dom0, vms: int) -> tuple[float, float]:
    """Bytes for each VM, and processor seconds a second for all."""
    dom0.want(0, _BEFORE)
    with dom0:
        dom0.wait(APPLIED, _BEFORE)
        time.sleep(_QUIET_SECONDS)
        before = private_bytes(dom0.process.pid)
        dom0.want(_BEFORE, vms - _BEFORE)
        dom0.wait(APPLIED, vms)
        time.sleep(_QUIET_SECONDS)
        began, used = time.monotonic(), cpu_seconds(dom0.process.pid)
        time.sleep(_QUIET_SECONDS)
        share = (cpu_seconds(dom0.process.pid) - used) / (time.monotonic() - began)
        return (private_bytes(dom0.process.pid) - before) / (vms - _BEFORE), share


def _bare(sockets: Path, count: int, kind: str) -> float:
    """Bytes for each connection, of so many."""
    command = [sys.executable, "-m", "bench.idle", os.fspath(sockets), str(count), kind]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class _Connection(asyncio.Protocol):
    """As little as can be made use of."""

    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


async def connect(sockets: Path, count: int, kind: str) -> float:
    """Have so many; bytes for each."""
    loop = asyncio.get_running_loop()
    connected: list[object] = []
    before = private_bytes(os.getpid())
    for number in range(count):
        path = os.fspath(sockets / f"{name(number)}.sock")
        if kind == "stream":
            connected.append(await asyncio.open_unix_connection(path))
        else:
            connected.append(await loop.create_unix_connection(_Connection, path))
    gc.collect()
    return (private_bytes(os.getpid()) - before) / count


def main(directory: str, count: str, kind: str) -> None:
    """Print it, and end without the work of closing each."""
    allow_many_files()
    print(asyncio.run(connect(Path(directory), int(count), kind)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
