# SPDX-License-Identifier: Apache-2.0
"""What the root lies on, read from a machine's /proc and /sys, and what is refused before anything runs."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from guest_agent import root_device
from guest_agent.command import Completed
from guest_agent.failure import ItemError
from guest_agent.root_device import Root
from pv_channel.messages import ItemResult, Outcome
from tests.guest.machine import Machine, document, provision

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2048


class Disk:
    """/sys's view of a disk with partitions, in sectors."""

    def __init__(self, machine: Machine, name: str, size: int, *parts: tuple[int, int]) -> None:
        self.machine, self.name = machine, name
        self.device(name, "202:0", f"../../devices/vbd-51712/block/{name}", size=size)
        for number, (start, length) in enumerate(parts, 1):
            part = f"{name}{number}"
            target = f"../../devices/vbd-51712/block/{name}/{part}"
            self.device(part, f"202:{number}", target, size=length, start=start, partition=number)

    def device(self, name: str, number: str, target: str, **values: int) -> None:
        """One device's files; those of a partition lie in its disk's too."""
        link = self.machine.directory("sys/dev/block") / number
        link.symlink_to(target)
        for file, value in values.items():
            self.machine.write(f"sys/class/block/{name}/{file}", f"{value}\n".encode())
            if name != self.name:
                self.machine.write(f"sys/class/block/{self.name}/{name}/{file}", f"{value}\n".encode())
        self.machine.write(f"sys/class/block/{name}/dev", f"{number}\n".encode())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """With the programs that it takes."""
    made = Machine(tmp_path)
    for name in ("resize2fs", "sfdisk", "partx"):
        made.write(f"usr/sbin/{name}")
    return made


def mounted(machine: Machine, number: str, kind: str, source: str) -> None:
    """The root is this; something else was mounted there before."""
    lines = [
        "1 0 0:1 / / rw - rootfs rootfs rw",
        f"22 1 {number} / / rw,relatime shared:1 - {kind} {source} rw",
        "23 22 0:5 / /dev rw - devtmpfs udev rw",
    ]
    machine.write("proc/self/mountinfo", "\n".join([*lines, ""]).encode())


def superblock(machine: Machine, device: str, blocks: int) -> None:
    """ext4 of so many blocks of 4 KiB."""
    block = bytearray(1024)
    struct.pack_into("<I", block, 4, blocks)
    struct.pack_into("<I", block, 24, 2)
    struct.pack_into("<H", block, 56, 0xEF53)
    machine.write(f"dev/{device}", bytes(1024) + bytes(block))


def give(machine: Machine, *, resize: bool = True) -> ItemResult:
    """The item's result."""
    (item,) = provision(machine, document(resize_rootfs=resize)).items
    return item


def test_a_whole_disk_as_xen_has_it_is_no_partition(machine: Machine) -> None:
    Disk(machine, "xvda", 100 * MIB)
    mounted(machine, "202:0", "ext4", "/dev/root")
    assert root_device.find(machine.system) == Root("/", "ext4", "xvda", 0, "")


def test_a_partition_is_known_with_its_disk_and_its_room(machine: Machine) -> None:
    Disk(machine, "xvda", 100 * MIB, (20 * MIB, 30 * MIB), (MIB, 10 * MIB), (80 * MIB, 5 * MIB))
    mounted(machine, "202:1", "ext4", "/dev/xvda1")
    root = root_device.find(machine.system)
    assert root == Root("/", "ext4", "xvda1", 1, "xvda")
    assert root_device.free_sectors(machine.system, root) == 30 * MIB
    assert root_device.device_bytes(machine.system, root) == 30 * 1024 * 1024


def test_btrfs_is_found_by_its_source(machine: Machine) -> None:
    Disk(machine, "xvda", 100 * MIB, (MIB, 90 * MIB))
    mounted(machine, "0:31", "btrfs", "/dev/xvda1")
    assert root_device.find(machine.system) == Root("/", "btrfs", "xvda1", 1, "xvda")


