# SPDX-License-Identifier: Apache-2.0
"""The guest agent as a process that takes a folder for the running machine: its network runs, its programs are fakes.

``python -m tests.pair.live_guest TTY ROOT``. Scripts of user-data are the exception: they are run, by the agent's own runner.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from guest_agent import command
from guest_agent import run as verb
from guest_agent.__main__ import main
from guest_agent.command import Completed
from guest_agent.log import Log
from guest_agent.system import System
from guest_agent.user_data import Runner
from guest_agent.user_data_run import DIRECTORY, UNIT
from tests.guest.machine import FakeKernel

if TYPE_CHECKING:
    from collections.abc import Sequence

MAC = "00:16:3e:00:00:01"


def prepare(root: Path) -> None:
    """Have networkd run in the machine under *root*, an interface of the documents' address, and the unit for scripts."""
    interface = root / "sys/class/net/eth0"
    interface.mkdir(parents=True)
    for name, content in {"address": MAC, "operstate": "up", "ifindex": "7"}.items():
        (interface / name).write_text(f"{content}\n")
    for path in (root / "run/systemd/netif/state", root / "etc/systemd/system" / UNIT):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def live(root: Path) -> System:
    """The machine under *root*."""
    kernel = FakeKernel(root.parent / "kernel-hostname")
    kernel.set_hostname("template")

    def run(argv: Sequence[str], *, given: bytes = b"") -> Completed:
        if list(argv) == ["systemctl", "start", "--no-block", UNIT]:
            threading.Thread(target=Runner(System(root, run=run, live=True, kernel=kernel), Log()).run, daemon=True).start()
        return command.run(argv) if argv[0].startswith(f"{root}{DIRECTORY}/") else Completed(0, b"")

    return System(root, run=run, live=True, kernel=kernel)


if __name__ == "__main__":
    vars(verb)["System"] = lambda root: live(Path(sys.argv[2]))  # whatever root: this is the machine
    sys.exit(main(["run", "--tty", sys.argv[1]]))
