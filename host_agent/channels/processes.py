# SPDX-License-Identifier: Apache-2.0
"""Which processes there are, and which of them hold a file or a socket open, as /proc tells (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection

PROC: Final = Path("/proc")
#: QEMU's command line is a few thousand bytes; what a process makes of its own is its own.
_MAX_CMDLINE_BYTES: Final = 64 * 1024


class Process(NamedTuple):
    """A running process. *comm* is what it calls itself."""

    pid: int
    comm: str
    uid: int
    argv: tuple[str, ...] = ()

    def __str__(self) -> str:
        """It as in a message."""
        return f"pid {self.pid} ({self.comm}), uid {self.uid}"


def process(pid: int, proc: Path = PROC) -> Process | None:
    """The process *pid*; None where there is none, or none that still runs."""
    directory = proc / str(pid)
    try:
        status = directory.stat()
        comm = (directory / "comm").read_bytes()
        with (directory / "cmdline").open("rb") as file:
            words = file.read(_MAX_CMDLINE_BYTES)
    except OSError:  # it has ended
        return None
    if not words and _is_over(directory):
        return None
    argv = tuple(os.fsdecode(word) for word in words.rstrip(b"\0").split(b"\0")) if words else ()
    return Process(pid, printable(comm.rstrip(b"\n"), 40), status.st_uid, argv)


def socket_name(inode: int) -> str:
    """What a descriptor of the socket *inode* is called in /proc/PID/fd."""
    return f"socket:[{inode}]"


def holders(names: Collection[str], proc: Path = PROC) -> dict[str, tuple[Process, ...]]:
    """For each of *names*, paths or `socket_name`s, the processes that hold it open, as far as we may know."""
    found: dict[str, list[Process]] = {name: [] for name in names}
    for entry in os.scandir(proc) if names else ():
        if entry.name.isdecimal():
            held = _held(entry.path, found.keys())
            holder = process(int(entry.name), proc) if held else None
            if holder is not None:
                for name in held:
                    found[name].append(holder)
    return {name: tuple(sorted(processes)) for name, processes in found.items()}


def _held(directory: str, names: Collection[str]) -> set[str]:
    held: set[str] = set()
    try:
        with os.scandir(f"{directory}/fd") as descriptors:
            for descriptor in descriptors:
                name = _target(descriptor.path)
                if name in names:
                    held.add(name)
    except OSError:  # it has ended, or is not ours to look into
        pass
    return held


def _target(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 -- tens of thousands of them
    except OSError:  # closed meanwhile
        return ""


def _is_over(directory: Path) -> bool:
    """Whether it is dead, and only its parent has not heard of it (or it is of the kernel, and has no command line at all)."""
    try:
        return (directory / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return True
