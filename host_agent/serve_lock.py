# SPDX-License-Identifier: Apache-2.0
"""The lock that makes one `serve` the only one on its state directory, and tells others whether one is running."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError, shown
from host_agent.files import PRIVATE_FILE

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "serve.lock"
#: Whoever asks `is_served` has the lock for an instant; another `serve` has it for good.
_TRIES: Final = 25
_BETWEEN_SECONDS: Final = 0.02


def hold(state: Path) -> int:
    """Be the only `serve` on this state directory, for as long as the descriptor that comes back is open; raise `HostError`."""
    path = state / NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
    for _ in range(_TRIES):
        if _locked(descriptor, fcntl.LOCK_EX):
            return descriptor
        time.sleep(_BETWEEN_SECONDS)
    os.close(descriptor)
    raise HostError(f"{shown(path)}: another 'pv-host-agent serve' is running on this state directory")


def is_served(state: Path) -> bool:
    """Whether a `serve` is running on this state directory."""
    try:
        descriptor = os.open(state / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # none ever was, or it is not ours to look at
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)  # shared: those who only ask are not in each other's way
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
