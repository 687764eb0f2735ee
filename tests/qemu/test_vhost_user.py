# SPDX-License-Identifier: Apache-2.0
"""Our vhost-user device and real QEMUs: what they negotiate, seen from both sides, and that a guest's buffers are filled."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from host_agent.backends.vhost_user_device import FEATURES, PROTOCOL_FEATURES, VERSION_1
from tests.qemu.driven_guest import DrivenGuest, arguments

if TYPE_CHECKING:
    from tests.qemu.conftest import Start
    from tests.qemu.machines import Qemu, Running

TOP = Path(__file__).parents[2]
SECONDS = 120.0
VERSION_1_BY_QEMU = "VIRTIO_F_VERSION_1: Device compliant for v1 spec (legacy)"


class Program:
    """The device's program, for a `with`, in which somebody listens for a front-end."""

    def __init__(self, work: Path, way: str) -> None:
        self.path = work / "rng.sock"
        self._log = work / "rng.log"
        self._listener = socket.socket(socket.AF_UNIX)
        if way == "fd":
            self._listener.bind(os.fspath(self.path))
            self._listener.listen()
        self._option = f"--socket-path={self.path}" if way == "socket-path" else f"--fd={self._listener.fileno()}"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "host_agent.backends.vhost_user_rng", self._option], cwd=TOP, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, pass_fds=[self._listener.fileno()],
            )  # fmt: skip
        deadline = time.monotonic() + SECONDS
        while not listens(self.path):
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.process.kill()
        self.process.wait()

    def sessions(self, count: int) -> list[tuple[int, int]]:
        """Of the *count* front-ends that leave: the features that each took, and how many bytes its guest got."""
        deadline = time.monotonic() + SECONDS
        while True:
            found = re.findall(r"features (0x[0-9a-f]+), (\d+) bytes", self._log.read_text())
            if len(found) >= count:
                return [(int(features, 16), int(size)) for features, size in found]
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def terminated(self) -> int:
        self.process.terminate()
        return self.process.wait(SECONDS)


def listens(path: Path) -> bool:
    """Whether somebody does, without being a client."""
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(each[3] == "00010000" and each[-1] == str(path) for each in sockets)


def device(program: Program) -> list[str]:
    """What gives a machine the device."""
    return [
        "-object", "memory-backend-memfd,id=memory,size=32M,share=on", "-machine", "pc,memory-backend=memory",
        "-chardev", f"socket,id=rng,path={program.path}", "-device", "vhost-user-rng-pci,id=rng0,chardev=rng",
    ]  # fmt: skip


def status(machine: Running) -> dict[str, Any]:
    """What QEMU says of the device."""
    with machine.monitor() as monitor:
        (found,) = [each for each in monitor.execute("x-query-virtio") if "rng" in each["path"]]
        answer: dict[str, Any] = monitor.execute("x-query-virtio-status", path=found["path"])
        return answer


@pytest.mark.parametrize("way", ["socket-path", "fd"])
def test_a_qemu_and_our_device_agree_and_the_guest_gets_its_numbers(start: Start, qemu: Qemu, tmp_path: Path, way: str) -> None:
    with Program(tmp_path, way) as program:
        machine = start(qemu, *device(program), *arguments(tmp_path))
        with DrivenGuest(tmp_path) as guest:
            offered = guest.features()
            guest.start(offered & VERSION_1)
            first, second = guest.fill(64), guest.fill(64)
            guest.reset()
        machine.end()
        assert program.sessions(1) == [(VERSION_1 | PROTOCOL_FEATURES, 128)]
        assert program.terminated() == 0
    assert offered & VERSION_1
    assert len({first, second, bytes(64)}) == 3


def test_a_qemu_says_what_it_negotiated_with_our_device(start: Start, qemu7: Qemu, tmp_path: Path) -> None:
    """Not QEMU 10.0, which crashes where it is asked this while such a device runs."""
    with Program(tmp_path, "socket-path") as program:
        machine = start(qemu7, *device(program), *arguments(tmp_path))
        with DrivenGuest(tmp_path) as guest:
            guest.start(VERSION_1)
            found = status(machine)
    vhost = found["vhost-dev"]
    assert found["vhost-started"]
    assert found["guest-features"]["transports"] == vhost["acked-features"]["transports"] == [VERSION_1_BY_QEMU]
    assert "VHOST_USER_F_PROTOCOL_FEATURES" in str(vhost["features"])
    (protocol,) = vhost["protocol-features"]["protocols"]
    assert protocol.startswith("VHOST_USER_PROTOCOL_F_REPLY_ACK")


def test_the_next_machine_is_served_after_the_one_before(start: Start, qemu: Qemu, tmp_path: Path) -> None:
    with Program(tmp_path, "socket-path") as program:
        for turn in range(2):
            work = tmp_path / str(turn)
            work.mkdir()
            machine = start(qemu, *device(program), *arguments(work))
            with DrivenGuest(work) as guest:
                guest.start(VERSION_1)
                assert guest.fill(16) != bytes(16)
            machine.end()
            assert program.sessions(turn + 1) == [(FEATURES, 16)] * (turn + 1)
        assert program.terminated() == 0
        assert not program.path.exists()
