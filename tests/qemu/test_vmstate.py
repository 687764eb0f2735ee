# SPDX-License-Identifier: Apache-2.0
"""Helpers' state through real QEMUs: upstream's five cases, ours among them, and what QEMU makes of helpers that fail."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from host_agent.errors import HostError
from host_agent.qemu.vmstate_peers import MissingHelper, checked
from host_agent.qemu.vmstate_stream import MAX_ID_BYTES, MAX_STATE_BYTES
from tests.qemu.bus_helpers import Program
from tests.qemu.migrating import Ends, migrate, return_path, save, with_vmstate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.qemu.bus_helpers import Beside
    from tests.qemu.conftest import Start
    from tests.qemu.machines import Qemu, Running


def moved(
    start: Start, qemus: tuple[Qemu, Qemu], beside: tuple[Beside, Beside], socket: Path, ids: tuple[str | None, str | None],
    *, careful: bool = False,
) -> tuple[Ends, Running]:  # fmt: skip
    """Start two machines beside their buses and move the one to the other; *careful*: as pv-host-agent migrate does."""
    there = start(qemus[0], *with_vmstate(beside[0], ids[0]))
    here = start(qemus[1], *with_vmstate(beside[1], ids[1]), "-incoming", "defer")
    for end in (there, here) if careful else ():
        return_path(end)
    return migrate(there, here, socket, stay=careful and qemus[1].version > 7), there


@pytest.mark.parametrize(
    ("ids", "loaded", "ends"),
    [
        pytest.param((None, None), ([b"a's"], [b"b's"]), ("completed", "prelaunch"), id="without-list"),
        pytest.param(("idA,idB", "idA,idB"), ([b"a's"], [b"b's"]), ("completed", "prelaunch"), id="with-list"),
        pytest.param(("idA", "idA"), ([b"a's"], []), ("completed", "prelaunch"), id="only-a"),
        pytest.param(("idA,idC", None), ([], []), ("failed", "exit"), id="missing-src"),
        pytest.param((None, "idA,idB,idC"), ([], []), ("completed", "exit"), id="missing-dst"),
    ],
)
def test_upstreams_cases(
    start: Start, qemu: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, ids: tuple[str | None, str | None],
    loaded: tuple[list[bytes], list[bytes]], ends: tuple[str, str],
) -> None:  # fmt: skip
    source_bus.add(Program("idA", b"a's"))
    source_bus.add(Program("idB", b"b's"))
    programs = destination_bus.add(Program("idA")), destination_bus.add(Program("idB"))
    ended, there = moved(start, (qemu, qemu), (source_bus, destination_bus), tmp_path / "m", ids)
    assert tuple(program.loaded for program in programs) == loaded
    assert ended[:2] == ends
    assert ("Required VMState Id are missing: idC" in ended.said + there.said()) == ("exit" in ends)


#: What goes wrong with a helper at the source, and QEMU's word for it.
FAULTS: dict[str, tuple[Callable[[], Program], str]] = {
    "fails": (lambda: Program("idA", b"a's", fails=True), "it is broken"),
    "too-long": (lambda: Program("idA", bytes(MAX_STATE_BYTES + 1)), "Too large vmstate data to save: 1048577"),
    "empty": (lambda: Program("idA"), "not a byte array"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_helper_that_fails_leaves_the_vm_nowhere_and_qemu_says_that_all_is_well(
    start: Start, qemu: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, fault: str
) -> None:
    make, words = FAULTS[fault]
    source_bus.add(make())
    destination_bus.add(Program("idA"))
    ended, there = moved(start, (qemu, qemu), (source_bus, destination_bus), tmp_path / "m", ("idA", "idA"))
    assert ended[:2] == ("completed", "exit")
    assert words in there.said()


@pytest.mark.parametrize("fault", FAULTS)
def test_with_an_id_list_and_a_return_path_the_source_knows_and_goes_on(
    start: Start, qemu: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, fault: str
) -> None:
    make, _ = FAULTS[fault]
    source_bus.add(make())
    destination_bus.add(Program("idA"))
    ended, there = moved(start, (qemu, qemu), (source_bus, destination_bus), tmp_path / "m", ("idA", "idA"), careful=True)
    assert ended[:2] == ("failed", "exit" if qemu.version == 7 else "inmigrate")
    with there.monitor() as monitor:
        monitor.execute("cont")
        assert monitor.execute("query-status")["status"] == "running"


def test_a_helper_that_takes_26_seconds_fails_as_one_that_does_not_answer(
    start: Start, qemu10: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path
) -> None:
    source_bus.add(Program("idA", b"a's", delay=26))
    destination_bus.add(Program("idA"))
    ended, there = moved(start, (qemu10, qemu10), (source_bus, destination_bus), tmp_path / "m", ("idA", "idA"), careful=True)
    assert ended[:2] == ("failed", "inmigrate")
    assert "Failed to Save: Timeout was reached" in there.said()


def test_a_destination_whose_helper_does_not_load_is_known_to_the_source_too(
    start: Start, qemu: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path
) -> None:
    source_bus.add(Program("idA", b"a's"))
    destination_bus.add(Program("idA", fails=True))
    ended, there = moved(start, (qemu, qemu), (source_bus, destination_bus), tmp_path / "m", ("idA", "idA"), careful=True)
    assert ended.source == "failed"
    assert "Failed to Load" in ended.said
    with there.monitor() as monitor:
        monitor.execute("cont")
        assert monitor.execute("query-status")["status"] == "running"


@pytest.mark.parametrize("versions", [(7, 7), (7, 10), (10, 10)], ids=str)
def test_a_mebibyte_and_the_longest_id_travel_between_versions(
    start: Start, qemu7: Qemu, qemu10: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path,
    versions: tuple[int, int],
) -> None:  # fmt: skip
    state, name = bytes(range(256)) * (MAX_STATE_BYTES // 256), "i" * MAX_ID_BYTES
    source_bus.add(Program(name, state))
    program = destination_bus.add(Program(name))
    qemus = {7: qemu7, 10: qemu10}
    pair = qemus[versions[0]], qemus[versions[1]]
    ended, _ = moved(start, pair, (source_bus, destination_bus), tmp_path / "m", (name, name), careful=True)
    assert ended[:2] == ("completed", "prelaunch")
    assert program.loaded == [state]


def test_a_look_beforehand_names_the_helpers_for_the_id_list(source_bus: Beside) -> None:
    source_bus.add(Program("idB", b"b's"))
    source_bus.add(Program("idA", b"a's"))
    assert source_bus.run(checked(source_bus.address)) == ["idB", "idA"]
    assert source_bus.run(checked(source_bus.address, ["idA"])) == ["idA"]
    with pytest.raises(HostError, match="no helper with the id idC is on the bus; cure"):
        source_bus.run(checked(source_bus.address, ["idA", "idC"]))
    source_bus.add(Program("id,C"))
    with pytest.raises(HostError, match="id,C: an id with a comma cannot stand in QEMU's id-list"):
        source_bus.run(checked(source_bus.address))


def test_two_with_one_id_are_found_beforehand_for_qemu_frees_memory_twice_over_them(
    start: Start, qemu: Qemu, source_bus: Beside, tmp_path: Path
) -> None:
    source_bus.add(Program("idA", b"a's"))
    source_bus.add(Program("idA", b"another's"))
    with pytest.raises(HostError, match="two programs have the id idA; cure: end one of them"):
        source_bus.run(checked(source_bus.address))
    there = start(qemu, *with_vmstate(source_bus))
    with suppress(EOFError, OSError, AssertionError):  # it may have crashed, and may not
        assert save(there, tmp_path / "file") == "failed"
    assert "Duplicated VMState Id" in there.said() or not there.alive()


def test_nobody_on_a_bus_is_no_failure_unless_ids_are_named(start: Start, qemu: Qemu, source_bus: Beside, tmp_path: Path) -> None:
    assert source_bus.run(checked(source_bus.address)) == []
    with pytest.raises(MissingHelper):
        source_bus.run(checked(source_bus.address, ["idA"]))
    assert save(start(qemu, *with_vmstate(source_bus)), tmp_path / "file") == "completed"
    assert save(start(qemu, *with_vmstate(source_bus, "idA")), tmp_path / "file") == "failed"
