# SPDX-License-Identifier: Apache-2.0
"""A service with hundreds of live sessions: it ends well, and its successor resumes them all and applies nothing again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from host_agent.ledger.ledger import Ledger
from host_agent.ledger.standing import State
from host_agent.talk.timing import Timing
from host_agent.views.status import View
from tests.host.dom0 import Dom0, eventually
from tests.host.fleet import Fleet

if TYPE_CHECKING:
    from pathlib import Path

VMS = 200
NAMES = [f"vm{number}" for number in range(VMS)]
DEADLINE_SECONDS = 120.0


class CountingLedger(Ledger):
    """Counts how often it was closed."""

    closed = 0

    def close(self) -> None:
        super().close()
        CountingLedger.closed += 1


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    made = Dom0(tmp_path)
    made.timing = Timing()  # the daemon's own: hundreds of guests in one thread answer when they get to it
    for name in NAMES:
        made.document(name, "web")
    return made


def states(dom0: Dom0) -> dict[str, str]:
    view = View(dom0.state)
    try:
        return {vm["vm"]: vm["state"] for vm in view.all()}
    finally:
        view.close()


def sessions(dom0: Dom0) -> int:
    view = View(dom0.state)
    try:
        return sum(vm["sessions"] for vm in view.all())
    finally:
        view.close()


def all_ready(dom0: Dom0) -> bool:
    return list(states(dom0).values()) == [State.READY] * VMS


def applied(fleet: Fleet) -> list[int]:
    return [len(guest.applied) for guest in fleet.guests.values()]


def test_a_service_that_ends_leaves_every_stream_and_its_successor_applies_nothing_again(dom0: Dom0) -> None:
    dom0.ledger = CountingLedger

    async def story() -> None:
        await eventually(lambda: fleet.connected == VMS, "all connected")
        await eventually(lambda: all_ready(dom0), "all ready")

    with Fleet(dom0.sockets, NAMES) as fleet:
        for life in (1, 2):
            dom0.serve(story)
            deadline = time.monotonic() + DEADLINE_SECONDS
            while fleet.connected:
                assert time.monotonic() < deadline, "a stream was not left"
            assert (CountingLedger.closed, fleet.accepted) == (life, life * VMS)
            assert applied(fleet) == [1] * VMS
    assert [guest.pinged > 0 for guest in fleet.guests.values()] == [True] * VMS


def test_a_service_that_is_killed_is_followed_by_one_that_applies_nothing_again(dom0: Dom0) -> None:
    places = ["--documents", str(dom0.documents), "--sockets", str(dom0.sockets), "--state", str(dom0.state)]
    with Fleet(dom0.sockets, NAMES) as fleet:
        for life in (1, 2):
            command = [sys.executable, "-m", "host_agent", "serve", "--no-xenstore", *places]
            service = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            try:
                asyncio.run(eventually(lambda: fleet.accepted == life * VMS, "all connected"))  # noqa: B023 -- it ends here
                asyncio.run(eventually(lambda: all_ready(dom0) and sessions(dom0) == life * VMS, "all ready"))  # noqa: B023
                service.send_signal(signal.SIGKILL if life == 1 else signal.SIGTERM)
                assert service.wait(DEADLINE_SECONDS) == (-signal.SIGKILL if life == 1 else os.EX_OK)
            finally:
                service.kill()
                service.wait()
    assert applied(fleet) == [1] * VMS
