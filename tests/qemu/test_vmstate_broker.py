# SPDX-License-Identifier: Apache-2.0
"""The broker goes by QEMU's rules with other people's helpers, on a real bus; what fails is told before anything is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from host_agent.qemu.vmstate_peers import LEDGER_ID
from host_agent.qemu.vmstate_stream import MAX_STATE_BYTES, Part, decode, encode
from pv_channel.trust import fingerprint
from tests.host.records import Operator
from tests.host.test_ledger_travel import GUEST, OTHER, provisioned, vm
from tests.qemu.bus_helpers import Program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.qemu.bus_helpers import Beside


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Who says verbs where web1 is."""
    provisioned(tmp_path / "here")
    return Operator(tmp_path / "here", capsys)


@pytest.fixture
def there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Who says verbs where web1 goes to."""
    return Operator(tmp_path / "there", capsys)


@pytest.mark.parametrize(
    ("ids", "statuses", "loaded"),
    [
        pytest.param((None, None), (0, 0), ([b"a's"], [b"b's"]), id="without-list"),
        pytest.param((f"{LEDGER_ID},idA,idB", f"idA,idB,{LEDGER_ID}"), (0, 0), ([b"a's"], [b"b's"]), id="with-list"),
        pytest.param(("idA", "idA"), (0, 0), ([b"a's"], []), id="only-a"),
        pytest.param(("idA,idC", None), (1, None), ([], []), id="missing-src"),
        pytest.param((None, f"{LEDGER_ID},idA,idB,idC"), (0, 1), ([], []), id="missing-dst"),
        pytest.param((None, "idA,idB"), (0, 1), ([], []), id="without-ours"),
    ],
)
def test_upstreams_cases(
    here: Operator, there: Operator, source_bus: Beside, destination_bus: Beside, tmp_path: Path,
    ids: tuple[str | None, str | None], statuses: tuple[int, int | None], loaded: tuple[list[bytes], list[bytes]],
) -> None:  # fmt: skip
    source_bus.add(Program("idA", b"a's"))
    source_bus.add(Program("idB", b"b's"))
    programs = destination_bus.add(Program("idA")), destination_bus.add(Program("idB"))
    listed = [() if each is None else ("--id-list", each) for each in ids]
    file = str(tmp_path / "bundle")
    assert here.says("state save", "web1", file, "--bus", source_bus.address, *listed[0]) == statuses[0]
    if statuses[1] is not None:
        assert there.says("state load", "web1", file, "--bus", destination_bus.address, *listed[1]) == statuses[1]
    assert tuple(program.loaded for program in programs) == loaded
    ours_went = statuses == (0, 0) and ids[0] != "idA"
    assert there.state.exists() == ours_went
    if 1 in statuses:
        assert len((here.err + there.err).splitlines()) == 1


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Program("idB", b"b's", fails=True), "refuses org.qemu.VMState1.Save: it is broken"),
        (lambda: Program("idB", bytes(MAX_STATE_BYTES + 1)), "its state has 1,048,577 bytes; QEMU takes 1 to 1,048,576"),
        (lambda: Program("idB"), "its state has 0 bytes"),
        (lambda: Program("idA", b"b's"), "two programs have the id idA"),
        (lambda: Program("", b"b's"), "'' cannot be an id"),
        (lambda: Program("i" * 256, b"b's"), "cannot be an id"),
    ],
)
def test_a_helper_that_fails_to_save_fails_the_whole_and_the_old_bundle_stays(
    here: Operator, source_bus: Beside, tmp_path: Path, make: Callable[[], Program], why: str
) -> None:
    file = tmp_path / "bundle"
    file.write_bytes(b"an old one")
    source_bus.add(Program("idA", b"a's"))
    source_bus.add(make())
    assert here.says("state save", "web1", str(file), "--bus", source_bus.address) == 1
    assert why in here.err
    assert len(here.err.splitlines()) == 1
    assert file.read_bytes() == b"an old one"


def test_a_helper_that_fails_to_load_is_told_and_what_is_ours_is_loaded_and_can_be_again(
    here: Operator, there: Operator, source_bus: Beside, destination_bus: Beside, tmp_path: Path
) -> None:
    file = str(tmp_path / "bundle")
    source_bus.add(Program("idA", b"a's"))
    program = destination_bus.add(Program("idA", fails=True))
    assert here.says("state save", "web1", file, "--bus", source_bus.address) == 0
    assert there.says("state load", "web1", file, "--bus", destination_bus.address) == 1
    assert "refuses org.qemu.VMState1.Load: it is broken" in there.err
    assert vm(there.state)["guest-key"] == fingerprint(GUEST)
    program._fails = False
    assert there.says("state load", "web1", file, "--bus", destination_bus.address) == 0
    assert program.loaded == [b"a's"]


def test_where_ours_is_refused_nobody_is_given_anything(
    here: Operator, there: Operator, source_bus: Beside, destination_bus: Beside, tmp_path: Path
) -> None:
    provisioned(there.state, guest_key=OTHER)
    file = str(tmp_path / "bundle")
    source_bus.add(Program("idA", b"a's"))
    program = destination_bus.add(Program("idA"))
    assert here.says("state save", "web1", file, "--bus", source_bus.address) == 0
    assert there.says("state load", "web1", file, "--bus", destination_bus.address) == 1
    assert program.loaded == []
    assert there.says("state load", "web1", file, "--bus", destination_bus.address, "--force") == 0
    assert program.loaded == [b"a's"]


def test_others_state_goes_though_the_guest_was_never_met_and_that_is_said(
    there: Operator, source_bus: Beside, tmp_path: Path
) -> None:
    file = tmp_path / "bundle"
    source_bus.add(Program("idA", b"a's"))
    assert there.says("state save", "web1", str(file), "--bus", source_bus.address) == 0
    assert decode(file.read_bytes()) == [Part("idA", b"a's")]
    assert "web1: of the ledger nothing goes along" in there.err
    assert there.says("state save", "web1", str(file), "--bus", source_bus.address, "--id-list", f"idA,{LEDGER_ID}") == 1


def test_the_parts_of_a_bundle_are_loaded_in_its_order(there: Operator, destination_bus: Beside, tmp_path: Path) -> None:
    order: list[str] = []

    class Ordered(Program):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.loaded = type("Loads", (list,), {"append": lambda *_: order.append(name)})()

    names = ["idC", "idA", "idB"]
    for name in sorted(names):
        destination_bus.add(Ordered(name))
    (tmp_path / "bundle").write_bytes(encode([Part(name, b"state") for name in names]))
    assert there.says("state load", "web1", str(tmp_path / "bundle"), "--bus", destination_bus.address) == 0
    assert order == names
