# SPDX-License-Identifier: Apache-2.0
"""The one door for files and directories of the agent's own: private, whole or not at all, and nobody else's to write."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING

from host_agent.errors import BadFile, shown

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FILE = 0o600
PUBLIC_FILE = 0o644
PRIVATE_DIRECTORY = 0o700


def private_directory(path: Path) -> None:
    """Make *path* a directory that only we can use; raise `BadFile` where it is somebody else's or open to others."""
    try:
        path.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        complaint = others_may_use(path)
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}; --state names another directory") from None
    if complaint is not None:
        raise BadFile(complaint)


def others_may_use(path: Path) -> str | None:
    """Why the directory *path* is not ours alone: a sentence with the cure, or None."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        return f"{shown(path)}: belongs to uid {status.st_uid}; cure: chown it, or --state another"
    if status.st_mode & 0o077:
        return f"{shown(path)}: open to others, and keys are kept there; cure: chmod 700 {shown(path)}"
    return None


def others_may_write(path: Path) -> str | None:
    """Why others than root and we decide what stands in the directory *path*: a sentence with the cure, or None."""
    status = path.stat()
    name = shown(path)
    if status.st_uid not in (0, os.geteuid()):
        return f"{name}: belongs to uid {status.st_uid}; cure: chown root {name}"
    if status.st_mode & stat.S_IWOTH:
        return f"{name}: everybody may write there; cure: chmod 700 {name}"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid()):
        return f"{name}: the group {status.st_gid} may write there; cure: chmod 700 {name}"
    return None


def check_writers(path: Path, cure: str = "") -> None:
    """Raise `BadFile` where others decide what stands in the directory *path*; where it cannot be looked at, with *cure*."""
    try:
        complaint = others_may_write(path)
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}{cure}") from None
    if complaint is not None:
        raise BadFile(complaint)


def write_whole(path: Path, content: bytes, mode: int = PRIVATE_FILE, *, replace: bool = True, durable: bool = True) -> None:
    """Give *path* the *content*, all at once, power cut included where it is to be *durable*; on any error the old file stays.

    Raise `FileExistsError` where there is one already and *replace* is false; `OSError` for what else goes wrong.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask is
            file.write(content)
            file.flush()
            if durable:
                os.fsync(descriptor)
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike rename(2), fails where the name is taken
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have the names in the directory *path* outlive a power cut."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_private(path: Path, limit: int) -> bytes:
    """What a secret file holds; raise `FileNotFoundError`, or `BadFile` where others can read it or it is longer than *limit*."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid()):
            raise BadFile(f"{shown(path)}: a private key that others can reach; cure: chmod 600 {shown(path)}")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BadFile(f"{shown(path)}: longer than a key file is")
    return data
