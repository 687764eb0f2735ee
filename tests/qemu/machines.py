# SPDX-License-Identifier: Apache-2.0
"""Real QEMUs: which there are, and one that runs with its monitors' sockets, for as long as a test needs it."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.qemu.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: A loaded machine starts a program late; a QEMU that does not come up at all ends long before.
START_SECONDS = 120.0

#: Of the flags in /proc/net/unix, the kernel's SO_ACCEPTCON.
_LISTENING = "00010000"


@dataclass(frozen=True)
class Qemu:
    """A QEMU that can be started: its version's first number, its program, and where its parts are."""

    version: int
    program: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    firmware: Sequence[Path] = ()

    def __str__(self) -> str:
        return f"QEMU {self.version}"

    def command(self, *arguments: str | Path) -> list[str]:
        """The argument list of a small machine without devices; *arguments* come last, and may bring their own -machine or -m."""
        words: list[str | Path] = [self.program, *(word for path in self.firmware for word in ("-L", path))]
        words += ["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"]
        words += [] if "-machine" in arguments else ["-machine", "pc"]
        words += [] if "-m" in arguments else ["-m", "32"]
        return [str(word) for word in [*words, *arguments]]

    def asked(self, *arguments: str) -> str:
        """What the program prints when it is run with these arguments alone."""
        argv = [str(self.program), *arguments]
        return subprocess.run(argv, env=self.surroundings(), capture_output=True, text=True, check=True).stdout

    def surroundings(self) -> dict[str, str]:
        """The environment to start it in."""
        return {**os.environ, **self.environment}


class Running:
    """A QEMU process with a monitor at `qmp`; what it prints is kept in `log`."""

    def __init__(self, qemu: Qemu, directory: Path, name: str, arguments: Sequence[str | Path]) -> None:
        self.qemu = qemu
        self.qmp = directory / f"{name}.qmp"
        self.log = directory / f"{name}.log"
        argv = qemu.command(*arguments, "-qmp", f"unix:{self.qmp},server=on,wait=off")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv, env=qemu.surroundings(), cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        """The process's."""
        return self.process.pid

    def said(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def await_monitor(self) -> None:
        """Until it listens on its socket; AssertionError with what it printed when it ends before."""
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            assert self.alive(), f"{self.qemu} ended with status {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < deadline, f"{self.qemu} has no monitor after {START_SECONDS} s:\n{self.said()}"
            time.sleep(0.02)

    def _listens(self) -> bool:
        # The file is there a moment before the socket listens, and a connection would be a client.
        sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
        return any(socket[3] == _LISTENING and socket[-1] == str(self.qmp) for socket in sockets)

    def monitor(self) -> Monitor:
        """A connection to its monitor, for a `with`; QEMU serves one at a time."""
        return Monitor(self.qmp)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Its exit status, once it has ended by itself."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self.alive():
            self.process.kill()
        self.process.wait()
