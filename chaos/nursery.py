# SPDX-License-Identifier: Apache-2.0
"""Where guests come from: a process that has loaded the agent once and forks one for each, so that hundreds fit a small machine.

``python -m chaos.nursery DIRECTORY``: a command a line on standard input, ``start NUMBER TTY``, ``look``, ``kill``, ``freeze`` or
``thaw`` and a NUMBER, and a line for each on standard output when it is done. At the end of its input all guests are killed.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never

from chaos import guest
from guest_agent.provision import Provisioner
from guest_agent.system import System

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIGNALS: Final = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "thaw": signal.SIGCONT}


class Nursery:
    """The guests whose homes are below *directory*, by their numbers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pids: dict[int, int] = {}

    def do(self, command: str, number: int, *tty: str) -> str:
        """Whether it ``lives`` or is ``dead`` now, or that it ``ended`` by itself, and with which status."""
        ended = self._ended(number)
        if command == "start":
            if number not in self._pids:
                self._pids[number] = self._fork(number, *tty)
        elif command in _SIGNALS and number in self._pids:
            os.kill(self._pids[number], _SIGNALS[command])
            if command == "kill":
                os.waitpid(self._pids.pop(number), 0)
        return ended or ("lives" if number in self._pids else "dead")

    def end(self) -> None:
        """Kill all of them."""
        for number in list(self._pids):
            self.do("kill", number)

    def _ended(self, number: int) -> str:
        """How it has ended by itself, which an agent never does; killed, it may be."""
        pid = self._pids.get(number)
        if pid is None:
            return ""
        found, status = os.waitpid(pid, os.WNOHANG)
        if not found:
            return ""
        del self._pids[number]
        code = os.waitstatus_to_exitcode(status)
        return "" if code == -signal.SIGKILL else f"ended with status {code}"

    def _fork(self, number: int, tty: str) -> int:
        pid = os.fork()
        if pid == 0:
            become(guest_home(self._directory, number), tty)
        return pid


def guest_home(directory: Path, number: int) -> Path:
    """Where a guest has its root, its log and its record."""
    return directory / f"guest{number}"


def become(home: Path, tty: str) -> Never:
    """Be the guest's agent, with nothing of the nursery's."""
    status = 1
    try:
        os.setsid()
        log = os.open(home / guest.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDWR)
        for ours, theirs in ((null, 0), (null, 1), (log, 2)):
            os.dup2(ours, theirs)
        status = guest.run(home, tty)
    except Exception:  # noqa: BLE001 -- it goes to the guest's own log, and its end is noticed
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def load_all() -> None:
    """Carry a document out once, so that what takes a guest's loading is loaded here."""
    with tempfile.TemporaryDirectory(prefix="pv-chaos-") as scratch:
        guest.make_root(Path(scratch))
        document = {"instance-id": "i-0", "generation": 1, "local-hostname": "web0"}
        document |= {"write_files": [{"path": guest.SERIAL_FILE, "content": "0\n"}]}
        provisioner = Provisioner(System(Path(scratch) / guest.ROOT), "0.1.0")
        result = provisioner.provision(json.dumps(document).encode("ascii"), None, lambda *_: None)
        provisioner.facts()
        if result.reason or result.outcome.value != "applied":
            raise SystemExit(f"the chaos' document cannot be applied at all: {result}")


def main(arguments: Sequence[str]) -> int:
    """Until there is no more input."""
    nursery = Nursery(Path(arguments[0]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    load_all()
    gc.collect()
    gc.freeze()  # what is here stays, and is shared with all guests
    print("ready", flush=True)
    try:
        for line in sys.stdin:
            command, number, *tty = line.split()
            print(nursery.do(command, int(number), *tty), flush=True)
    finally:
        nursery.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
