# SPDX-License-Identifier: Apache-2.0
"""Other applications' programs beside real ones: in the unit's sandbox; and virtiofsd, picked by its type, with a real QEMU."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from host_agent.log.happenings import Happening
from tests.host.channel_program import described, is_no_more, is_over
from tests.host.fake_xenstored import Channel, FakeXenstored
from tests.host.running import DEADLINE_SECONDS, Running
from tests.real.booted import COMMAND, UNIT, Machine, eventually
from tests.real.stage import program

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIP = "org.example.clip.1"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
#: It says what the sandbox is like, and then it echoes.
_CLIP = """
import os, pathlib, signal, sys
if "--print-capabilities" in sys.argv:
    print('{"type": "org.example.clip.1"}')
    sys.exit()
fd = int(sys.argv[1].removeprefix("--fd="))
status = dict(line.split(":\\t") for line in pathlib.Path("/proc/self/status").read_text().splitlines())
try:
    pathlib.Path("/etc/clip").touch()
except OSError as exc:
    refused = exc.strerror
os.write(fd, f"{os.getpid()} {status['NoNewPrivs']} {status['Seccomp']} {refused}\\n".encode())
while data := os.read(fd, 100):
    os.write(fd, data.upper())
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One with a program for the channel clip, as a distribution would put it there."""
    machine = Machine(tmp_path)
    machine.furnish()
    (machine.root / "srv/clip.py").write_text(_CLIP)
    clip = machine.root / "srv/clip"
    text = (machine.root / COMMAND.removeprefix("/")).read_text()
    clip.write_text(text.replace("-m host_agent", "-S /srv/clip.py"))
    clip.chmod(0o755)
    described(machine.root / "etc/pv-host-agent/backends", "50-clip.json", CLIP, Path("/srv/clip"))
    with machine:
        yield machine


def test_a_program_is_started_in_the_units_sandbox_and_ends_with_it(machine: Machine) -> None:
    machine.run("mkdir", "/run/xenstored")
    machine.run("systemctl", "start", UNIT)
    with FakeXenstored(machine.inside("/run/xenstored/socket")) as xen, socket.socket(socket.AF_UNIX) as qemu:
        qemu.bind(os.fspath(machine.inside("/run/pv-channel/clip.sock")))
        qemu.listen(1)
        qemu.settimeout(DEADLINE_SECONDS)
        xen.create(7, "web1", channels=[Channel(CLIP, "/run/pv-channel/clip.sock")])
        stream, _ = qemu.accept()
        with stream:
            stream.settimeout(DEADLINE_SECONDS)
            pid, *sandbox = stream.recv(100).decode().split(None, 3)
            assert sandbox == ["1", "2", "Read-only file system\n"]
            stream.sendall(b"hello")
            assert stream.recv(100) == b"HELLO"
            (line,) = machine.until_journal(f"MESSAGE_ID={Happening.PROGRAM_STARTED.message_id}", "PV_VM=web1")
            assert line["MESSAGE"] == f"web1: channel {CLIP}: /srv/clip serves it (pid {pid})"
            assert machine.run("ps", "-o", "ppid=", pid).strip() == machine.show("MainPID")
            machine.run("systemctl", "stop", UNIT)
            assert stream.recv(100) == b""
    assert machine.show("Result") == "success"
    assert machine.run("ps", "-o", "pid=", pid, check=False) == ""


# -- virtiofsd


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory to share, and one for sockets."""
    for name in ("shared", "sockets"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path


def virtiofsd(work: Path) -> Running:
    """virtiofsd, whoever said that it is the one for the type fs."""
    words = ["backends", "run", "fs", "--socket-path", f"{work}/sockets/fs.sock", "--", "-o", f"source={work}/shared"]
    return Running(*words)


def numbers(work: Path) -> Running:
    """This project's device of random numbers, described as a distribution would do it."""
    script = work / "vhost-user-rng"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m host_agent.backends.vhost_user_rng "$@"\n')
    script.chmod(0o755)
    described(work / "files", "50-rng.json", "rng", script)
    return Running("backends", "run", "rng", "--directory", f"{work}/files", "--socket-path", f"{work}/sockets/rng.sock")


def pid_of(running: Running) -> int:
    """The program's, as it was said."""
    running.read_until("listens at")
    return int(running.text.partition("(pid ")[2].partition(")")[0])


def test_the_distributions_own_description_of_virtiofsd_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends", "--vhost-user", "--json"]) == 0
    files = {each["program"]: each for each in json.loads(capsys.readouterr().out)["files"]}
    assert (files[VIRTIOFSD]["is"], files[VIRTIOFSD]["type"], files[VIRTIOFSD]["why"]) == ("taken", "fs", "")


def test_virtiofsd_is_picked_by_its_type_answers_as_a_device_and_is_ended(work: Path) -> None:
    with virtiofsd(work) as running:
        pid = pid_of(running)
        assert Path(f"/proc/{pid}/exe").readlink() == Path(VIRTIOFSD)
        with socket.socket(socket.AF_UNIX) as front:
            front.settimeout(DEADLINE_SECONDS)
            front.connect(f"{work}/sockets/fs.sock")
            front.sendall(struct.pack("=III", 1, 1, 0))  # VHOST_USER_GET_FEATURES, version 1
            request, flags, size, features = struct.unpack("=IIIQ", front.makefile("rb").read(20))
        assert (request, flags & 7, size) == (1, 5, 8)
        assert features & 1 << 32  # VIRTIO_F_VERSION_1
        running.process.terminate()
        running.end()
        assert is_over(pid)


@pytest.mark.parametrize(("kind", "device"), [("fs", "vhost-user-fs-pci,tag=shared"), ("rng", "vhost-user-rng-pci")])
def test_a_real_qemu_takes_what_was_picked_as_its_device(kind: str, device: str, work: Path) -> None:
    with virtiofsd(work) if kind == "fs" else numbers(work) as running:
        pid = pid_of(running)
        command = [
            program("qemu-system-x86_64", "qemu-system-x86"), "-S", "-nodefaults", "-display", "none", "-qmp", "stdio",
            "-accel", "tcg", "-m", "64", "-object", "memory-backend-memfd,id=m,size=64M,share=on", "-numa", "node,memdev=m",
            "-chardev", f"socket,id=its,path={work}/sockets/{kind}.sock", "-device", f"{device},chardev=its,id=picked",
        ]  # fmt: skip
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as qemu:
            assert qemu.stdin is not None
            assert qemu.stdout is not None
            assert "QMP" in qemu.stdout.readline()
            qemu.stdin.write('{"execute":"qmp_capabilities"}\n')
            qemu.stdin.write('{"execute":"qom-list","arguments":{"path":"/machine/peripheral"}}\n')
            qemu.stdin.flush()
            qemu.stdout.readline()
            devices = json.loads(qemu.stdout.readline())["return"]
            assert {"name": "picked", "type": f"child<{device.partition(',')[0]}>"} in devices
            qemu.kill()
        if kind == "fs":
            assert running.end() == 0  # it serves one QEMU, and ends
        else:
            assert running.interrupt() == 130
        assert is_no_more(pid)


def test_ctrl_c_ends_it_and_an_end_by_itself_is_its_status(work: Path) -> None:
    with virtiofsd(work) as running:
        pid = pid_of(running)
        assert running.interrupt() == 130
        assert is_over(pid)
    with Running("backends", "run", "fs", "--socket-path", f"{work}/sockets/fs.sock", "--", "--no-such-option") as running:
        assert running.end() == 1
        assert "unknown option" in running.text
        assert f"pv-host-agent: {VIRTIOFSD} ended with status 1 before it listened; what it said is above" in running.text
    with virtiofsd(work) as running:
        os.kill(pid_of(running), 9)
        assert running.end() == 128 + 9


def test_however_we_end_it_ends(work: Path) -> None:
    with virtiofsd(work) as running:
        pid = pid_of(running)
        running.process.kill()
        running.process.wait(DEADLINE_SECONDS)
        eventually(lambda: is_over(pid), lambda: "it lives")
