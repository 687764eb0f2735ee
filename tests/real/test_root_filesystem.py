# SPDX-License-Identifier: Apache-2.0
"""File systems that fill their disk: real ones on loop devices, whole disks and partitions, grown while they are mounted.

Needs root, and Debian's e2fsprogs, xfsprogs, btrfs-progs, fdisk.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from guest_agent import root_device
from guest_agent.actions import root_filesystem
from guest_agent.failure import ItemError
from guest_agent.system import System

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.actions.plan import Plan

MIB = 1024 * 1024
#: xfs wants 300 MiB at least.
BEFORE, AFTER = 400 * MIB, 900 * MIB
_CAP_SYS_RESOURCE = 24
MAKE = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"], "btrfs": ["mkfs.btrfs", "-q"]}
#: The partition to grow is the first of the disk, with another in front of it in number, as cloud images have it.
TABLES = {
    "gpt": "label: gpt\nstart=10240, size=20480\nstart=32768\n",
    "dos": "label: dos\nstart=2048, size=8192\nstart=10240\n",
}


def run(*command: str, given: str = "") -> str:
    """What *command* prints; it is a failure of the test where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, input=given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


class Disk:
    """A file that is a disk, grown as a hypervisor does it."""

    def __init__(self, top: Path, table: str = "") -> None:
        if os.geteuid() != 0:
            pytest.fail("these tests need root")
        self.image, self.mount = top / "disk", top / "mounted"
        self.mount.mkdir()
        self.resize(BEFORE)
        if table:
            run("sfdisk", "--quiet", str(self.image), given=table)
        self.device = run("losetup", "--find", "--show", str(self.image))
        if table:  # told to the kernel by us: not every kernel reads tables by itself
            run("partx", "--add", self.device)

    def resize(self, size: int) -> None:
        """Have another size; the guest's kernel sees it at once, as blkfront does."""
        with self.image.open("ab") as file:
            file.truncate(size)
        if hasattr(self, "device"):
            run("losetup", "--set-capacity", self.device)

    def use(self, kind: str, part: str = "") -> None:
        """Make a file system and mount it."""
        run(*MAKE[kind], self.device + part)
        run("mount", self.device + part, str(self.mount))

    def close(self) -> None:
        """Have it no more."""
        with suppress(AssertionError):
            run("umount", str(self.mount))
        with suppress(AssertionError):
            run("partx", "--delete", self.device)
        run("losetup", "--detach", self.device)

    def plan(self) -> Plan:
        """What the item takes, were this the root."""
        system = System()
        return root_filesystem.grow(system, root_device.find(system, str(self.mount)))

    def size(self) -> int:
        """What df(1) says, in bytes."""
        status = os.statvfs(self.mount)
        return status.f_blocks * status.f_frsize


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A disk, with the table that the test asks for."""
    asked = getattr(request, "param", "")
    made = Disk(tmp_path, TABLES.get(asked, asked))
    try:
        yield made
    finally:
        made.close()


def may_grow(kind: str) -> bool:
    """Whether this machine's root may: ext4 asks for CAP_SYS_RESOURCE, which a container's often lacks (capabilities(7))."""
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return kind != "ext4" or bool(int(effective.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)


def carry_out(disk: Disk, kind: str) -> bool:
    """Apply, and check as a transaction does. False where the kernel says no, which has to be said so, with nothing harmed."""
    system = System()
    (change,) = disk.plan().changes
    assert not change.holds(system)
    if not may_grow(kind):
        before = disk.size()
        with pytest.raises(ItemError) as refused:
            change.apply(system)
        assert refused.value.reason == "command-failed"
        assert any(line.endswith("Permission denied to resize filesystem") for line in refused.value.log)
        assert disk.size() == before
        return False
    change.apply(system)
    assert change.holds(system)
    assert disk.plan().detail.endswith("fills its disk")
    return True


@pytest.mark.parametrize("kind", MAKE)
def test_a_file_system_on_a_whole_disk_grows_with_it_and_keeps_its_files(disk: Disk, kind: str) -> None:
    disk.use(kind)
    (disk.mount / "file").write_text("kept")
    plan = disk.plan()
    assert plan.detail.endswith("fills its disk")
    assert plan.changes[0].holds(System())
    disk.resize(AFTER)
    if carry_out(disk, kind):
        assert disk.size() > AFTER * 0.85
    assert (disk.mount / "file").read_text() == "kept"


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("disk", TABLES, indirect=True)
def test_a_partition_grows_to_the_end_of_its_disk_and_the_file_system_with_it(disk: Disk, kind: str) -> None:
    disk.use(kind, "p2")
    assert disk.plan().changes[0].holds(System()), "a new one leaves nothing that is worth growing"
    disk.resize(AFTER)
    if carry_out(disk, kind):
        assert disk.size() > AFTER * 0.85
    sectors = int(Path(f"/sys/class/block/{disk.device[5:]}p2/size").read_text())
    assert sectors * 512 > AFTER * 0.95
    assert "No errors detected" in run("sfdisk", "--verify", disk.device)


@pytest.mark.parametrize("disk", ["label: dos\nstart=2048, size=307200\nstart=614400, size=8192\n"], indirect=True)
def test_a_partition_grows_no_further_than_the_next(disk: Disk) -> None:
    disk.use("btrfs", "p1")
    disk.resize(AFTER)
    carry_out(disk, "btrfs")
    assert 250 * MIB < disk.size() < 300 * MIB


@pytest.mark.parametrize("disk", ["label: dos\nstart=2048, type=5\nstart=4096\n"], indirect=True)
def test_a_logical_partition_is_refused_and_left(disk: Disk) -> None:
    disk.use("ext4", "p5")
    table = run("sfdisk", "--dump", disk.device)
    disk.resize(AFTER)
    with pytest.raises(ItemError, match="extended partition"):
        disk.plan()
    assert run("sfdisk", "--dump", disk.device) == table


def test_what_is_no_block_device_is_refused() -> None:
    with pytest.raises(ItemError, match="not-supported"):
        root_device.find(System(), "/proc")
    with pytest.raises(ItemError, match="nothing is mounted"):
        root_device.find(System(), "/etc")
