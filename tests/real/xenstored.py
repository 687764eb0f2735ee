# SPDX-License-Identifier: Apache-2.0
"""Xen's own daemons, xenstored and oxenstored, as they run on a dom0; the hypervisor alone is missing."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.xenstore.client import Client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

PROGRAMS = Path("/usr/lib/xen-4.17/bin")
INTRODUCE, RELEASE = 8, 9
DEADLINE_SECONDS = 30.0
#: The daemons' paths are fixed: they get a /run, a /var/log and a /proc of their own.
START = """
for place in run var/log proc; do mount --bind "$1/$place" "/$place" || exit 1; done
shift
exec "$@"
"""


def without_a_hypervisor(directory: Path) -> Path:
    """A library, made in *directory*, that stands for it when a daemon is started with it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.fail("a C compiler is missing; on Debian: apt-get install gcc libc6-dev")
    library = directory / "no_hypervisor.so"
    source = Path(__file__).with_name("no_hypervisor.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return library


class Daemon:
    """One that runs, at the socket *path*; the test is the toolstack."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self.path, self.process = path, process

    def tell(self, operation: int, *parts: str) -> None:
        """What only a toolstack says."""
        payload = b"".join(part.encode() + b"\0" for part in parts)
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(os.fspath(self.path))
            end.sendall(struct.pack("=IIII", operation, 1, 0, len(payload)) + payload)
            answer = end.recv(4096)
        assert struct.unpack_from("=I", answer)[0] == operation, answer

    def introduce(self, domid: int) -> None:
        self.tell(INTRODUCE, str(domid), "1", "1")

    def release(self, domid: int) -> None:
        self.tell(RELEASE, str(domid))

    def ask(self, story: Callable[[Client], Awaitable[None]], answer_seconds: float = DEADLINE_SECONDS) -> None:
        async def run() -> None:
            async with await Client.connect([self.path], answer_seconds=answer_seconds) as store:
                await story(store)

        asyncio.run(run())


@contextmanager
def running(name: str, directory: Path, no_hypervisor: Path) -> Iterator[Daemon]:
    """The daemon *name* of Debian's package, which keeps all that it has below *directory*."""
    program = PROGRAMS / name
    if os.geteuid() != 0 or not program.exists():
        pytest.fail(f"this test needs root and {program}; on Debian 12: apt-get install xen-utils-4.17")
    as_on_dom0(directory)
    command = ["unshare", "--mount", "sh", "-c", START, "sh", os.fspath(directory)]
    command += ["env", f"LD_PRELOAD={no_hypervisor}", "XENSTORED_RUNDIR=/run/xenstored"]
    command += [os.fspath(program), "--no-fork", "--pid-file", "/run/pid"]
    with (directory / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        yield Daemon(listening(directory / "run" / "xenstored" / "socket", process, directory / "said"), process)
    finally:
        process.kill()
        process.wait()


def as_on_dom0(root: Path) -> None:
    """The files that a daemon finds on a dom0: where the kernel's ring is, and directories for its own."""
    for name in ("run/xenstored", "run/xen", "var/log/xen", "proc/xen", "proc/sys/fs"):
        (root / name).mkdir(parents=True)
    (root / "proc/xen/xsd_port").write_text("1")
    (root / "proc/xen/xsd_kva").write_bytes(bytes(4096))
    (root / "proc/sys/fs/nr_open").write_text("1024\n")  # oxenstored makes this its limit, and root in a container may have less


def listening(path: Path, process: subprocess.Popen[bytes], said: Path) -> Path:
    """*path* once somebody answers there."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        with socket.socket(socket.AF_UNIX) as end:
            if end.connect_ex(os.fspath(path)) == 0:
                return path
        time.sleep(0.02)
