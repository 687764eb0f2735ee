# SPDX-License-Identifier: Apache-2.0
"""The change that lets the root file system fill its disk: the partition first, then the file system, both while in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from guest_agent import root_device
from guest_agent.changes.running import RunCommand
from guest_agent.command import CommandError
from guest_agent.failure import ItemError
from guest_agent.undo import RunBack

if TYPE_CHECKING:
    from guest_agent.root_device import Root
    from guest_agent.system import System
    from guest_agent.undo import Undo

#: Where GPT's header stands: in the second of the disk's own sectors.
_GPT: Final = b"EFI PART"


class Grow(NamedTuple):
    """Let *root* fill its partition, and that the disk up to the next one. Nothing makes them smaller again."""

    root: Root

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"grow {self.root.mount} on {self.root.device}"

    def show(self, system: System) -> list[str]:
        """What will run."""
        partition = [f"grow partition {self.root.partition} of {self.root.disk}"] if self._has_room(system) else []
        return [*partition, f"grow the {self.root.kind} of {self.root.mount} by {self._program()[0]}"]

    def holds(self, system: System) -> bool:
        """Whether there is no room that is worth it; raise `OSError`, `ItemError`."""
        if self._has_room(system):
            return False
        unused = root_device.device_bytes(system, self.root) - root_device.file_system_bytes(system, self.root)
        return unused < root_device.SLACK_BYTES

    def capture(self, system: System) -> Undo:  # noqa: ARG002  every Change is asked
        """Nothing undoes it."""
        return RunBack([], "")

    def apply(self, system: System) -> None:
        """Grow what does not fill its place; raise `ItemError`, `OSError`."""
        if self._has_room(system):
            self._grow_partition(system)
        RunCommand(self._program(), []).apply(system)

    def _has_room(self, system: System) -> bool:
        return bool(self.root.partition) and root_device.free_sectors(system, self.root) > root_device.SLACK_SECTORS

    def _program(self) -> list[str]:
        device = f"/dev/{self.root.device.replace('!', '/')}"
        return {
            "xfs": ["xfs_growfs", "-d", self.root.mount],
            "btrfs": ["btrfs", "filesystem", "resize", "max", self.root.mount],
        }.get(self.root.kind, ["resize2fs", device])

    def _grow_partition(self, system: System) -> None:
        disk, number = f"/dev/{self.root.disk.replace('!', '/')}", str(self.root.partition)
        if self._is_gpt(system, disk):  # its second header stands where the disk ended once
            _run(system, ["sfdisk", "--quiet", "--no-reread", "--force", "--relocate", "gpt-bak-std", disk])
        _run(system, ["sfdisk", "--quiet", "--no-reread", "--force", "--no-tell-kernel", "-N", number, disk], b", +\n")
        _run(system, ["partx", "--update", "--nr", number, disk])

    def _is_gpt(self, system: System, disk: str) -> bool:
        size = system.text(f"/sys/class/block/{self.root.disk}/queue/logical_block_size", 32).strip()
        with open(system.file(disk), "rb") as file:  # noqa: PTH123  pathlib is 4 ms that the start does without
            file.seek(int(size) if size.isdecimal() else root_device.SECTOR)
            return file.read(len(_GPT)) == _GPT


def _run(system: System, argv: list[str], given: bytes = b"") -> None:
    try:
        status, output = system.run(argv, given=given)
    except CommandError as exc:
        raise ItemError("command-failed", str(exc), exc.output) from None
    if status:
        raise ItemError("command-failed", f"'{' '.join(argv)}' ended with status {status}", output)
