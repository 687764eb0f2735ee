# SPDX-License-Identifier: Apache-2.0
"""Make a user's home from /etc/skel, whole or not at all, and take one away again; nothing in it is touched but as its user."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from guest_agent import files
from guest_agent.homes import acting_as
from guest_agent.system import split

if TYPE_CHECKING:
    from guest_agent.homes import Home
    from guest_agent.system import System

#: A skeleton is a handful of dot files.
MAX_ENTRIES: Final = 1000
MAX_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 64
_PRIVATE: Final = 0o700


class _Entry(NamedTuple):
    """A file of the skeleton, a link (*target*), or a directory with what is in it."""

    name: str
    mode: int
    content: bytes = b""
    target: str = ""
    inside: list[_Entry] | None = None


def make(system: System, home: Home, mode: int, skeleton: str) -> None:
    """Make *home* with *mode* from *skeleton*; raise `OSError`, FileExistsError where something has its path."""
    parent, name = split(home.path)
    entries = _read_skeleton(system, skeleton)
    with system.directory(parent) as above:
        if system.exists(home.path):
            raise FileExistsError(errno.EEXIST, "something has been put there meanwhile", home.path)
        temporary = files.TEMPORARY.format(name)
        _remove_tree(above, temporary, home)
        os.mkdir(temporary, _PRIVATE, dir_fd=above)
        opened = files.open_directory(above, temporary)
        try:
            if os.fstat(opened).st_uid != home.uid or os.fstat(opened).st_gid != home.gid:
                os.fchown(opened, home.uid, home.gid)
            with acting_as(home):
                _write(opened, entries)
                os.fchmod(opened, mode)
                os.fsync(opened)
        finally:
            os.close(opened)
        os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
        os.fsync(above)


def remove(system: System, home: Home) -> None:
    """Remove *home*, and what a killed `make` of it left; raise `OSError`. What its user may not remove stays."""
    parent, name = split(home.path)
    with suppress(FileNotFoundError), system.directory(parent) as above:
        _remove_tree(above, files.TEMPORARY.format(name), home)
        _remove_tree(above, name, home)


def _read_skeleton(system: System, skeleton: str) -> list[_Entry]:
    try:
        with system.directory(skeleton) as opened:
            return _read(opened, [MAX_ENTRIES, MAX_BYTES], MAX_DEPTH)
    except FileNotFoundError:
        return []


def _read(opened: int, left: list[int], depth: int) -> list[_Entry]:
    """What is in the directory; *left* are how many entries and bytes may still come."""
    entries = []
    for name in sorted(os.listdir(opened)):
        status = os.stat(name, dir_fd=opened, follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode)
        left[0] -= 1
        if stat.S_ISLNK(status.st_mode):
            entries.append(_Entry(name, mode, target=os.readlink(name, dir_fd=opened)))
        elif stat.S_ISDIR(status.st_mode) and depth:
            inner = files.open_directory(opened, name)
            try:
                entries.append(_Entry(name, mode, inside=_read(inner, left, depth - 1)))
            finally:
                os.close(inner)
        elif stat.S_ISREG(status.st_mode):
            stored = files.read(opened, name)
            left[1] -= status.st_size
            if stored is not None:
                entries.append(_Entry(name, mode, stored.content))
        if min(left) < 0:
            raise OSError(errno.EFBIG, f"a skeleton has at most {MAX_ENTRIES} entries and {MAX_BYTES} bytes", name)
    return entries


def _write(opened: int, entries: list[_Entry]) -> None:
    for entry in entries:
        if entry.inside is not None:
            files.make_directory(opened, entry.name, _PRIVATE)
            inner = files.open_directory(opened, entry.name)
            try:
                _write(inner, entry.inside)
                os.fchmod(inner, entry.mode)
            finally:
                os.close(inner)
        elif entry.target:
            files.replace_link(opened, entry.name, entry.target)
        else:
            files.replace(opened, entry.name, files.new_file(entry.content, entry.mode & 0o777))


def _remove_tree(above: int, name: str, home: Home) -> None:
    """Remove the directory *name* of *home*'s user, or root's, where nobody has got it yet; what is none, or another's, stays."""
    try:
        opened = files.open_directory(above, name)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        raise
    try:
        if os.fstat(opened).st_uid not in (home.uid, os.geteuid()):
            return
        with acting_as(home):
            _empty(opened, MAX_DEPTH, os.fstat(opened).st_dev)
    finally:
        os.close(opened)
    files.remove_directory(above, name)


def _empty(opened: int, depth: int, device: int) -> None:
    for name in os.listdir(opened):
        with suppress(PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError):
            status = os.stat(name, dir_fd=opened, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=opened)
            elif depth and status.st_dev == device:
                inner = files.open_directory(opened, name)
                try:
                    _empty(inner, depth - 1, device)
                finally:
                    os.close(inner)
                files.remove_directory(opened, name)
