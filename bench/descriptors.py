# SPDX-License-Identifier: Apache-2.0
"""How many connections this machine lets one process have: a login shell's soft limit is 1,024, and the hard one is another's."""

from __future__ import annotations

import resource
from typing import Final

from host_agent.channels.descriptors import LEFT_FREE

#: The service leaves so many free, and has some open before the first VM.
_ASIDE: Final = LEFT_FREE + 64


def connections(each: int = 1) -> int:
    """How many of *each* so many descriptors a process may have, by the hard limit, up to which the service goes by itself."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**31 if hard == resource.RLIM_INFINITY else (hard - _ASIDE) // each
