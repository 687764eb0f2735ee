# SPDX-License-Identifier: Apache-2.0
"""How late the event loop is, watched all the time: what blocks it keeps all VMs waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import Never

    from host_agent.durations import Durations

#: It is looked at this often.
EVERY_SECONDS: Final = 0.5


async def watch(lag: Durations) -> Never:
    """Add to *lag* how late it is, now and again."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_SECONDS
        await asyncio.sleep(EVERY_SECONDS)
        lag.add(max(loop.time() - due, 0.0))
