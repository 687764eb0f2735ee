# SPDX-License-Identifier: Apache-2.0
"""Change a file all at once or not at all, power cut included.

Everything works relative to an open directory, so that what is looked at, replaced and made durable is in one and the
same directory, whatever becomes of its path meanwhile. The final component is never followed where it is a symbolic link.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: No file that we keep a part of is near this size; a larger one is not read into memory.
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
#: Hidden, so that neither ifupdown's ``source`` patterns nor networkd's ``*.network`` find a file that is not whole yet.
TEMPORARY: Final = ".{}.pv-guest-agent-new"
#: The old file while a transaction may still go back to it: a second name of it, with its owner and mode, so that nobody reads
#: there what the file itself would not let them read, and no journal holds it.
KEPT: Final = ".{}.pv-guest-agent-old"

#: The kernel's own limit (path_resolution(7)).
_MAX_LINKS: Final = 40
_LABEL: Final = "security.selinux"
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Stored(msgspec.Struct, frozen=True):
    """A regular file as it is, or shall be: content, permission bits, owner, SELinux label (empty: what the system gives)."""

    content: bytes
    mode: int
    uid: int
    gid: int
    label: bytes = b""


def new_file(content: bytes, mode: int) -> Stored:
    """A file that belongs to whom we act as."""
    return Stored(content, mode, os.geteuid(), os.getegid())


@contextmanager
def directory(path: str, root: str = "") -> Iterator[int]:
    """The open directory *path* of the machine under *root*; `OSError` where there is none.

    Below a *root* no component is followed where it is a symbolic link: an absolute one would lead out of it. On the
    machine itself a link is followed where only root can have made it; elsewhere it may be a user's, to lead us astray.
    """
    walked = _walk(path, root)
    try:
        opened = os.open(".", _DIRECTORY, dir_fd=walked)
    finally:
        os.close(walked)
    try:
        yield opened
    finally:
        os.close(opened)


def _walk(path: str, root: str) -> int:
    """*path*, component by component, as a place and not to be read: a directory on the way may be for passing through only."""
    here = os.open(root or "/", _PLACE)
    names = path.split("/")[::-1]
    links = 0
    try:
        while names:
            name = names.pop()
            try:
                there = open_directory(here, name or ".", _PLACE)
            except OSError as exc:
                target = "" if root or exc.errno != errno.ELOOP or links == _MAX_LINKS else _trusted_link(here, name)
                if not target:
                    raise
                links += 1
                names += target.split("/")[::-1]
                there = os.open("/" if target.startswith("/") else ".", _PLACE, dir_fd=here)
            here, before = there, here
            os.close(before)
    except BaseException:
        os.close(here)
        raise
    return here


def _trusted_link(parent: int, name: str) -> str:
    """Where the link *name* leads, where nobody but root can have put it into *parent*; else empty."""
    status = os.fstat(parent)
    if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return ""
    return os.readlink(name, dir_fd=parent)


def open_directory(parent: int, name: str, flags: int = _DIRECTORY) -> int:
    """The directory *name* in *parent*, never through a symbolic link: that raises `OSError` with ELOOP."""
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise


def read(parent: int, name: str, limit: int = MAX_FILE_BYTES) -> Stored | None:
    """The file *name*, None where there is none.

    Raise `OSError`: ELOOP for a symbolic link, EISDIR for anything else that is no regular file, EFBIG above *limit* bytes.
    """
    try:
        opened = os.open(name, _READ, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # a socket, open(2)
            raise OSError(errno.EISDIR, "not a regular file", name) from None
        raise
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EISDIR, "not a regular file", name)
        content = _content(opened, name, limit)
        return Stored(content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, _label(opened))
    finally:
        os.close(opened)


def _content(opened: int, name: str, limit: int) -> bytes:
    parts, size = [], 0
    while data := os.read(opened, 64 * 1024):
        parts.append(data)
        size += len(data)
        if size > limit:
            raise OSError(errno.EFBIG, f"more than {limit} bytes", name)
    return b"".join(parts)


def _label(opened: int) -> bytes:
    try:
        return os.getxattr(opened, _LABEL)
    except OSError:  # ENODATA, ENOTSUP: no SELinux here
        return b""


def replace(parent: int, name: str, new: Stored, judge: Callable[[str], None] | None = None) -> None:
    """Make *name* be *new*, durably. On an error it is the old file still, or, where only the last fsync failed, the new one.

    *judge* is called with the name that the new file has before that, and may raise.
    """
    with _replacing(parent, name) as temporary:
        opened = os.open(temporary, _CREATE, 0o600, dir_fd=parent)
        try:
            _fill(opened, new)
        finally:
            os.close(opened)
        if judge is not None:
            judge(temporary)


def replace_link(parent: int, name: str, target: str) -> None:
    """Make *name* a symbolic link to *target*, durably, in place of the file or link that is there."""
    with _replacing(parent, name) as temporary:
        os.symlink(target, temporary, dir_fd=parent)


@contextmanager
def _replacing(parent: int, name: str) -> Iterator[str]:
    """The name under which to make what becomes *name* at the end, durably; after an error there is nothing under it."""
    temporary = TEMPORARY.format(name)
    sweep(parent, name)
    try:
        yield temporary
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=parent)
        raise
    os.fsync(parent)


def _fill(opened: int, new: Stored) -> None:
    left = memoryview(new.content)
    while left:
        left = left[os.write(opened, left) :]
    status = os.fstat(opened)
    if (status.st_uid, status.st_gid) != (new.uid, new.gid):
        os.fchown(opened, new.uid, new.gid)
    if new.label and _label(opened) != new.label:
        os.setxattr(opened, _LABEL, new.label)
    os.fchmod(opened, new.mode)  # last: chown(2) clears set-id bits
    os.fsync(opened)


def keep(parent: int, name: str) -> None:
    """Give the file or link *name* a second name to come back to. Durable only after an fsync of *parent*."""
    kept = KEPT.format(name)
    with suppress(FileNotFoundError):
        os.unlink(kept, dir_fd=parent)
    try:
        os.link(name, kept, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in (errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        old = read(parent, name)  # a file system without hard links: FAT, for one
        if old is not None:
            replace(parent, kept, old)


def put_back(parent: int, name: str) -> None:
    """Make *name* again what `keep` kept, durably; where nothing is kept, it is that already."""
    kept = KEPT.format(name)
    try:
        os.rename(kept, name, src_dir_fd=parent, dst_dir_fd=parent)
    except FileNotFoundError:
        return
    release(parent, name)  # rename(2) does nothing where both are names of one file
    os.fsync(parent)


def release(parent: int, name: str) -> None:
    """Forget what `keep` kept. Durable only after an fsync of *parent*."""
    with suppress(FileNotFoundError):
        os.unlink(KEPT.format(name), dir_fd=parent)


def remove(parent: int, name: str) -> None:
    """Remove the file *name*, durably; that there is none is fine."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    os.fsync(parent)


def sweep(parent: int, name: str) -> None:
    """Remove what a killed `replace` of *name* left behind."""
    with suppress(FileNotFoundError):
        os.unlink(TEMPORARY.format(name), dir_fd=parent)


def make_directory(parent: int, name: str, mode: int, uid: int | None = None, gid: int | None = None) -> None:
    """Make the directory *name* with exactly *mode*, durably; `FileExistsError` where anything has the name."""
    os.mkdir(name, mode, dir_fd=parent)
    opened = open_directory(parent, name)
    try:
        if uid is not None or gid is not None:
            os.fchown(opened, -1 if uid is None else uid, -1 if gid is None else gid)
        os.fchmod(opened, mode)  # whatever the umask took away
        os.fsync(opened)
    finally:
        os.close(opened)
    os.fsync(parent)


def remove_directory(parent: int, name: str) -> None:
    """Remove the directory *name* where it is empty, durably; that there is none, or that it has been used, is fine."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):  # rmdir(2) has two words for "not empty"
            raise
        return
    os.fsync(parent)
