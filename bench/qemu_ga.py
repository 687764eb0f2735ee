# SPDX-License-Identifier: Apache-2.0
"""Questions whether the guest is there: sealed, to our agent on its tty, beside plain ones to QEMU's guest agent on its socket.

Theirs is a C program, and what it says is neither sealed nor signed; who asks is Python both times. What counts is processor
time, that of who asks and that of who answers. Each agent is a process of its own, as it is installed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from bench.dom0 import cpu_seconds
from bench.row import Row, paired
from bench.tty import DEADLINE_SECONDS, Tty
from lab.demo import make_root
from pv_channel import CHANNEL_NAME
from pv_channel.greeting import NO_UUID
from pv_channel.messages import Ping, Pong
from pv_channel.noise import KeyPair
from pv_channel.session import FromGuest, Host, Sealed

if TYPE_CHECKING:
    from collections.abc import Callable

PINGS: Final = 5000
PAIRS: Final = 5
_ENOUGH: Final = 65536
_encode = msgspec.json.encode
_decode = msgspec.json.decode


def rows() -> list[Row]:
    """Pings for each second of a processor, of one against the other."""
    ratio, ours, theirs = paired(sealed, plain, PAIRS)
    measured = f"{PINGS / ours:,.0f} a CPU second, sealed and in Python; qemu-ga {PINGS / theirs:,.0f}, plain and in C"
    note = "two lines and two seals each way, in Python on both sides"
    return [Row("pings a CPU second to qemu-ga's, both sides counted", 1 / ratio, 0.3, "higher", measured, note)]


def sealed() -> float:
    """Processor seconds of both for so many pings to our agent."""
    host = Host(channel=CHANNEL_NAME.encode("ascii"), uuid=NO_UUID, key=KeyPair.generate(), random_bytes=os.urandom)
    with Tty() as tty, tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
        make_root(Path(scratch))
        program = str(Path(sys.executable).with_name("pv-guest-agent"))
        with _agent([program, "run", "--tty", tty.name, "--root", scratch]) as agent:
            host.greet()
            os.write(tty.master, host.data_to_send())
            while not any(isinstance(event, Sealed) for event in host.receive(tty.read())):
                pass

            def ping(number: int) -> None:
                host.send(Ping(number))
                os.write(tty.master, host.data_to_send())
                events = host.receive(os.read(tty.master, _ENOUGH))
                while not events:
                    events = host.receive(os.read(tty.master, _ENOUGH))
                if not _answers(events[0], number):
                    raise RuntimeError(f"our agent does not answer: {events!r}")

            return _cost(agent, ping)


def _answers(event: object, number: int) -> bool:
    return isinstance(event, FromGuest) and isinstance(event.message, Pong) and event.message.n == number


def plain() -> float:
    """Processor seconds of both for so many of theirs."""
    with tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
        path = Path(scratch) / "socket"
        files = ("--statedir", scratch, "--pidfile", f"{scratch}/pid", "--logfile", f"{scratch}/log")
        with _agent([qemu_ga(), "--method", "unix-listen", "--path", str(path), *files]) as agent, _connected(path) as end:

            def ping(_: int) -> None:
                end.sendall(_encode({"execute": "guest-ping"}) + b"\n")
                if "return" not in _decode(end.recv(_ENOUGH)):
                    raise RuntimeError("qemu-ga does not answer")

            return _cost(agent, ping)


def _agent(command: list[str]) -> subprocess.Popen[bytes]:
    """The program, which its `with` ends."""

    class Ended(subprocess.Popen[bytes]):
        def __exit__(self, *_: object) -> None:
            self.kill()
            self.communicate()

    null = subprocess.DEVNULL
    return Ended(command, stdin=null, stdout=null, stderr=null)


def qemu_ga() -> str:
    """The program, or "" where Debian's package qemu-guest-agent is not installed."""
    return shutil.which("qemu-ga", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") or ""


def _connected(path: Path) -> socket.socket:
    deadline = time.monotonic() + DEADLINE_SECONDS
    end = socket.socket(socket.AF_UNIX)
    while True:
        try:
            end.connect(os.fspath(path))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return end


def _cost(agent: subprocess.Popen[bytes], ping: Callable[[int], None]) -> float:
    """Processor seconds of us and of *agent* for all the pings; the first ones are not counted."""
    for number in range(1, 11):
        ping(number)
    before = time.process_time() + cpu_seconds(agent.pid)
    for number in range(11, PINGS + 11):
        ping(number)
    return time.process_time() + cpu_seconds(agent.pid) - before
