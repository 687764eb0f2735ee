# SPDX-License-Identifier: Apache-2.0
"""The QEMU process: found again, told from another of its number, blamed when it is to blame, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import machine
from lab.errors import EmulatorFault, fault_line
from lab.images import Images
from lab.kernel import Kernel
from lab.machine import Address, Machine
from lab.running import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Something that runs until it is ended, and ignores SIGTERM."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


def address(pid: int, directory: Path) -> Address:
    """The address of process *pid*."""
    return Address(pid, machine._start_of(pid) or "", 1, directory)


def test_a_machine_is_alive_until_its_process_ends_and_no_other_process_is_it(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    found = address(process.pid, tmp_path)
    assert found.alive()
    assert not Address(process.pid, "1", 1, tmp_path).alive()
    process.kill()
    process.wait()
    assert not found.alive()


def test_stopping_ends_a_process_that_will_not_listen_and_leaves_no_files(
    process: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "LEAVE_SECONDS", 0.3)
    directory = tmp_path / "machine"
    directory.mkdir()
    (directory / "serial.log").write_text("LAB DOM0 READY")
    running = Machine(address(process.pid, directory), process)
    running.stop()
    running.stop()
    assert process.returncode is not None
    assert not directory.exists()


def test_a_process_that_took_the_number_of_ours_is_left_alone(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    Machine(Address(process.pid, "1", 1, tmp_path / "none")).stop()
    assert process.poll() is None


def test_a_qemu_that_ended_is_the_emulators_fault(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    (tmp_path / "qemu.log").write_text("qemu: fatal: something")
    with pytest.raises(EmulatorFault, match="qemu: fatal"):
        Machine(address(ended.pid, tmp_path), ended).check()


@pytest.mark.parametrize(
    "line",
    [
        "(XEN) Panic on CPU 0:",
        "[    1.2] Kernel panic - not syncing: Attempted to kill init!",
        "[   13.109482] systemd[1]: segfault at 8 ip 00007fc8284b5ff2 sp 00007ffd15495250 error 4 in libc.so.6",
        "[    9.1] traps: python3[77] general protection fault ip:7f",
        "[   10.869861] systemd[1]: Freezing execution.",
    ],
)
def test_a_kernel_that_broke_is_the_emulators_fault(tmp_path: Path, line: str) -> None:
    (tmp_path / "serial.log").write_text(f"Linux version 6.1\n{line}\n")
    with pytest.raises(EmulatorFault, match="broke"):
        Machine(address(os.getpid(), tmp_path)).check()


def test_an_ordinary_boot_is_nobodys_fault() -> None:
    assert fault_line("(XEN) Xen version 4.17\n[ 1.0] random: crng init done\nLAB DOM0 READY at uptime 9.1\n") is None


def test_a_lab_that_is_gone_is_not_found(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert Lab.find(tmp_path / "never") is None
    directory = tmp_path / "machine"
    directory.mkdir()
    started = machine._start_of(process.pid)
    (directory / "address.json").write_text(f'{{"pid": {process.pid}, "started": "{started}", "port": 7, "directory": "x"}}')
    found = Lab.find(directory)
    assert found is not None
    assert found.machine.address == Address(process.pid, str(started), 7, directory)
    process.kill()
    process.wait()
    assert Lab.find(directory) is None
    assert not directory.exists()


def test_qemu_gets_paths_with_commas_whole() -> None:
    images = Images(Kernel(Path("/a,b")), Path("/c,d/dom0"), Path("/e/guest"))
    command = machine._command(images, Path("/tmp/f,g"), 4242, own_disks=False)
    assert "/a,,b/vmlinux console=hvc0,/a,,b/dom0-initrd.img" in command
    assert any(word.startswith("file=/c,,d/dom0,format=raw") and "snapshot=on" in word for word in command)
    assert any("hostfwd=tcp:127.0.0.1:4242-:7777" in word for word in command)
