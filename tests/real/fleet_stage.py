# SPDX-License-Identifier: Apache-2.0
"""Dom0s of a fleet as processes of `serve --fleet`, each with its own sockets and state, and VMs that are at one of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from host_agent.errors import LedgerTrouble
from host_agent.views.status import View
from tests.host.fakes import FakeGuest, FakeQemu

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Generous: these are processes on a machine that may be busy with others.
DEADLINE_SECONDS: Final = 60.0
TOP: Final = Path(__file__).parents[2]
#: A lease long enough for a busy machine to keep, and one short enough to wait for its end.
LONG, SHORT = 60, 4


def eventually(true: Callable[[], object], what: str | Callable[[], str]) -> None:
    """Wait until *true* is; fail saying *what* never was."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.05)


class Dom0:
    """The host called *name*, below *work*; *lines* are its fleet file's, and *inside* words to start it with."""

    def __init__(self, work: Path, name: str, lines: str, inside: Sequence[str] = ()) -> None:
        self.name, self._inside = name, inside
        self.directory = work / name
        self.sockets, self.state = self.directory / "sockets", self.directory / "state"
        self.sockets.mkdir(mode=0o700, parents=True)
        self.log, self.fleet = self.directory / "log", self.directory / "fleet.yaml"
        self.fleet.write_text(f"dom0: {name}\n{lines}")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Serve; return once everything was looked at for the first time."""
        started = self.text.count(" serves ")
        words = ["serve", "--no-xenstore", "--fleet", self.fleet, "--sockets", self.sockets, "--state", self.state]
        command = [*self._inside, sys.executable, "-m", "host_agent", *map(str, words)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(lambda: self.text.count(" serves ") > started, lambda: self.text[-3000:])

    def kill(self) -> None:
        """As a crash of the whole host does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As systemd does."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """As a host does that hangs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text() if self.log.exists() else ""

    def vm(self, name: str) -> dict[str, Any]:
        """What its ledger has of a VM."""
        try:
            with View(self.state) as view:
                return view.one(name) or {}
        except LedgerTrouble:
            return {}

    def has(self, name: str, **values: object) -> bool:
        """Whether its ledger has these *values* of a VM."""
        vm = self.vm(name)
        return all(vm.get(key.replace("_", "-")) == value for key, value in values.items())

    def says(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What `pv-host-agent fleet` says, asked from this host."""
        verb, *rest = words
        command = [*self._inside, sys.executable, "-m", "host_agent", "fleet", verb, "--fleet", str(self.fleet), *rest]
        return subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=2 * DEADLINE_SECONDS)

    def status(self, *words: str) -> Any:
        """What `fleet status --json` says."""
        done = self.says("status", "--json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def doctor(self, vm: str) -> dict[str, str]:
        """What `doctor` finds wrong with a VM, asked here: the verdicts, by their names."""
        where = ("--no-xenstore", "--fleet", self.fleet, "--sockets", self.sockets, "--state", self.state)
        command = [*self._inside, sys.executable, "-m", "host_agent", "doctor", vm, "--json", *map(str, where)]
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=2 * DEADLINE_SECONDS)
        assert done.returncode in (0, 1), done.stderr
        return {found["name"]: found["verdict"] for found in json.loads(done.stdout)["findings"]}

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            if number == signal.SIGKILL:
                self._process.send_signal(signal.SIGCONT)
            self._process.wait(DEADLINE_SECONDS)
            self._process = None


class Vm:
    """The VM called *name*, whose guest keeps what it has applied wherever it is."""

    def __init__(self, name: str, guest: FakeGuest | None = None) -> None:
        self.name, self.guest = name, guest or FakeGuest()
        self.qemu: FakeQemu | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def at(self, dom0: Dom0) -> None:
        """It runs on *dom0* from now on, and nowhere else."""
        self.leave()
        self.guest.restart()
        self.qemu = FakeQemu(dom0.sockets / f"{self.name}.sock", self.guest)
        self.qemu.__enter__()

    def leave(self) -> None:
        """It runs nowhere."""
        if self.qemu is not None:
            self.qemu.__exit__()
            self.qemu = None

    @property
    def became(self) -> list[tuple[int, str]]:
        """The generations that its guest has applied, one after the other, with the hostnames."""
        return [(int(str(each.generation)), str(each.local_hostname)) for each in self.guest.applied]


def document(name: str, hostname: str) -> str:
    """A VM's."""
    return f"instance-id: i-{name}\nlocal-hostname: {hostname}\n"
