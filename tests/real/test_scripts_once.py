# SPDX-License-Identifier: Apache-2.0
"""A script of user-data runs once: killed anywhere, the runner never starts one again, and always comes to a result."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import guest_agent
from guest_agent.command import Completed
from guest_agent.late import news
from guest_agent.log import Log
from guest_agent.state import Store
from guest_agent.user_data import Runner
from guest_agent.user_data_run import DIRECTORY, RESULT, UNIT
from pv_channel.messages import Outcome
from tests.guest.machine import Machine, document, provision
from tests.guest.test_user_data import several

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

PACKAGE = str(Path(guest_agent.__file__).parent)
STRIDE = 3


def prepared(top: Path) -> Machine:
    """A machine with two scripts to run."""
    made = Machine(top)
    made.write(f"etc/systemd/system/{UNIT}")
    provision(made, document(user_data=several("#!/bin/sh\none\n", "#!/bin/sh\ntwo\n")))
    return made


def perform(machine: Machine) -> int:
    """What the unit does, with programs that note on the disk that they ran: a kill of the runner takes nothing of that back."""

    def run(argv: Sequence[str], *, given: bytes = b"") -> Completed:
        if "script-" in argv[0]:
            with (machine.root / "ran").open("a") as ran:
                ran.write(Path(argv[0]).read_text().split()[1] + "\n")
        return Completed(0, b"")

    machine.system.run = run
    return Runner(machine.system, Log(io.StringIO(), {})).run()


def killed_at_line(at: int, machine: Machine) -> bool:
    """Whether there was such a line of the agent at all."""
    pid = os.fork()
    if pid:
        return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    count = 0

    def line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return line

    sys.settrace(lambda frame, event, argument: line if frame.f_code.co_filename.startswith(PACKAGE) else None)
    perform(machine)
    os._exit(0)


def test_killed_anywhere_no_script_runs_twice_and_the_host_is_told_what_became_of_them() -> None:
    outcomes = set()
    with TemporaryDirectory(dir="/dev/shm") as memory:
        for at in itertools.count(1, STRIDE):
            machine = prepared(Path(memory) / str(at))
            if not killed_at_line(at, machine):
                break
            perform(machine)
            ran = machine.read("ran").split() if (machine.root / "ran").exists() else []
            assert len(set(ran)) == len(ran), f"a script ran twice after a kill at line {at}: {ran}"
            state = Store(machine.system).state()
            assert state is not None
            (item,) = news(machine.system, state)
            outcomes.add((item.outcome, item.reason))
            assert item.outcome is Outcome.FAILED or ran == ["one", "two"]
            assert [path.name for path in (machine.root / DIRECTORY.lstrip("/")).iterdir()] == [RESULT]
            subprocess.run(["rm", "-r", str(Path(memory) / str(at))], check=True)
    assert at > 300
    assert {outcome for outcome, _ in outcomes} == {Outcome.APPLIED, Outcome.FAILED}
    assert {reason for outcome, reason in outcomes if outcome is Outcome.FAILED} == {"interrupted"}
