# SPDX-License-Identifier: Apache-2.0
"""Which process has a file locked, as the kernel tells (/proc/locks, proc(5)); the lock itself is not touched."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from host_agent.channels.processes import PROC, process

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.channels.processes import Process

#: ``1: FLOCK  ADVISORY  WRITE 707 00:21:6352 0 EOF``; one that waits has ``->`` before its kind.
_LINE: Final = re.compile(r"[0-9]+: FLOCK +[A-Z]+ +[A-Z]+ +([0-9]+) +([0-9a-f]+):([0-9a-f]+):([0-9]+) .*", re.ASCII)


def holder(path: Path, proc: Path = PROC) -> Process | None:
    """Who has *path* by flock(2), or None where nobody has, or the kernel does not say who."""
    try:
        status = path.stat()
        lines = (proc / "locks").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    same = [matched for matched in map(_LINE.fullmatch, lines) if matched and int(matched[4]) == status.st_ino]
    device = os.major(status.st_dev), os.minor(status.st_dev)
    # A file system of several devices tells another one here than there.
    best = [matched for matched in same if (int(matched[2], 16), int(matched[3], 16)) == device] or same
    return process(int(best[0][1]), proc) if best else None
