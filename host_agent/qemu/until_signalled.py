# SPDX-License-Identifier: Apache-2.0
"""Run something that a first SIGINT or SIGTERM cancels, so that it can tidy up, and that no second one disturbs in that."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """What *coroutine* returns. Where a signal ended it, the program ends with the status that a shell gives it: 128 and more."""
    caught: list[int] = []
    try:
        return asyncio.run(_cancellable(coroutine, caught))
    except asyncio.CancelledError:
        if caught:
            raise SystemExit(128 + caught[0]) from None
        raise


async def _cancellable(coroutine: Coroutine[Any, Any, _T], caught: list[int]) -> _T:
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(coroutine)

    def end(number: int) -> None:
        if not caught:
            caught.append(number)
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    return await work
