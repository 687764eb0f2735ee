# SPDX-License-Identifier: Apache-2.0
"""Backend programs against QEMU's conventions: ours, and virtiofsd as the control; ours under systemd, and on a disk to read."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.backends.conformance import SENTENCES
from host_agent.backends.examination import Result, examine
from host_agent.install import install
from host_agent.keys import load_or_create
from tests.host.conforming import MORE_FAULTS, NEVER_TRIED, PATIENT, Fault, check_fault, named
from tests.host.conforming import results as results_of
from tests.host.fakes import FakeGuest, FakeQemu

if TYPE_CHECKING:
    from collections.abc import Callable

TOP = Path(__file__).parents[2]
#: Debian 12's, in qemu-system-common.
VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")
OF_DEVICES = {"input-options", "gpu-options", "block-options"}
DEADLINE_SECONDS = 120.0
NOBODY = 65534


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with a document, and with this host's key."""
    (tmp_path / "web1.yaml").write_text("instance-id: i-1\nlocal-hostname: web1\n")
    load_or_create(tmp_path / "state", "test")
    return tmp_path


def words(work: Path) -> list[str]:
    return ["--document", str(work / "web1.yaml"), "--state", str(work / "state")]


def as_program(path: Path, module: str) -> Path:
    """A file at *path* that starts *module* with its own arguments."""
    path.write_text(f'#!/bin/sh\ncd "{TOP}" && exec "{sys.executable}" -m {module} "$@"\n')
    path.chmod(0o755)
    return path


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def hostnames(guest: FakeGuest) -> list[str]:
    return [str(document.local_hostname) for document in guest.applied]


@pytest.mark.parametrize("fault", MORE_FAULTS, ids=str)
def test_a_bad_program_fails_exactly_its_sentence(fault: Fault) -> None:
    check_fault(fault)


def test_the_program_that_is_installed_and_described_passes_all(work: Path) -> None:
    list(install(work / "root"))
    program = Path(shutil.which("pv-channel-backend", path=str(Path(sys.executable).parent)) or "not installed")
    found = results_of(program, [*words(work), "--no-ledger"], PATIENT, [work / "root/usr/share/pv-host-agent/backends"])
    assert named(found, Result.FAIL) == set()
    assert named(found, Result.NOT_TESTED) == {"dynamic-capabilities"} | OF_DEVICES


def test_our_vhost_user_device_passes_all(work: Path) -> None:
    found = results_of(as_program(work / "rng", "host_agent.backends.vhost_user_rng"), [], PATIENT)
    assert named(found, Result.FAIL) == set()
    assert named(found, Result.NOT_TESTED) == NEVER_TRIED


def test_virtiofsd_passes_but_for_a_sentence_that_it_does_not_follow(work: Path) -> None:
    """What our suite says of a program that we did not write."""
    shared = work / "shared"
    shared.mkdir()
    its = ["-o", f"source={shared}"]
    judged = {each.sentence.name: each.verdict for each in examine(VIRTIOFSD, its, SENTENCES, PATIENT, [])}
    assert {name: verdict.seen for name, verdict in judged.items() if verdict.result is Result.FAIL} == {
        "ignores-the-rest": "with --print-capabilities --no-such-option=1 no-such-argument: it ended with status 1,"
        " saying 'fuse: invalid argument `no-such-argument''",
    }
    untried = {name for name, verdict in judged.items() if verdict.result is Result.NOT_TESTED}
    assert untried == {"dynamic-capabilities"} | OF_DEVICES
    assert judged["capabilities-schema"].seen == "type fs"
    assert judged["described"].result is Result.PASS


@pytest.mark.parametrize("accept", [False, True], ids=["one listening socket", "a socket for each connection"])
def test_systemd_passes_the_socket(work: Path, accept: bool) -> None:
    guest, path = FakeGuest(), work / "vm1.sock"
    program = as_program(work / "backend", "host_agent backend")
    activate = ["systemd-socket-activate", *(["--accept"] if accept else []), f"--listen={path}"]
    with subprocess.Popen([*activate, str(program), *words(work), "--no-ledger"], stdin=subprocess.DEVNULL) as process:
        try:
            until(path.exists, "no socket")
            with socket.socket(socket.AF_UNIX) as end:
                end.connect(os.fspath(path))
                end.settimeout(DEADLINE_SECONDS)
                while hostnames(guest) != ["web1"]:
                    end.sendall(guest.receive(end.recv(65536)))
            if not accept:  # what was activated is served to its end
                assert process.wait(DEADLINE_SECONDS) == 0
        finally:
            process.terminate()


def test_a_stranger_who_connects_first_learns_nothing_and_is_in_nobodys_way(work: Path) -> None:
    guest = FakeGuest()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0pv-channel-test-{os.getpid()}")  # a name that everybody may connect to
        listener.listen()
        backend = [sys.executable, "-m", "host_agent", "backend", *words(work), f"--fd={listener.fileno()}"]
        with (
            subprocess.Popen(backend, cwd=TOP, pass_fds=[listener.fileno()], stderr=subprocess.PIPE, text=True) as process,
            socket.socket(socket.AF_UNIX) as stranger,
            socket.socket(socket.AF_UNIX) as end,
        ):
            os.seteuid(NOBODY)
            try:
                stranger.connect(listener.getsockname())
            finally:
                os.seteuid(0)
            end.connect(listener.getsockname())
            for each in (stranger, end):
                each.settimeout(DEADLINE_SECONDS)
            assert stranger.recv(1) == b""
            while hostnames(guest) != ["web1"]:
                end.sendall(guest.receive(end.recv(65536)))
            process.terminate()
            assert f"of uid {NOBODY} connected" in process.communicate(timeout=DEADLINE_SECONDS)[1]


#: All of the machine's disk can only be read, its directories of our own among it.
READ_ONLY = 'mount --make-rprivate / && mount -o remount,bind,ro / && exec "$@"'


def read_only(work: Path, *more: str) -> list[str]:
    backend = [sys.executable, "-m", "host_agent", "backend", *words(work), f"--socket-path={work / 'vm1.sock'}", *more]
    return ["unshare", "--mount", "sh", "-euc", READ_ONLY, "sh", *backend]


def test_on_a_read_only_disk_a_guest_is_served_without_a_ledger(work: Path) -> None:
    guest = FakeGuest()
    with FakeQemu(work / "vm1.sock", guest):
        with subprocess.Popen(read_only(work, "--no-ledger"), cwd=TOP, stdin=subprocess.DEVNULL) as process:
            try:
                until(lambda: hostnames(guest) == ["web1"] or process.poll() is not None, "the document")
                assert hostnames(guest) == ["web1"]
            finally:
                process.terminate()
        assert process.returncode == 0


def test_on_a_read_only_disk_a_ledger_that_is_asked_for_is_a_reason_to_end(work: Path) -> None:
    done = subprocess.run(read_only(work), cwd=TOP, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.returncode == 1
    assert "ledger.sqlite: Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
