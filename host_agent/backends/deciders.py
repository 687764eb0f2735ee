# SPDX-License-Identifier: Apache-2.0
"""Whether nobody but root and we decides what stands at a path: every directory and every link on the way is looked at."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.errors import BadFile, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the kernel follows, too (path_resolution(7)).
_MAX_LINKS: Final = 40
_ABOVE: Final = ".."


def check_deciders(path: Path) -> None:
    """Raise `BadFile` where others can change what stands at the absolute *path*, or where it cannot be looked at."""
    try:
        steps = list(_steps(path))
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}") from None
    *above, (at, status) = steps
    for each, of in above:
        _check(each, of, sticky_will_do=True)
    _check(at, status, sticky_will_do=False)


def others_may_change(status: os.stat_result, *, sticky_will_do: bool = False) -> str:
    """Who may change what *status* is of, beside root and us: as a clause, or "". Nobody changes a link but its directory's.

    In a directory with the sticky bit nobody replaces what is another's (inode(7)), so on the way to a file *sticky_will_do*.
    """
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {status.st_uid}"
    if stat.S_ISLNK(status.st_mode) or (sticky_will_do and status.st_mode & stat.S_ISVTX):
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "everybody may write to it"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid()):
        return f"the group {status.st_gid} may write to it"
    return ""


def _check(at: Path, status: os.stat_result, *, sticky_will_do: bool) -> None:
    complaint = others_may_change(status, sticky_will_do=sticky_will_do)
    if complaint:
        raise BadFile(f"{shown(at)}: {complaint}; cure: chown root {shown(at)}; chmod go-w {shown(at)}")


def _steps(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All that is passed on the way to *path*, as the kernel goes it, links before what they lead to."""
    top = Path("/")
    at, links = top, 0
    yield at, at.lstat()
    ahead = list(reversed(path.parts[1:]))
    while ahead:
        name = ahead.pop()
        if name == _ABOVE:
            at = at.parent
            continue
        at /= name
        status = at.lstat()
        yield at, status
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = at.readlink()
            at = top if target.is_absolute() else at.parent
            ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
