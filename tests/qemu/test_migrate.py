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
from tests.qemu.moving import MACHINE, PATIENCE_SECONDS, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


@pytest.fixture
def background() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The verb as a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "host_agent", *words]
        running.append(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    try:
        yield begin
    finally:
        for each in running:
            each.kill()
            each.communicate()


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
    assert capsys.readouterr().out.startswith("web1 runs on the destination: it stood still for ")


def test_a_vm_moves_through_two_commands_of_which_no_answer_comes_back(
    start: Start, both: tuple[Qemu, Qemu], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, both[0], tmp_path), Machine.destination(start, both[1], tmp_path)
    memory, count, pipe = source.memory(), source.count(), tmp_path / "pipe"
    os.mkfifo(pipe)
    listens = f"exec:cat {pipe}"
    assert migrate(source, f"exec:cat >{pipe}", "--incoming-qmp", str(destination.qmp), "--incoming-from", listens) == 0
    assert arrived(source, destination, memory, count)


def test_each_end_is_told_by_itself(
    start: Start, both: tuple[Qemu, Qemu], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, both[0], tmp_path), Machine.destination(start, both[1], tmp_path)
    memory, count = source.memory(), source.count()
    assert main(["incoming", "vm", "--qmp", str(destination.qmp), "--from", "tcp:127.0.0.1:0", "--no-wait", "--json"]) == 0
    listens = json.loads(capsys.readouterr().out)["listens"]
    assert migrate(source, listens, "vm") == 0
    assert arrived(source, destination, memory, count)
    assert capsys.readouterr().out.startswith("vm runs on the destination: the QEMU there has all of it; it stood still for ")


def test_incoming_waits_until_the_vm_is_there(
    start: Start, both: tuple[Qemu, Qemu], tmp_path: Path, background: Callable[..., subprocess.Popen[str]]
) -> None:
    source, destination = Machine.source(start, both[0], tmp_path), Machine.destination(start, both[1], tmp_path)
    memory, count, way = source.memory(), source.count(), tmp_path / "way"
    waiting = background("incoming", "vm", "--qmp", str(destination.qmp), "--from", f"unix:{way}")
    destination.await_listening()
    assert waiting.poll() is None
    assert migrate(source, f"unix:{way}") == 0
    assert waiting.communicate(timeout=PATIENCE_SECONDS)[0] == "vm runs on the destination: all of it is there\n"
    assert waiting.returncode == 0
    assert arrived(source, destination, memory, count)


def test_a_vm_sleeps_in_a_file_and_runs_on_from_it(
    start: Start, qemu10: Qemu, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, qemu10, tmp_path), Machine.destination(start, qemu10, tmp_path)
    memory, count, file = source.memory(), source.count(), f"file:{tmp_path}/vm,offset=4k"
    assert migrate(source, file, "vm", "--mode", "cpr-reboot") == 0
    assert capsys.readouterr().out.startswith(f"vm runs nowhere, as was asked: all of it is in {tmp_path}/vm; ")
    assert source.stands_still()
    source.running.end()
    assert main(["incoming", "--qmp", str(destination.qmp), "--from", file, "--mode", "cpr-reboot"]) == 0
    assert destination.runs()
    assert destination.memory() == memory
    assert destination.count() > count


def test_a_new_qemu_takes_a_vm_over_with_its_memory_where_it_lies(start: Start, qemu10: Qemu, tmp_path: Path) -> None:
    memory_of_both = "memory-backend-memfd,id=ram0,size=64M,share=on"
    shared = ["-object", memory_of_both, "-machine", f"{MACHINE},memory-backend=ram0,aux-ram-share=on"]
    source = Machine.source(start, qemu10, tmp_path, *shared)
    memory, count = source.memory(), source.count()
    ways = {kind: {"transport": "socket", "type": "unix", "path": f"{tmp_path}/{kind}"} for kind in ("main", "cpr")}
    incoming = ["-incoming", f"unix:{tmp_path}/main", "-incoming", json.dumps({"channel-type": "cpr", "addr": ways["cpr"]})]
    destination = Machine(start, qemu10, tmp_path, "destination", *shared, *incoming, wait=False)
    destination.await_file(tmp_path / "cpr")
    (tmp_path / "channels.json").write_text(json.dumps([{"channel-type": kind, "addr": addr} for kind, addr in ways.items()]))
    assert migrate(source, f"@{tmp_path}/channels.json", "--mode", "cpr-transfer") == 0
    assert (source.state(), destination.state()) == ("postmigrate", "running")
    assert destination.runs()
    assert destination.memory() == memory
    assert destination.count() > count


def test_a_vm_that_is_paused_arrives_paused(
    start: Start, qemu: Qemu, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, qemu, tmp_path), Machine.destination(start, qemu, tmp_path)
    with source.eye() as eye:
        eye.execute("stop")
    assert migrate(source, f"unix:{tmp_path}/way", "vm", "--incoming-qmp", str(destination.qmp)) == 0
    assert capsys.readouterr().out.startswith("vm is on the destination, paused: ")
    assert destination.state() == "paused"


def test_a_qemu_without_channels_is_told_a_uri(start: Start, qemu: Qemu, tmp_path: Path) -> None:
    source, destination = Machine.source(start, qemu, tmp_path), Machine.destination(start, qemu, tmp_path)
    addr = {"transport": "socket", "type": "unix", "path": str(tmp_path / "way")}
    (tmp_path / "channels.json").write_text(json.dumps([{"channel-type": "main", "addr": addr}]))
    assert migrate(source, f"@{tmp_path}/channels.json", "--incoming-qmp", str(destination.qmp)) == 0
    assert destination.runs()


def test_a_destination_that_dies_half_way_leaves_the_vm_running_at_the_source(
    start: Start, both: tuple[Qemu, Qemu], tmp_path: Path, background: Callable[..., subprocess.Popen[str]]
) -> None:
    source, destination = Machine.source(start, both[0], tmp_path), Machine.destination(start, both[1], tmp_path)
    source.slow_down()
    verb = background("migrate", "vm", *_ways(source, destination, tmp_path))
    source.await_status("active")
    destination.running.end()
    said = verb.communicate(timeout=PATIENCE_SECONDS)[0]
    assert (verb.returncode, said[: said.index(":")]) == (1, "vm runs on the source")
    assert "the other end hung up" in said
    assert source.runs()


def test_a_source_that_dies_half_way_is_said_to_have_lost_the_vm(
    start: Start, qemu: Qemu, tmp_path: Path, background: Callable[..., subprocess.Popen[str]]
) -> None:
    source, destination = Machine.source(start, qemu, tmp_path), Machine.destination(start, qemu, tmp_path)
    source.slow_down()
    verb = background("migrate", "vm", *_ways(source, destination, tmp_path))
    source.await_status("active")
    source.running.end()
    said = verb.communicate(timeout=PATIENCE_SECONDS)[0]
    assert (verb.returncode, said[: said.index(":")]) == (1, "vm runs nowhere")
    assert said.endswith("cure: start it anew from its disks; the log of its QEMU says why that ended\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_calls_the_migration_off_and_the_vm_runs_on_at_the_source(
    start: Start, qemu: Qemu, number: int, tmp_path: Path, background: Callable[..., subprocess.Popen[str]]
) -> None:
    source, destination = Machine.source(start, qemu, tmp_path), Machine.destination(start, qemu, tmp_path)
    source.slow_down()
    before = source.settings()
    verb = background("migrate", "vm", *_ways(source, destination, tmp_path), "--bandwidth", "100K")
    source.await_status("active")
    verb.send_signal(number)
    said, progress = verb.communicate(timeout=PATIENCE_SECONDS)
    assert (verb.returncode, said) == (1, "vm runs on the source: it was told to end\n")
    assert "calling the migration off" in progress
    assert source.runs()
    assert source.settings() == before


def test_a_destination_that_hangs_is_waited_for_no_longer_than_was_said(
    start: Start, qemu: Qemu, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, qemu, tmp_path), Machine.destination(start, qemu, tmp_path)
    assert main(["incoming", "--qmp", str(destination.qmp), "--from", f"unix:{tmp_path}/way", "--no-wait"]) == 0
    destination.running.process.send_signal(signal.SIGSTOP)
    capsys.readouterr()
    assert migrate(source, f"unix:{tmp_path}/way", "vm", "--timeout", "2") == 1
    cure = "look at the destination's QEMU, and at the way to it"
    assert capsys.readouterr().out == f"vm runs on the source: it was not over after 2 s; cure: {cure}\n"
    assert source.runs()


def test_a_destination_with_less_memory_refuses_and_the_vm_runs_on_at_the_source(
    start: Start, both: tuple[Qemu, Qemu], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, both[0], tmp_path), Machine.destination(start, both[1], tmp_path, "-m", "32")
    assert migrate(source, f"unix:{tmp_path}/way", "vm", "--incoming-qmp", str(destination.qmp)) == 1
    assert capsys.readouterr().out.startswith("vm runs on the source: ")
    assert source.runs()


@pytest.mark.parametrize("way", ["unix", "exec"])
def test_a_destination_that_lacks_a_device_refuses_at_the_end_and_the_vm_runs_on_at_the_source(
    start: Start, both: tuple[Qemu, Qemu], way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, both[0], tmp_path, *EXTRA), Machine.destination(start, both[1], tmp_path)
    os.mkfifo(tmp_path / "pipe")
    ways = {"unix": [f"unix:{tmp_path}/way"] * 2, "exec": [f"exec:cat >{tmp_path}/pipe", f"exec:cat {tmp_path}/pipe"]}[way]
    assert migrate(source, ways[0], "vm", "--incoming-qmp", str(destination.qmp), "--incoming-from", ways[1]) == 1
    said = capsys.readouterr().out
    assert said.startswith("vm runs on the source: ")
    assert "cure: both QEMUs need the same machine type" in said
    assert source.runs()


def test_a_full_disk_leaves_the_vm_running(
    start: Start, qemu10: Qemu, full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Machine.source(start, qemu10, tmp_path)
    assert migrate(source, f"file:{full}/vm", "vm", "--mode", "cpr-reboot") == 1
    wanted = "vm runs on the source: Unable to write to file: No space left on device; cure: make room there, and say it again\n"
    assert capsys.readouterr().out == wanted
    assert source.runs()


@pytest.mark.parametrize("to", ["unix:{0}/nobody", "tcp:127.0.0.1:1"], ids=["unix", "tcp"])
def test_where_nobody_listens_the_vm_runs_on_and_the_cure_is_to_have_somebody_listen(
    start: Start, qemu: Qemu, to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Machine.source(start, qemu, tmp_path)
    assert migrate(source, to.format(tmp_path), "vm") == 1
    said = capsys.readouterr().out
    assert said.startswith("vm runs on the source: Failed to connect to ")
    assert "then 'pv-host-agent incoming'" in said
    assert source.runs()


def test_what_cannot_be_is_refused_before_anything_is_begun(
    start: Start, qemu7: Qemu, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Machine.source(start, qemu7, tmp_path)
    before = source.settings()
    for words, why in (
        (["--to", f"file:{tmp_path}/vm"], "none that takes no channels knows file:"),
        (["--to", "unix:/x", "--mode", "cpr-reboot"], "has no mode cpr-reboot, only normal"),
        (["--to", "unix:/x", "--capability", "mapped-ram"], "has no capability mapped-ram"),
        (["--to", "unix:/x", "--capability", "postcopy-ram"], "has to be gone on with by hand"),
        (["--to", "unix:/x", "--incoming-qmp", f"{tmp_path}/nobody"], "there is no such QMP socket"),
    ):
        assert main(["migrate", "--qmp", str(source.qmp), *words]) == 1
        assert why in capsys.readouterr().err
    assert source.runs()
    assert source.settings() == before


def test_a_qemu_without_a_vm_to_move_and_one_with_a_vm_are_told_apart(
    start: Start, qemu: Qemu, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = Machine.source(start, qemu, tmp_path), Machine.destination(start, qemu, tmp_path)
    assert migrate(destination, "unix:/x") == 1
    assert "waits for a VM, and has none to move" in capsys.readouterr().err
    assert main(["incoming", "--qmp", str(source.qmp), "--from", "unix:/x"]) == 1
    assert "has a VM already (running); cure: start another with '-incoming defer'" in capsys.readouterr().err
    assert migrate(source, f"exec:cat >{tmp_path}/vm") == 0
    assert "whether it was taken cannot be known here; cure: look at the destination" in capsys.readouterr().out
    assert migrate(source, "unix:/x") == 1
    assert "has had its VM moved away already; cure: where its VM runs nowhere say 'cont' to it" in capsys.readouterr().err


def test_the_qemu_of_a_xen_domain_is_left_to_libxl(
    start: Start, qemu7: Qemu, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Machine.source(start, qemu7, tmp_path)
    (tmp_path / "qmp-libxl-7").symlink_to(source.qmp)
    assert main(["migrate", "--qmp", f"{tmp_path}/qmp-libxl-7", "--to", "unix:/x"]) == 1
    assert "libxl moves the whole; cure: xl migrate DOMAIN HOST" in capsys.readouterr().err


def test_a_file_that_holds_no_vm_ends_in_a_sentence(
    start: Start, qemu10: Qemu, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    destination = Machine.destination(start, qemu10, tmp_path)
    (tmp_path / "vm").write_bytes(b"no VM at all" * 1000)
    assert main(["incoming", "--qmp", str(destination.qmp), "--from", f"file:{tmp_path}/vm"]) == 1
    said = capsys.readouterr().err
    assert "the VM did not come: load of migration failed" in said
    assert main(["incoming", "--qmp", str(destination.qmp), "--from", f"file:{tmp_path}/vm"]) == 1
    assert "has taken a VM in vain before" in capsys.readouterr().err


def _ways(source: Machine, destination: Machine, directory: Path) -> list[str]:
    return ["--qmp", str(source.qmp), "--to", f"unix:{directory}/way", "--incoming-qmp", str(destination.qmp)]
