# SPDX-License-Identifier: Apache-2.0
"""Empty a directory, all the way down: never through a symbolic link, never into another file system."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from guest_agent import files

#: No system's own directories are nested so deep, and each level is an open descriptor.
MAX_DEPTH: Final = 100


def clear(opened: int, *, keep_directories: bool = False, dry: bool = False) -> int:
    """Remove what is in the directory *opened*, durably, and say how many entries that were; raise `OSError`.

    What is mounted there stays, with the directories above it. *keep_directories*: only what is no directory goes.
    *dry*: nothing goes, and the number is what would.
    """
    return _Clearing(_mount(opened), keep_directories=keep_directories, dry=dry).clear(opened, 0)[0]


class _Clearing:
    def __init__(self, mount: tuple[int, str], *, keep_directories: bool, dry: bool) -> None:
        self._mount, self._keep, self._dry = mount, keep_directories, dry

    def clear(self, opened: int, depth: int) -> tuple[int, bool]:
        """How many entries went, and whether the directory is empty now."""
        if depth > MAX_DEPTH:
            raise OSError(errno.ENAMETOOLONG, f"directories are nested more than {MAX_DEPTH} deep")
        with os.scandir(opened) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        removed, empty = 0, True
        for name, is_directory in found:
            if is_directory:
                below, gone = self._clear_directory(opened, name, depth)
                removed, empty = removed + below, empty and gone
            else:
                if not self._dry:
                    with suppress(FileNotFoundError):  # a log that was rotated meanwhile
                        os.unlink(name, dir_fd=opened)
                removed += 1
        if removed and not self._dry:
            os.fsync(opened)
        return removed, empty

    def _clear_directory(self, parent: int, name: str, depth: int) -> tuple[int, bool]:
        try:
            opened = files.open_directory(parent, name)
        except FileNotFoundError:
            return 0, True
        try:
            if _mount(opened) != self._mount:
                return 0, False
            removed, empty = self.clear(opened, depth + 1)
        finally:
            os.close(opened)
        if self._keep or not empty:
            return removed, False
        if not self._dry:
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as exc:
                if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # a service has put something into it meanwhile
                    raise
                return removed, False
        return removed + 1, True


def _mount(opened: int) -> tuple[int, str]:
    """Which file system, and which mount of it (proc(5), fdinfo): a bind mount has the device of what it shows."""
    number = ""
    with suppress(OSError), open(f"/proc/self/fdinfo/{opened}", encoding="ascii") as info:  # noqa: PTH123  as in System
        number = next((line for line in info if line.startswith("mnt_id:")), "")
    return os.fstat(opened).st_dev, number
