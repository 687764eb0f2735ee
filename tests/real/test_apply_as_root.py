# SPDX-License-Identifier: Apache-2.0
"""What only root can show: keys written as their user, a disk that is really full, a kill at every line of the agent."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from guest_agent import homes
from pv_channel.messages import Outcome
from tests.guest.killing import leaves_old_or_new
from tests.guest.machine import Machine, document, key, no_progress, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Somebody who is not root, on every Debian.
NOBODY = pwd.getpwnam("nobody")
KEYS = "home/eve/.ssh/authorized_keys"
#: Every how-manieth line of the agent is its last: a prime, so that loops are met at each of their lines.
STRIDE = 7


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with the user eve, who is nobody here, in a home of her own."""
    if os.geteuid() != 0:
        pytest.fail("these tests need root")
    made = Machine(tmp_path)
    made.write("etc/passwd", f"eve:x:{NOBODY.pw_uid}:{NOBODY.pw_gid}::/home/eve:/bin/sh\n".encode())
    os.chown(made.directory("home/eve"), NOBODY.pw_uid, NOBODY.pw_gid)
    for path in (tmp_path, *tmp_path.parents[:2]):  # pytest's folders are for their owner only, and eve has to get home
        path.chmod(path.stat().st_mode | 0o011)
    return made


def give(machine: Machine, generation: int = 1) -> tuple[Outcome, object]:
    raw = document(generation, users=[{"name": "eve", "ssh_authorized_keys": [key(1)]}])
    (item,) = machine.provisioner().provision(raw, None, no_progress).items
    return item.outcome, item.reason


def test_what_is_made_in_a_home_belongs_to_its_user_and_root_is_root_again(machine: Machine) -> None:
    groups = os.getgroups()
    assert give(machine)[0] is Outcome.APPLIED
    for name in ("home/eve/.ssh", KEYS):
        status = (machine.root / name).stat()
        assert (status.st_uid, status.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == ((0, 0, 0), (0, 0, 0), groups)


def test_whoever_acts_as_a_user_is_that_user_to_the_kernel(machine: Machine) -> None:
    with homes.acting_as(homes.find(machine.system, "eve")):
        status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
        assert status["Uid"].split()[3] == str(NOBODY.pw_uid), "the file system's uid"
        assert int(status["CapEff"], 16) == 0
        assert status["Groups"].split() == [str(NOBODY.pw_gid)]
        with pytest.raises(PermissionError):
            (machine.root / "etc/hosts").write_bytes(b"")


def test_a_link_to_what_only_root_may_write_is_not_followed(machine: Machine) -> None:
    machine.directory("etc/private", 0o700)
    (machine.root / "home/eve/.ssh").symlink_to("../../etc/private")
    assert give(machine) == (Outcome.FAILED, "symlink")
    assert list((machine.root / "etc/private").iterdir()) == []


def test_a_home_or_a_ssh_directory_of_somebody_else_is_unsafe(machine: Machine) -> None:
    machine.directory("home/eve/.ssh", 0o755)
    os.chown(machine.root / "home/eve/.ssh", 0, 0)
    assert give(machine) == (Outcome.FAILED, "unsafe-home")
    os.chown(machine.root / "home/eve", 0, 0)
    assert give(machine) == (Outcome.FAILED, "unsafe-home")


def test_roots_secret_cannot_be_read_through_a_hard_link(machine: Machine) -> None:
    secret = machine.write("etc/shadow", b"root:secret\n", 0o600)
    os.chown(machine.directory("home/eve/.ssh", 0o700), NOBODY.pw_uid, NOBODY.pw_gid)
    os.link(secret, machine.root / KEYS)
    assert give(machine) == (Outcome.FAILED, "not-permitted")
    assert secret.read_bytes() == b"root:secret\n"


def swap_for_ever() -> NoReturn:
    """~/.ssh is a directory, then a link to what everybody may write, then a directory again."""
    while True:
        with suppress(OSError):
            Path(".ssh").rename("real")
        with suppress(OSError):
            Path(".ssh").symlink_to("../../etc/target")
        with suppress(OSError):
            if Path(".ssh").is_symlink():
                Path(".ssh").unlink()
        with suppress(OSError):
            if Path("real").is_dir():
                Path("real").rename(".ssh")


def test_a_user_who_swaps_the_directory_all_the_time_leads_nobody_astray(machine: Machine) -> None:
    os.chown(machine.directory("home/eve/.ssh", 0o700), NOBODY.pw_uid, NOBODY.pw_gid)
    machine.directory("etc/target", 0o777)
    swapper = os.fork()
    if swapper == 0:
        os.chdir(machine.root / "home/eve")
        os.setuid(NOBODY.pw_uid)
        swap_for_ever()
    try:
        outcomes = {give(machine, generation) for generation in range(1, 200)}
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    assert list((machine.root / "etc/target").iterdir()) == []
    assert (Outcome.FAILED, "symlink") in outcomes, "the race was run"
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_a_replaced_file_keeps_its_selinux_label(machine: Machine) -> None:
    hosts = machine.root / "etc/hosts"
    label = b"system_u:object_r:net_conf_t:s0\0"
    os.setxattr(hosts, "security.selinux", label)
    result = machine.provisioner().provision(document(local_hostname="web1"), None, no_progress)
    assert result.outcome is Outcome.APPLIED
    assert os.getxattr(hosts, "security.selinux") == label


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 KiB."""
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def test_a_disk_that_is_full_sooner_or_later_leaves_old_or_new(small_disk: Path) -> None:
    outcomes = []
    for number, free_blocks in enumerate(range(14)):
        machine = Machine(small_disk / str(number))
        old = machine.snapshot()
        status = os.statvfs(small_disk)
        filler = small_disk / "filler"
        filler.write_bytes(bytes((status.f_bfree - free_blocks) * status.f_frsize))
        result = machine.provisioner().provision(whole(), None, no_progress)
        outcomes.append(result.outcome)
        if result.outcome is Outcome.FAILED:
            reasons = {result.reason, *(item.reason for item in result.items)}
            assert "no-space" in reasons
            assert "rollback-failed" not in reasons
            assert machine.snapshot() == old
            assert "journal.json" not in machine.state_files()
        filler.unlink()
        assert machine.provisioner().provision(whole(), None, no_progress).outcome in (Outcome.APPLIED, Outcome.UNCHANGED)
        subprocess.run(["rm", "-r", str(small_disk / str(number))], check=True)
    assert outcomes[0] is Outcome.FAILED
    assert outcomes[-1] is Outcome.APPLIED


def test_a_kill_at_any_line_leaves_old_or_new() -> None:
    leaves_old_or_new(Machine, whole(), STRIDE)


def test_a_read_only_system_fails_with_that_reason_and_is_left_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    before = machine.snapshot()
    etc = str(machine.root / "etc")
    subprocess.run(["mount", "--bind", etc, etc], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", etc], check=True)
        result = machine.provisioner().provision(whole(), None, no_progress)
    finally:
        subprocess.run(["umount", etc], check=True)
    assert [(item.item, item.reason) for item in result.items if item.outcome is Outcome.FAILED] == [("hostname", "read-only")]
    assert machine.snapshot() == before
