# SPDX-License-Identifier: Apache-2.0
"""What of `seal` needs root: what is mounted is not entered, users' files are written as their users, systemd takes the id."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from guest_agent import files, trees
from tests.guest.machine import Machine, document, key, provision
from tests.guest.test_seal import LINE, installed

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).parent.parent.parent
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Path]:
    """A folder with another file system in it, and a folder of its own file system shown a second time."""
    top = tmp_path / "top"
    for name in ("other", "same", "plain/below"):
        (top / name).mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").touch()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(top / "other")], check=True)
    subprocess.run(["mount", "--bind", str(tmp_path / "elsewhere"), str(top / "same")], check=True)
    try:
        (top / "other/file").touch()
        (top / "plain/below/file").touch()
        yield top
    finally:
        subprocess.run(["umount", str(top / "same"), str(top / "other")], check=True)


def test_what_is_mounted_is_not_entered(mounts: Path, tmp_path: Path) -> None:
    with files.directory(str(mounts)) as opened:
        assert trees.clear(opened) == 3
        assert trees.clear(opened, dry=True) == 0
    assert sorted(path.name for path in mounts.iterdir()) == ["other", "same"]
    assert (mounts / "other/file").exists()
    assert (tmp_path / "elsewhere/file").exists()


def seal(root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The command itself, without a terminal."""
    command = [sys.executable, "-m", "guest_agent", "seal", "--root", str(root), *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=TOP, stdin=subprocess.DEVNULL, timeout=60)


def test_an_image_is_sealed_by_the_command_and_the_users_keys_stay_theirs(tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents[:2]):  # pytest's folders are for their owner only, and eve has to get home
        path.chmod(path.stat().st_mode | 0o011)
    machine = installed(Machine(tmp_path))
    machine.write("etc/passwd", f"eve:x:{NOBODY.pw_uid}:{NOBODY.pw_gid}::/home/eve:/bin/sh\n".encode())
    os.chown(machine.directory("home/eve"), NOBODY.pw_uid, NOBODY.pw_gid)
    provision(machine, document(users=[{"name": "eve", "ssh_authorized_keys": [key(1)]}]))
    keys = machine.root / "home/eve/.ssh/authorized_keys"
    assert key(1) in keys.read_text()
    assert seal(machine.root, "--trust", LINE).returncode == 2
    done = seal(machine.root, "--trust", LINE, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert keys.read_text() == ""
    assert (keys.stat().st_uid, keys.stat().st_mode & 0o7777) == (NOBODY.pw_uid, 0o600)
    assert "Nothing is left to do" in seal(machine.root, "--yes").stdout


def test_systemd_gives_the_first_boot_of_a_sealed_machine_an_id_of_its_own(tmp_path: Path) -> None:
    machine = installed(Machine(tmp_path))
    machine.write("etc/machine-id", b"0123456789abcdef0123456789abcdef\n", 0o444)
    assert seal(machine.root, "--trust", LINE, "--yes").returncode == 0
    assert machine.read("etc/machine-id") == "uninitialized\n"
    setup = shutil.which("systemd-machine-id-setup")
    if setup is None:
        pytest.fail("systemd-machine-id-setup is missing; on Debian: apt-get install systemd")
    subprocess.run([setup, f"--root={machine.root}"], check=True, capture_output=True)
    new = machine.read("etc/machine-id").strip()
    assert len(new) == 32
    assert new != "0123456789abcdef0123456789abcdef"


def test_a_disk_that_is_read_only_is_said_and_nothing_is_half_done(tmp_path: Path) -> None:
    machine = installed(Machine(tmp_path))
    where = str(machine.root)
    subprocess.run(["mount", "--bind", where, where], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", where], check=True)
        done = seal(machine.root, "--trust", LINE, "--yes")
    finally:
        subprocess.run(["umount", where], check=True)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
