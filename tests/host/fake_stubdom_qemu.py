# SPDX-License-Identifier: Apache-2.0
"""A program in QEMU's place for the launcher to start: it records its arguments, greets, takes state in and saves some.

What it does beside that is said by the environment's FAKE_QEMU, a word or two: ``dies``, ``mute``, ``stubborn``,
``says-running``, ``orphans``. Its state is any bytes that end with END.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from host_agent.stubdom.launch_xenstore import Xenstore

END = b"end of state"
GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "fake"}, "capabilities": []}}


def values(argv: list[str], option: str) -> list[str]:
    return [value for before, value in pairwise(argv) if before == option]


class FakeQemu:
    """One that runs."""

    def __init__(self, argv: list[str], behaviour: list[str]) -> None:
        self.behaviour, self.state = behaviour, b""
        self.selector = selectors.DefaultSelector()
        (qmp,) = values(argv, "-qmp")
        self.listener = socket.socket(socket.AF_UNIX)
        path = qmp.removeprefix("unix:").removesuffix(",server=on,wait=off").replace(",,", ",")
        Path(path).unlink(missing_ok=True)
        self.listener.bind(path)
        self.listener.listen()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        (monitor,) = (value for value in values(argv, "-chardev") if "id=pv-stubdom-launch" in value)
        self.talk(socket.socket(fileno=int(monitor.rpartition("fd=")[2])))
        self.incoming = [int(value.removeprefix("fd:")) for value in values(argv, "-incoming") if value.startswith("fd:")]
        for descriptor in self.incoming:
            self.selector.register(descriptor, selectors.EVENT_READ, partial(self.take, descriptor))

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                key.data()

    def accept(self) -> None:
        self.talk(self.listener.accept()[0])

    def talk(self, end: socket.socket) -> None:
        if "mute" not in self.behaviour:
            self.say(end, GREETING)
        self.selector.register(end, selectors.EVENT_READ, lambda: self.hear(end))

    def say(self, end: socket.socket, what: object) -> None:
        end.sendall(json.dumps(what).encode() + b"\r\n")

    def hear(self, end: socket.socket) -> None:
        data = end.recv(65536)
        if not data:
            self.selector.unregister(end)
            end.close()
        for line in data.splitlines():
            self.say(end, self.answer(**json.loads(line)))

    def answer(self, execute: str, arguments: dict[str, Any] | None = None) -> object:
        if execute == "xen-save-devices-state" and arguments:
            descriptor = os.open(arguments["filename"], os.O_WRONLY)
            os.write(descriptor, bytes(range(256)) + END)
            os.close(descriptor)
        if execute == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if execute == "quit":
            sys.exit(0)
        if execute == "query-status":
            return {"return": {"status": "inmigrate" if self.incoming else "running"}}
        if execute == "query-state":
            return {"return": self.state.hex()}
        return {"return": {}}

    def take(self, descriptor: int) -> None:
        self.state += os.read(descriptor, 4096)
        if self.state.endswith(END):
            self.selector.unregister(descriptor)
            self.incoming = []


def orphan_is_reaped() -> bool:
    """Whether process 1 takes the status of a process that is left to it."""
    with os.popen("sleep 0.05 & echo $!") as shell:
        pid = int(shell.readline())
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def main() -> None:
    argv, behaviour = sys.argv[1:], os.environ.get("FAKE_QEMU", "").split()
    record = Path(os.environ["FAKE_QEMU_RECORD"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in behaviour else lambda *_: os._exit(0))
    open_now = sorted(int(each.name) for each in Path("/proc/self/fd").iterdir())
    arguments = [os.fsencode(argument).hex() for argument in argv]
    temporary = record.with_suffix(".new")
    temporary.write_text(json.dumps({"pid": os.getpid(), "argv": arguments, "descriptors": open_now}))
    temporary.rename(record)
    if "dies" in behaviour:
        sys.exit(3)
    if "says-running" in behaviour:
        store = Xenstore.open(Path(os.environ["FAKE_XENSTORED"]))
        store.write("/local/domain/5/device-model/7/state", b"running")
        store.write("/local/domain/5/device-model/7/says", b"QEMU")
    if "orphans" in behaviour:
        print(f"an orphan was {'taken care of' if orphan_is_reaped() else 'left'}", file=sys.stderr, flush=True)
    FakeQemu(argv, behaviour).run()


if __name__ == "__main__":
    main()