@pytest.mark.parametrize(("kind", "source"), [("overlay", "overlay"), ("tmpfs", "tmpfs"), ("nfs", "10.0.0.1:/root")])
def test_what_lies_on_no_disk_is_refused(machine: Machine, kind: str, source: str) -> None:
    mounted(machine, "0:40", kind, source)
    assert give(machine).reason == "not-supported"


def test_a_logical_volume_is_refused_with_what_grows_it(machine: Machine) -> None:
    (machine.directory("sys/dev/block") / "254:0").symlink_to("../../devices/virtual/block/dm-0")
    mounted(machine, "254:0", "ext4", "/dev/mapper/vg-root")
    assert "lvextend" in give(machine).detail


def test_a_root_that_fills_its_disk_is_unchanged(machine: Machine) -> None:
    Disk(machine, "xvda", 100 * MIB)
    mounted(machine, "202:0", "ext4", "/dev/xvda")
    superblock(machine, "xvda", 100 * 256)
    assert (give(machine).outcome, machine.programs.calls) == (Outcome.UNCHANGED, [])


def test_one_that_does_not_is_grown_and_looked_at_again(machine: Machine) -> None:
    Disk(machine, "xvda", 100 * MIB)
    mounted(machine, "202:0", "ext4", "/dev/xvda")
    superblock(machine, "xvda", 50 * 256)
    item = give(machine)
    assert item.reason == "not-in-force", "a program that does nothing is found out"
    assert machine.programs.calls == ["resize2fs /dev/xvda"]


def test_a_partition_grows_before_its_file_system(machine: Machine) -> None:
    Disk(machine, "xvda", 100 * MIB, (MIB, 30 * MIB))
    mounted(machine, "202:1", "ext4", "/dev/xvda1")
    superblock(machine, "xvda1", 30 * 256)
    machine.write("dev/xvda", bytes(512) + b"EFI PART" + bytes(512))
    give(machine)
    words = [call.split()[0] for call in machine.programs.calls]
    assert words == ["sfdisk", "sfdisk", "partx", "resize2fs"]
    assert "gpt-bak-std" in machine.programs.calls[0]
    assert "-N 1 /dev/xvda" in machine.programs.calls[1]


def test_a_program_that_fails_is_quoted(machine: Machine) -> None:
    Disk(machine, "xvda", 100 * MIB, (MIB, 30 * MIB))
    mounted(machine, "202:1", "ext4", "/dev/xvda1")
    superblock(machine, "xvda1", 30 * 256)
    machine.write("dev/xvda", bytes(1024))
    machine.programs.endings["sfdisk"] = Completed(1, b"no room\n")
    item = give(machine)
    assert (item.reason, item.log) == ("command-failed", ["no room"])


def test_a_missing_program_is_named_with_its_package(machine: Machine) -> None:
    Disk(machine, "xvda", 100 * MIB, (MIB, 30 * MIB))
    mounted(machine, "202:1", "ext4", "/dev/xvda1")
    superblock(machine, "xvda1", 30 * 256)
    machine.remove("usr/sbin/sfdisk")
    item = give(machine)
    assert (item.reason, "fdisk" in item.detail) == ("not-supported", True)


def test_a_damaged_superblock_is_no_reason_to_grow(machine: Machine) -> None:
    Disk(machine, "xvda", 100 * MIB)
    mounted(machine, "202:0", "ext4", "/dev/xvda")
    for content in (b"", bytes(4096)):
        machine.write("dev/xvda", content)
        with pytest.raises(ItemError, match="no superblock"):
            root_device.file_system_bytes(machine.system, root_device.find(machine.system))


def test_where_it_is_not_asked_for_nothing_is_looked_at(machine: Machine) -> None:
    assert give(machine, resize=False).detail == "left as it is"
