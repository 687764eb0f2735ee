# SPDX-License-Identifier: Apache-2.0
"""A stubdomain's QMP served in dom0 for as long as the stubdomain lives, at the place where xl and libvirt look for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError, shown
from host_agent.qemu.running_vm import shown as shown_domain
from host_agent.stubdom import proxy
from host_agent.talk.backoff import Backoff
from host_agent.xenstore.errors import NoEntry

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from host_agent.stubdom.pair import Pair
    from host_agent.stubdom.proxy import Proxy
    from host_agent.xenstore.client import Client

#: A proxy that ran for so long had begun well.
_WELL_SECONDS: Final = 10.0
_RELEASED: Final = "@releaseDomain"


def state_path(pair: Pair) -> str:
    """Where a proxy says that it takes clients, as libxl has it."""
    return f"/local/domain/0/device-model/{pair.stubdomain.domid}/qmp-proxy-state"


def pid_path(pair: Pair) -> str:
    """Where libxl looks for the proxy that it has to end with the stubdomain."""
    return f"/local/domain/{pair.stubdomain.domid}/image/qmp-proxy-pid"


async def keep(store: Client, pair: Pair, program: Path, path: Path, tell: Callable[[str], None]) -> None:
    """Have a proxy serve *path* until the stubdomain is gone, or this is cancelled; raise `HostError` where it cannot begin.

    *tell* hears when the socket is there, of each proxy that ends and what it said, and of the stubdomain's end.
    """
    listener = await asyncio.to_thread(proxy.listening, path)
    if listener is None:
        raise HostError(f"{shown(path)}: somebody listens there already: libxl's proxy, or another 'dm qmp --serve'")
    try:
        with listener:
            await store.watch(_RELEASED, _RELEASED)
            await _one_after_the_other(store, pair, lambda: proxy.started(program, pair, listener, state_path(pair)), path, tell)
    finally:
        path.unlink(missing_ok=True)
        with suppress(HostError):
            await store.rm(state_path(pair))


async def _one_after_the_other(
    store: Client,
    pair: Pair,
    start: Callable[[], AbstractAsyncContextManager[Proxy]],
    path: Path,
    tell: Callable[[str], None],
) -> None:
    now, backoff = asyncio.get_running_loop().time, Backoff()
    tell(f"{shown_domain(pair.target)}'s QMP is at {shown(path)}")
    while await store.is_introduced(pair.stubdomain.domid):
        begun = now()
        async with start() as one:
            await _note_pid(store, pair, one.process.pid)
            if await _outlived(store, pair, one):
                break
        if now() - begun >= _WELL_SECONDS:
            backoff.reset()
        tell(f"{one.words}; it is started again")
        await asyncio.sleep(backoff.next())
    tell(f"{shown_domain(pair.stubdomain)} is gone, and its QMP with it")


async def _note_pid(store: Client, pair: Pair, pid: int) -> None:
    with suppress(NoEntry):  # the domain is just going
        await store.write(pid_path(pair), b"%d" % pid)


async def _outlived(store: Client, pair: Pair, one: Proxy) -> bool:
    """Wait until the proxy ends, or the stubdomain does; whether the proxy has outlived it."""
    ended = asyncio.ensure_future(one.ended())
    try:
        while not ended.done():
            told = asyncio.ensure_future(store.wait_for_events())
            try:
                await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
                if told.done():
                    await told
                    store.take_events()
                    if not await store.is_introduced(pair.stubdomain.domid):
                        return not ended.done()
            finally:
                told.cancel()
    finally:
        ended.cancel()
    return False
