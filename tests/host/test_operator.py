# SPDX-License-Identifier: Apache-2.0
"""What operators see and ask for while a service is at work: true of the guest, from the first moment on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from host_agent.ledger.ledger import Ledger
from host_agent.reprovision import ask
from host_agent.views.status import View
from host_agent.views.verdict import Asked, Verdict, judged
from tests.host.dom0 import Dom0, eventually, hostnames
from tests.host.fakes import FakeGuest, FakeQemu

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    return Dom0(tmp_path)


def verdict(dom0: Dom0, generation: int = 0) -> Verdict:
    """What `wait` would see of vm1 now."""
    with View(dom0.state) as view:
        (vm,) = view.standings(["vm1"])
    return judged(vm, Asked(generation)).verdict


def test_what_an_earlier_service_saw_is_not_taken_for_what_this_one_sees(dom0: Dom0) -> None:
    dom0.document("vm1", "web1")
    guest = FakeGuest()

    async def until_ready() -> None:
        await eventually(lambda: bool(dom0.vm("vm1")) and verdict(dom0) is Verdict.READY, "ready")

    seen = []

    async def look() -> None:
        for _ in range(100):
            seen.append(verdict(dom0))
            await asyncio.sleep(0.002)

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.serve(until_ready)
    with FakeQemu(dom0.sockets / "vm1.sock", None):  # the guest hangs since
        dom0.serve(look)
    assert set(seen[seen.index(Verdict.WAITING) :]) == {Verdict.WAITING}
    guest.restart()
    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.serve(until_ready)
    assert hostnames(guest) == ["web1"]


def test_what_an_operator_asks_for_again_is_applied_once_more_and_waited_for(dom0: Dom0) -> None:
    dom0.document("vm1", "web1")
    guest = FakeGuest()

    async def story() -> None:
        await eventually(lambda: bool(dom0.vm("vm1")) and verdict(dom0) is Verdict.READY, "ready")
        ledger = Ledger.open(dom0.state)
        with View(dom0.state) as view:
            ask(ledger, view.standings(["vm1"]))
        ledger.close()
        assert verdict(dom0) is Verdict.WAITING
        await eventually(lambda: verdict(dom0, 2) is Verdict.READY, "ready again")

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.serve(story)
    assert [document.generation for document in guest.applied] == [1, 2]
    vm = dom0.vm("vm1")
    assert (vm["reprovision"], vm["generation-applied"]) == (False, 2)
    assert any("asked to reprovision" in entry["what"] for entry in vm["audit"])
