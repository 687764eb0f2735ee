# SPDX-License-Identifier: Apache-2.0
"""A script of user-data runs once: killed anywhere, the runner never starts one again, and always comes to a result."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from guest_agent.command import Completed
from guest_agent.late import news
from guest_agent.log import Log
from guest_agent.state import Store
from guest_agent.user_data import Runner
from guest_agent.user_data_run import DIRECTORY, RESULT, UNIT
from pv_channel.messages import Outcome
from tests.guest.killing import survivors
from tests.guest.machine import Machine, document, provision
from tests.guest.test_user_data import several

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def test_killed_anywhere_no_script_runs_twice_and_the_host_is_told_what_became_of_them() -> None:
    outcomes = set()
    for at, machine in survivors(prepared, perform, STRIDE, 300):
        perform(machine)
        ran = machine.read("ran").split() if (machine.root / "ran").exists() else []
        assert len(set(ran)) == len(ran), f"a script ran twice after a kill at line {at}: {ran}"
        state = Store(machine.system).state()
        assert state is not None
        (item,) = news(machine.system, state)
        outcomes.add((item.outcome, item.reason))
        assert item.outcome is Outcome.FAILED or ran == ["one", "two"]
        assert [path.name for path in (machine.root / DIRECTORY.lstrip("/")).iterdir()] == [RESULT]
    assert {outcome for outcome, _ in outcomes} == {Outcome.APPLIED, Outcome.FAILED}
    assert {reason for outcome, reason in outcomes if outcome is Outcome.FAILED} == {"interrupted"}
