# SPDX-License-Identifier: Apache-2.0
"""Moving a VM whose helpers have state, and what is seen at a destination that ends: before it ran the VM, or after."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from host_agent.qemu.migration_destination import listening_to
from host_agent.qemu.migration_end import end_at
from host_agent.qemu.migration_outcome import Seen
from tests.qemu.bus_helpers import Program
from tests.qemu.moving import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qemu.bus_helpers import Beside
    from tests.qemu.conftest import Start
    from tests.qemu.machines import Qemu

#: Longer than a QEMU needs to load a small VM, or to end.
_SECONDS = 60.0


def beside(bus: Beside) -> tuple[str, str]:
    """The arguments of a machine whose helpers' state travels, none of them named."""
    return "-object", f"dbus-vmstate,id=vmstate,addr={bus.address}"


def move(source: Machine, destination: Machine, directory: Path) -> int:
    """The verb's exit status."""
    words = ["--qmp", str(source.qmp), "--to", f"unix:{directory}/way", "--incoming-qmp", str(destination.qmp)]
    return main(["migrate", "vm", *words])


def ids(machine: Machine) -> str:
    """Its id-list."""
    with machine.eye() as eye:
        found: str = eye.execute("qom-get", path="/objects/vmstate", property="id-list")
    return found


def test_the_helpers_state_goes_with_the_vm_by_name(
    start: Start, qemu: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for each in (Program("idA", b"a's"), Program("idB", b"b's")):
        source_bus.add(each)
    there = [destination_bus.add(Program("idA")), destination_bus.add(Program("idB")), destination_bus.add(Program("idC"))]
    source = Machine.source(start, qemu, tmp_path, *beside(source_bus))
    destination = Machine.destination(start, qemu, tmp_path, *beside(destination_bus))
    assert move(source, destination, tmp_path) == 0
    assert [each.loaded for each in there] == [[b"a's"], [b"b's"], []]
    assert (ids(source), ids(destination)) == ("idA,idB", "idA,idB")
    assert "the state of idA, idB goes with it" in capsys.readouterr().err
    assert destination.runs()


def test_a_helper_that_fails_does_not_cost_the_vm(
    start: Start, qemu: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source_bus.add(Program("idA", b"a's", fails=True))
    destination_bus.add(Program("idA"))
    source = Machine.source(start, qemu, tmp_path, *beside(source_bus))
    destination = Machine.destination(start, qemu, tmp_path, *beside(destination_bus))
    assert move(source, destination, tmp_path) == 1
    assert capsys.readouterr().out.startswith("vm runs on the source: ")
    assert source.runs()


def test_a_helper_that_is_missing_at_the_destination_is_missed_before_anything_is_begun(
    start: Start, qemu: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source_bus.add(Program("idA", b"a's"))
    source = Machine.source(start, qemu, tmp_path, *beside(source_bus))
    destination = Machine.destination(start, qemu, tmp_path, *beside(destination_bus))
    assert move(source, destination, tmp_path) == 1
    assert "no helper with the id idA is on the bus" in capsys.readouterr().err
    destination_bus.add(Program("idA"))
    assert move(source, destination, tmp_path) == 0
    assert destination.runs()


def test_a_destination_that_takes_no_helpers_state_is_refused(
    start: Start, qemu: Qemu, source_bus: Beside, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source_bus.add(Program("idA", b"a's"))
    source = Machine.source(start, qemu, tmp_path, *beside(source_bus))
    assert move(source, Machine.destination(start, qemu, tmp_path), tmp_path) == 1
    said = capsys.readouterr().err
    assert "has no dbus-vmstate object, and the VM brings the state of idA" in said
    assert "nothing was begun" in said
    assert source.runs()


@pytest.mark.parametrize("ran", [True, False])
def test_a_destination_that_has_ended_has_run_the_vm_or_not(start: Start, qemu: Qemu, ran: bool, tmp_path: Path) -> None:
    source, destination = Machine.source(start, qemu, tmp_path), Machine.destination(start, qemu, tmp_path)

    async def story() -> Seen:
        async with end_at(destination.qmp) as end:
            with listening_to(end) as there:
                if ran:
                    await end.qmp.execute("migrate-incoming", {"uri": f"unix:{tmp_path}/way"})
                    with source.eye() as eye:
                        eye.execute("migrate", uri=f"unix:{tmp_path}/way")
                    assert await there.seen(_SECONDS) is Seen.RUNS
                else:
                    assert await there.seen(0.5) is Seen.SILENT
                destination.running.end()
                return await there.seen(_SECONDS)

    assert asyncio.run(story()) is (Seen.RAN if ran else Seen.NEVER)
