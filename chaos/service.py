# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent serve` as the process that it is: started, frozen, killed, and its memory looked at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING, Final

from host_agent.errors import LedgerTrouble
from host_agent.views.status import View
from host_agent.views.verdict import Verdict, judged

if TYPE_CHECKING:
    from host_agent.views.verdict import Stands

_TOP: Final = Path(__file__).parents[1]
_END_SECONDS: Final = 30.0
#: What is never in its log, however bad the times.
_NEVER: Final = ("Traceback", "a fault in pv-host-agent", "was set aside", "is damaged")


class Service:
    """With its directories below *work*, and more *arguments* if there are."""

    def __init__(self, work: Path, *arguments: str) -> None:
        self.documents, self.sockets, self.state = (work / name for name in ("documents", "sockets", "state"))
        for directory in (self.documents, self.sockets):
            directory.mkdir(mode=0o700)
        self.log = work / "service.log"
        options = {"--documents": self.documents, "--sockets": self.sockets, "--state": self.state}
        self._arguments = [str(word) for option in options.items() for word in option] + list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.started = 0.0

    def start(self) -> None:
        """It runs."""
        if self._process is None:
            with self.log.open("ab") as log:
                command = [sys.executable, "-m", "host_agent", "serve", "--no-xenstore", *self._arguments]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=_TOP)
            self.starts, self.started = self.starts + 1, time.monotonic()

    def signal(self, number: Signals) -> None:
        """It gets a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self, number: Signals = SIGKILL) -> str:
        """It ends; what was wrong with how, or ""."""
        process, self._process = self._process, None
        if process is None:
            return ""
        died = process.poll()
        process.send_signal(SIGCONT)
        process.send_signal(number)
        try:
            status = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"the service did not end within {_END_SECONDS:g} s of {number.name}"
        if died is not None or status not in (-number, 0 if number is SIGTERM else -number):  # it may not have begun to listen
            return f"the service ended by itself or wrongly: {died if died is not None else status}"
        return ""

    def resident(self) -> int:
        """Bytes of memory."""
        if self._process is None:
            return 0
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stands(self) -> list[Stands]:
        """Every VM, as the ledger has it."""
        try:
            with View(self.state) as view:
                return view.standings()
        except LedgerTrouble:  # not begun yet
            return []

    def ready(self) -> int:
        """How many VMs are what their documents say."""
        return sum(judged(vm).verdict is Verdict.READY for vm in self.stands())

    def faults(self) -> list[str]:
        """Lines of its log that should never be there."""
        with self.log.open(encoding="utf-8", errors="replace") as log:
            return [f"the service said: {line.strip()}" for line in log if any(word in line for word in _NEVER)]
