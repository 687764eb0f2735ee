# SPDX-License-Identifier: Apache-2.0
"""QEMU 7.2 and QEMU 10, and how to start them. One that cannot be had is a failure of every test here, never a skip."""

from __future__ import annotations

import platform
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from lab.programs import search_path
from tests.qemu.backports import unpacked_tree
from tests.qemu.bus_helpers import Beside
from tests.qemu.machines import Qemu, Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Start(Protocol):
    """The fixture `start`: a QEMU that runs until the test ends."""

    def __call__(self, qemu: Qemu, *arguments: str | Path, wait: bool = True) -> Running:
        """Start it with *arguments*, and come back when its monitor is there; at once where *wait* is false."""


@pytest.fixture(scope="session")
def qemu7() -> Qemu:
    """Debian 12's own, installed; it is the generation that its Xen has, too."""
    program = shutil.which("qemu-system-x86_64", path=search_path())
    if program is None:
        pytest.fail("there is no qemu-system-x86_64; ./run test-qemu installs it")
    return _checked(Qemu(7, Path(program)))


@pytest.fixture(scope="session")
def qemu10(request: pytest.FixtureRequest) -> Qemu:
    """The one of Debian 12's backports, unpacked beside the lab's builds."""
    tree = unpacked_tree(_speaker(request.config))
    libraries = tree / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    environment = {"QEMU_MODULE_DIR": str(libraries / "qemu"), "LD_LIBRARY_PATH": str(libraries)}
    shared = tree / "usr" / "share"
    return _checked(Qemu(10, tree / "usr" / "bin" / "qemu-system-x86_64", environment, (shared / "seabios", shared / "qemu")))


@pytest.fixture(params=[7, 10], ids=["7.2", "10"])
def qemu(request: pytest.FixtureRequest) -> Qemu:
    """Each of them in turn."""
    found: Qemu = request.getfixturevalue(f"qemu{request.param}")
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a QEMU; all of them are killed when the test ends, by their pids."""
    running: list[Running] = []

    def started(qemu: Qemu, *arguments: str | Path, wait: bool = True) -> Running:
        one = Running(qemu, tmp_path, f"q{len(running)}", arguments)
        running.append(one)
        if wait:
            one.await_monitor()
        return one

    try:
        yield started
    finally:
        for one in running:
            one.end()


@pytest.fixture
def source_bus(tmp_path: Path) -> Iterator[Beside]:
    """The bus of the VM where it is, for its helpers."""
    with Beside(tmp_path / "source-bus") as beside:
        yield beside


@pytest.fixture
def destination_bus(tmp_path: Path) -> Iterator[Beside]:
    """The bus of the VM where it goes to."""
    with Beside(tmp_path / "destination-bus") as beside:
        yield beside


def _checked(qemu: Qemu) -> Qemu:
    said = qemu.asked("--version")
    found = re.match(r"QEMU emulator version (\d+)\.", said)
    if not found or int(found[1]) != qemu.version:
        pytest.fail(f"{qemu.program} is not {qemu}: {said.splitlines()[0]}")
    return qemu


def _speaker(config: pytest.Config) -> Callable[[str], None]:
    capture = config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        # The first fetch takes a while: whoever waits is to see why, without -s.
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", end="", flush=True)

    return say
