# SPDX-License-Identifier: Apache-2.0
"""VMs that really move: from QEMU 7.2 and 10 to QEMU 7.2 and 10, by every way there is, and in spite of all that goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from tests.qemu.moving import PATIENCE_SECONDS, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.qemu.conftest import Start
    from tests.qemu.machines import Qemu

#: A device that the destination's machine lacks: what it sends comes at the very end.
EXTRA = ("-device", "virtio-rng-pci")


@pytest.fixture(params=[(7, 7), (7, 10), (10, 10)], ids=["7 to 7", "7 to 10", "10 to 10"])
def both(request: pytest.FixtureRequest) -> tuple[Qemu, Qemu]:
    """A source's QEMU and a destination's."""
    one, other = (request.getfixturevalue(f"qemu{version}") for version in request.param)
    return one, other


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of one mebibyte."""
    where = tmp_path / "full"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


def migrate(source: Machine, to: str, *more: str) -> int:
    """The verb's exit status."""
    return main(["migrate", "--qmp", str(source.qmp), "--to", to, *more])


def arrived(source: Machine, destination: Machine, memory: str, count: int) -> bool:
    """Whether the guest runs on where it is now, with its memory, and only there."""
    return destination.runs() and source.stands_still() and destination.memory() == memory and destination.count() > count


@pytest.mark.parametrize("to", ["unix:{0}/way", "tcp:127.0.0.1:0"], ids=["unix", "tcp"])
def test_a_vm_moves_with_its_memory_and_runs_on_there_alone(
    start: Start, both: tuple[Qemu, Qemu], to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, both[0], tmp_path, "-name", "web1"), Machine.destination(start, both[1], tmp_path)
    memory, count = source.memory(), source.count()
    assert migrate(source, to.format(tmp_path), "--incoming-qmp", str(destination.qmp)) == 0
    assert arrived(source, destination, memory, count)
    out, err = capsys.readouterr()
    assert out.startswith("web1 runs on the destination: it stood still for ")


def test_a_vm_moves_through_two_commands_of_which_no_answer_comes_back(
    start: Start, both: tuple[Qemu, Qemu], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, both[0], tmp_path), Machine.destination(start, both[1], tmp_path)
    memory, count, pipe = source.memory(), source.count(), tmp_path / "pipe"
    os.mkfifo(pipe)
    listens = f"exec:cat {pipe}"
    assert migrate(source, f"exec:cat >{pipe}", "--incoming-qmp", str(destination.qmp), "--incoming-from", listens) == 0
    assert arrived(source, destination, memory, count)
