# SPDX-License-Identifier: Apache-2.0
"""Keys on disk and what `keys` and `install` make; the daemon as a process: killed, stopped, started twice."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent import VERSION, keys
from host_agent.__main__ import main
from host_agent.authorities.authority import certificate_line
from host_agent.errors import BadFile
from pv_channel.trust import parse_trusted, sign
from tests.host.fakes import FakeGuest, FakeQemu

if TYPE_CHECKING:
    from collections.abc import Callable

TOP = Path(__file__).resolve().parents[2]


def test_the_version_is_the_distributions() -> None:
    assert tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_keys_init_makes_a_private_key_once_and_prints_what_a_template_pins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    assert main(["keys", "init", "--state", str(state)]) == 0
    printed = capsys.readouterr().out
    identity = keys.load(state)
    assert identity is not None
    assert parse_trusted(printed).host_keys == {identity.key.public}
    assert stat.S_IMODE((state / "host.key").stat().st_mode) == 0o600
    assert main(["keys", "init", "--state", str(state)]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["keys", "init", "--force", "--state", str(state)]) == 0
    replaced = keys.load(state)
    assert replaced is not None
    assert replaced.key.public != identity.key.public


def test_a_key_that_others_can_read_is_refused_with_the_cure(tmp_path: Path) -> None:
    keys.create_host_key(tmp_path, "", replace=False)
    (tmp_path / "host.key").chmod(0o640)
    with pytest.raises(BadFile, match="chmod 600"):
        keys.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"pv-host-x25519-private\n", b"pv-host-x25519-private AAAA\n", b"\xff" * 40, b"x" * 5000]
)
def test_a_damaged_key_is_refused_and_never_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "host.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadFile) as caught:
        keys.load(tmp_path)
    assert "AAAA" not in str(caught.value)


def test_a_certificate_for_another_key_stops_the_host(tmp_path: Path) -> None:
    keys.create_host_key(tmp_path, "", replace=False)
    with (tmp_path / "host.key").open("ab") as file:
        file.write(certificate_line(sign(bytes(32), bytes(32), issued=1, label="a")))
    with pytest.raises(BadFile, match="keys request"):
        keys.load(tmp_path)


def test_an_authority_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state"
    assert main(["keys", "authority", "--state", str(state)]) == 0
    assert parse_trusted(capsys.readouterr().out).authorities
    before = (state / "authority.key").read_bytes()
    assert main(["keys", "authority", "--state", str(state)]) == 1
    assert (state / "authority.key").read_bytes() == before


def test_install_puts_unit_and_private_directories_in_place_twice_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["install", "--root", str(tmp_path)]) == 0
    configuration = ["etc/pv-host-agent", "etc/pv-host-agent/documents", "etc/pv-host-agent/groups"]
    for directory in (*configuration, "var/lib/pv-host-agent", "run/pv-channel"):
        assert stat.S_IMODE((tmp_path / directory).stat().st_mode) == 0o700
    unit = (tmp_path / "etc/systemd/system/pv-host-agent.service").read_text()
    command = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert command.removeprefix("ExecStart=").split()[0].startswith("/")
    assert command.endswith(" serve")
    capsys.readouterr()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is systemd's own judge of units")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--root", str(tmp_path)]) == 0
    capsys.readouterr()
    unit = tmp_path / "etc/systemd/system/pv-host-agent.service"
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


class Daemon:
    """`serve` as a process."""

    def __init__(self, work: Path) -> None:
        self.work = work
        for name in ("documents", "sockets"):
            (work / name).mkdir(mode=0o700, exist_ok=True)
        command = [sys.executable, "-m", "host_agent", "serve", "--state", str(work / "state")]
        command += ["--documents", str(work / "documents"), "--sockets", str(work / "sockets")]
        self.log = work / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, stdout=log, cwd=TOP)

    def wait_for(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 30
        while not true():
            assert time.monotonic() < deadline, f"{what}: {self.log.read_text()}"
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)


def test_a_daemon_that_was_killed_is_followed_by_one_that_applies_nothing_twice_and_stops_within_a_second(tmp_path: Path) -> None:
    guest = FakeGuest()
    (tmp_path / "documents").mkdir(mode=0o700)
    (tmp_path / "documents" / "vm1.yaml").write_text("instance-id: i-1\nlocal-hostname: web1\n")
    first = Daemon(tmp_path)
    second = None
    try:
        with FakeQemu(tmp_path / "sockets" / "vm1.sock", guest):
            first.wait_for(lambda: len(guest.applied) == 1, "provisioned")
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.wait(10)
            second = Daemon(tmp_path)
            second.wait_for(lambda: guest.pinged > 0, "asked, not told")
            third = Daemon(tmp_path)
            assert third.process.wait(30) == 1
            assert "another 'pv-host-agent serve'" in third.log.read_text()
            began = time.monotonic()
            second.process.terminate()
            assert second.process.wait(10) == 0
            assert time.monotonic() - began < 1
        assert len(guest.applied) == 1
    finally:
        for daemon in (first, second):
            if daemon is not None and daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
