# SPDX-License-Identifier: Apache-2.0
"""Keep one piece of the service at work: a fault of ours in it is said and begun anew, and no other piece notices."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("pv-host-agent")

#: From a fault to the next attempt.
RESTART_SECONDS: Final = 10.0


async def supervise(work: Callable[[], Awaitable[None]], of: str, again: str, extra: dict[str, Any] | None = None) -> None:
    """Do *work* until cancelled, again and again. Where it fails *of* has a fault, and *again* says what happens then."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s: a fault in pv-host-agent; %s again in %g s", of, again, RESTART_SECONDS, extra=extra)
        await asyncio.sleep(RESTART_SECONDS)
