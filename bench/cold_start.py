# SPDX-License-Identifier: Apache-2.0
"""What the guest agent costs at boot: time from process start to the answered greeting, and peak memory.

The floor is a bare interpreter that imports the same third-party modules and then writes to the same tty.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.row import Row, paired
from bench.tty import DEADLINE_SECONDS, Tty, provision
from lab.demo import document, make_root
from pv_channel import CHANNEL_NAME
from pv_channel.document import from_values
from pv_channel.greeting import NO_UUID
from pv_channel.noise import KeyPair
from pv_channel.session import Host, Sealed

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS = 15
#: Everything third-party that the agent has loaded when it answers; `cryptography` loads its backend with the first key.
FLOOR = """
import sys
import cryptography.hazmat.backends.openssl.backend
import cryptography.hazmat.primitives.asymmetric.x25519
import cryptography.hazmat.primitives.ciphers.aead
import msgspec
import serial
with open(sys.argv[1], "r+b", buffering=0) as tty:
    tty.write(b"ready\\n")
    tty.read()
"""


class Run(NamedTuple):
    """Seconds to the first sign of life, and the peak of resident memory in KiB when all was done."""

    seconds: float
    peak_kib: int


def rows() -> list[Row]:
    """Both runs in turn; the agent's memory is taken after it has applied a document."""
    agents: list[Run] = []
    floors: list[Run] = []

    def seconds(run: Callable[[], Run], runs: list[Run]) -> float:
        runs.append(run())
        return runs[-1].seconds

    ratio, ours, floor = paired(lambda: seconds(agent, agents), lambda: seconds(bare, floors), PAIRS)
    memory, bare_memory = max(run.peak_kib for run in agents), max(run.peak_kib for run in floors)
    return [
        Row(
            "guest cold start to greeting answered",
            ratio,
            1.4,
            "lower",
            f"{ours * 1000:.1f} ms, floor {floor * 1000:.1f} ms",
            "imports of our own modules and building the message decoders; `-X importtime` shows each",
        ),
        Row(
            "peak memory of the guest agent",
            memory / bare_memory,
            1.3,
            "lower",
            f"{memory / 1024:.1f} MiB after applying a document, floor {bare_memory / 1024:.1f} MiB",
            "our modules, the decoders, and what applying imports (subprocess)",
        ),
    ]


def bare() -> Run:
    """One run of the floor."""
    with Tty() as tty:
        began = time.perf_counter()
        process = _start([sys.executable, "-c", FLOOR, tty.name])
        tty.read_until(lambda data: b"ready" in data)
        seconds = time.perf_counter() - began
        run = Run(seconds, _peak_kib(process.pid))
        _end(process)
    return run


def agent() -> Run:
    """One run of the agent: the greeting waits in the tty when it starts, as on a real first boot."""
    host = Host(channel=CHANNEL_NAME.encode("ascii"), uuid=NO_UUID, key=KeyPair.generate(), random_bytes=os.urandom)
    with Tty() as tty, tempfile.TemporaryDirectory(prefix="pv-bench-") as scratch:
        root = Path(scratch)
        make_root(root)
        host.greet()
        os.write(tty.master, host.data_to_send())
        began = time.perf_counter()
        process = _start([str(Path(sys.executable).with_name("pv-guest-agent")), "run", "--tty", tty.name, "--root", scratch])
        answered = tty.read_until(lambda data: re.search(rb"\n< [^\n]*\n", data) is not None)
        seconds = time.perf_counter() - began
        events = host.receive(answered)
        if not any(isinstance(event, Sealed) for event in events):
            raise RuntimeError(f"the agent's answer completed no handshake: {events!r}")
        provision(host, tty, from_values(_yaml(document("web1"))).at_generation(1))
        run = Run(seconds, _peak_kib(process.pid))
        _end(process)
    return run


def _yaml(text: str) -> object:
    import yaml

    return yaml.safe_load(text)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    # Bytecode is cached, as an installed package's is.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=null, stdout=null, stderr=null, env=environment)


def _peak_kib(pid: int) -> int:
    """VmHWM (proc(5)); unlike ru_maxrss it does not remember the parent that forked."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no VmHWM of {pid}")
    return int(found[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
