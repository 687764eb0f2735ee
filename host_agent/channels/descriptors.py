# SPDX-License-Identifier: Apache-2.0
"""How many files we may have open: each VM's stream is one, and some are left for everything else, so that the rest goes on."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Final

from host_agent.errors import Unreachable, shown

if TYPE_CHECKING:
    from pathlib import Path

#: The word of the `Unreachable` that says that there are no more.
NO_DESCRIPTORS: Final = "no-descriptors"
#: Left for what is not a VM's stream: the ledger, directories that are looked into, what confirms networks.
LEFT_FREE: Final = 256
#: Of a process that may have few, no more than this part is left free.
_PART: Final = 4


def leave_some(path: Path, descriptor: int) -> None:
    """Raise `Unreachable` where *descriptor*, just opened for the stream at *path*, is one of those that are left for the rest.

    The kernel always gives the lowest one that is free (open(2)), so its number says how many are in use.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and descriptor >= limit - min(LEFT_FREE, limit // _PART):
        raise none_left(path)


def none_left(path: Path) -> Unreachable:
    """What to tell of a stream at *path* for which there is no descriptor."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Unreachable(
        NO_DESCRIPTORS,
        f"{shown(path)}: not connected: the service may have {limit} files open, and each VM's stream is one;"
        " cure: 'systemctl edit pv-host-agent', LimitNOFILE= twice the number of VMs in [Service], and a restart",
    )
