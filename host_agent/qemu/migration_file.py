# SPDX-License-Identifier: Apache-2.0
"""Have the file that a VM was moved into be on its disk: QEMU writes it, and leaves it to the kernel when."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

#: What has no disk behind it says so by these.
_NO_DISK: Final = (errno.EINVAL, errno.EROFS, errno.ENOTSUP)


def synced(name: str, pid: int) -> str:
    """The file *name*, as the process *pid* sees it, is on its disk: "", or why not. It blocks for as long as that takes.

    One that cannot be seen from here is left to its kernel.
    """
    if not name.startswith("/"):
        return ""
    try:
        descriptor = os.open(Path(f"/proc/{pid}/root{name}"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return ""
    try:
        os.fsync(descriptor)
    except OSError as exc:
        return "" if exc.errno in _NO_DISK else exc.strerror or str(exc)
    finally:
        os.close(descriptor)
    return ""
