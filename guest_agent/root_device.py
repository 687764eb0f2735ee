# SPDX-License-Identifier: Apache-2.0
"""What the root file system lies on, by /proc and /sys: the device, its partition and disk, and how much of them is used."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from guest_agent.system import System

#: /sys counts in these, whatever the disk's own sectors are.
SECTOR: Final = 512
#: Partitions begin and end at whole MiB, and GPT's second header ends the disk: what they leave is not worth growing.
SLACK_SECTORS: Final = 2 * 2048
#: A last group of blocks that is too small for its own tables is left out by resize2fs(8); xfs has a least size too.
SLACK_BYTES: Final = 16 * 1024 * 1024
_BLOCKS: Final = "/sys/class/block"
_EXT: Final = ("ext2", "ext3", "ext4")
#: ext4's superblock (Linux, Documentation/filesystems/ext4/super.rst): blocks, size of one, magic, upper half of the first.
_EXT_AT: Final = 1024
_EXT_MAGIC: Final = 0xEF53
#: _IOR('X', 100, struct xfs_fsop_geom_v1): eight words, then the blocks of data (ioctl_xfs_fsgeometry(2)).
_XFS_GEOMETRY: Final = 0x80705864
_XFS_SIZE: Final = 0x70


class Root(NamedTuple):
    """A mounted file system: of which kind, on which device, and which partition of which disk that is (0: none)."""

    mount: str
    kind: str
    device: str
    partition: int
    disk: str


def find(system: System, mount: str = "/") -> Root:
    """What is mounted at *mount*; raise `ItemError` where that is nothing that the agent can grow."""
    number, kind, source = _mounted(system, mount)
    if number.startswith("0:") and source.startswith("/dev/"):  # btrfs has a number of no device
        number = system.text(f"{_BLOCKS}/{source.removeprefix('/dev/')}/dev", 32).strip()
    parts = system.link(f"/sys/dev/block/{number}").split("/")
    name = parts[-1]
    if not name:
        raise ItemError("not-supported", f"{mount} is {kind} on {source}, which is no block device that grows")
    if name.startswith(("dm-", "md")):
        raise ItemError("not-supported", f"{mount} is on {source} ({name}), which its own tools grow: lvextend(8), mdadm(8)")
    partition = system.text(f"{_BLOCKS}/{name}/partition", 32).strip()
    if not partition.isdecimal():
        return Root(mount, kind, name, 0, "")
    return Root(mount, kind, name, int(partition), parts[-2])


def _mounted(system: System, mount: str) -> tuple[str, str, str]:
    """Device number, kind and source of what is mounted at *mount* (proc(5), "mountinfo")."""
    for line in reversed(system.text("/proc/self/mountinfo").splitlines()):
        fields = line.split(" ")
        if len(fields) > 4 and fields[4] == mount and "-" in fields:
            end = fields.index("-")
            return fields[2], fields[end + 1], fields[end + 2]
    raise ItemError("not-supported", f"nothing is mounted at {mount}")


def free_sectors(system: System, root: Root) -> int:
    """How much room there is behind the partition."""
    start, size = (_number(system, f"{root.device}/{name}") for name in ("start", "size"))
    disk = f"{_BLOCKS}/{root.disk}"
    others = [_number(system, f"{name}/start") for name in system.names(disk) if system.exists(f"{disk}/{name}/partition")]
    behind = [other for other in others if other >= start + size]
    return min([*behind, _number(system, f"{root.disk}/size")]) - start - size


def is_logical(system: System, root: Root) -> bool:
    """Whether the partition lies in an extended one, which would have to grow with it; the kernel shows those as 1 KiB."""
    disk = f"{_BLOCKS}/{root.disk}"
    extended = [name for name in system.names(disk) if system.text(f"{disk}/{name}/size", 32).strip() == "2"]
    return root.partition > 4 and any(system.exists(f"{disk}/{name}/partition") for name in extended)


def device_bytes(system: System, root: Root) -> int:
    """The size of what the file system lies on."""
    return _number(system, f"{root.device}/size") * SECTOR


def _number(system: System, name: str) -> int:
    text = system.text(f"{_BLOCKS}/{name}", 32).strip()
    return int(text) if text.isdecimal() else 0


def file_system_bytes(system: System, root: Root) -> int:
    """The size of the file system, its own tables included; raise `OSError`, `ItemError`."""
    if root.kind in _EXT:
        return _ext_bytes(system.file(f"/dev/{root.device.replace('!', '/')}"))
    if root.kind == "xfs":
        return _xfs_bytes(system.file(root.mount))
    if root.kind == "btrfs":
        status = os.statvfs(system.file(root.mount))
        return status.f_blocks * status.f_frsize
    raise ItemError("not-supported", f"{root.mount} is {root.kind}; the agent grows ext4, xfs and btrfs")


def _ext_bytes(device: str) -> int:
    with open(device, "rb") as file:  # noqa: PTH123  pathlib is 4 ms that the start does without
        file.seek(_EXT_AT)
        block = file.read(1024).ljust(1024, b"\0")
    low, scale = struct.unpack_from("<I", block, 4)[0], struct.unpack_from("<I", block, 24)[0]
    magic, high = struct.unpack_from("<H", block, 56)[0], struct.unpack_from("<I", block, 0x150)[0]
    if magic != _EXT_MAGIC or scale > 6:
        raise ItemError("io-error", f"{device} has no superblock of ext4")
    return int((low + (high << 32)) * (1024 << scale))


def _xfs_bytes(mount: str) -> int:
    import fcntl

    opened = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        geometry = fcntl.ioctl(opened, _XFS_GEOMETRY, bytes(_XFS_SIZE))
    finally:
        os.close(opened)
    return int(struct.unpack_from("=I", geometry)[0]) * int(struct.unpack_from("=Q", geometry, 32)[0])
