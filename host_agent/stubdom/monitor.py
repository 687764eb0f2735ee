# SPDX-License-Identifier: Apache-2.0
"""The one connection to the monitor of a QEMU in a stubdomain: under libxl's lock, over vchan, drained before it is closed.

Only one can be: a second one is refused, and by name of whoever has the first.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.channels.ends import ends
from host_agent.errors import HostError, shown
from host_agent.qemu.libxl_lock import held, lock_of, socket_of
from host_agent.qemu.qmp import CONNECT_SECONDS, HungUp, QmpTrouble, connect
from host_agent.qemu.running_vm import shown as shown_domain
from host_agent.stubdom import proxy
from host_agent.stubdom.proxy_kept import state_path
from host_agent.xenstore.errors import NoEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from host_agent.qemu.hotplug_session import Places
    from host_agent.qemu.qmp import Qmp
    from host_agent.stubdom.pair import Pair
    from host_agent.stubdom.proxy import Proxy
    from host_agent.xenstore.client import Client

#: For who has just hung up to be gone from the kernel's lists.
_LEAVE_SECONDS: Final = 1.0
_BETWEEN_SECONDS: Final = 0.1
_ATTEMPTS: Final = 20


class Way(NamedTuple):
    """How the monitor is reached: by which *program*, and at which *path*; None is what is usual. All waits are *seconds*."""

    program: Path | None = None
    path: Path | None = None
    seconds: float = CONNECT_SECONDS


def path_of(places: Places, pair: Pair, way: Way) -> Path:
    """The socket: where libxl has it, unless another is said."""
    return way.path or socket_of(pair.target.domid, places.run)


@asynccontextmanager
async def monitor(store: Client, places: Places, pair: Pair, way: Way) -> AsyncIterator[Qmp]:
    """The monitor, greeted; by the proxy that listens already, or one of our own. Raise `HostError`.

    libxl's lock is held for as long as the block lasts.
    """
    path = path_of(places, pair, way)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(held(lock_of(pair.target.domid, pair.target.uuid, places.library), way.seconds))
        await _check_alone(path)
        ours = await _own_proxy(stack, pair, way, path)
        try:
            qmp = await _greeted(stack, path, way.seconds, ours)
        except QmpTrouble as exc:
            raise await _why(store, pair, path, exc) from None
        stack.push_async_callback(qmp.hang_up)
        yield qmp


async def _own_proxy(stack: AsyncExitStack, pair: Pair, way: Way, path: Path) -> Proxy | None:
    """One that was started for this connection alone, or None where one listens already."""
    listener = await asyncio.to_thread(proxy.listening, path)
    if listener is None:
        return None
    stack.callback(path.unlink, missing_ok=True)
    stack.enter_context(listener)
    return await stack.enter_async_context(proxy.started(proxy.found(way.program), pair, listener, state_path(pair)))


async def _greeted(stack: AsyncExitStack, path: Path, seconds: float, ours: Proxy | None) -> Qmp:
    """The monitor; raise `HostError` as soon as a proxy of our own ends, and `QmpTrouble` where there is no greeting."""
    greeting = asyncio.ensure_future(_connected(stack, path, seconds))
    if ours is None:
        return await greeting
    ended = asyncio.ensure_future(ours.ended())
    try:
        await asyncio.wait((greeting, ended), return_when=asyncio.FIRST_COMPLETED)
        if greeting.done():
            return greeting.result()
        raise HostError(f"{shown(path)}: {ours.words}")
    finally:
        for each in (greeting, ended):
            each.cancel()
        await asyncio.gather(greeting, ended, return_exceptions=True)


async def _connected(stack: AsyncExitStack, path: Path, seconds: float) -> Qmp:
    """QEMU 7.2 now and then hangs up on a client that comes close behind another."""
    for _ in range(_ATTEMPTS):
        with suppress(HungUp):
            return await stack.enter_async_context(connect(path, seconds))
        await asyncio.sleep(_BETWEEN_SECONDS)
    return await stack.enter_async_context(connect(path, seconds))


async def _check_alone(path: Path) -> None:
    """Raise `HostError` where somebody who does not take libxl's lock is connected."""
    until = asyncio.get_running_loop().time() + _LEAVE_SECONDS
    while there := await asyncio.to_thread(_clients, path):
        if asyncio.get_running_loop().time() > until:
            raise HostError(f"{shown(path)}: {there} is connected, without libxl's lock, and only one can be; cure: end it")
        await asyncio.sleep(_BETWEEN_SECONDS)


def _clients(path: Path) -> str:
    """Who is connected to the socket, besides us; "" for nobody."""
    if not os.path.lexists(path):
        return ""
    here = ends([os.fspath(path)])[os.fspath(path)]
    return ", ".join(str(each) for each in here.clients if each.pid != os.getpid())


async def _why(store: Client, pair: Pair, path: Path, exc: QmpTrouble) -> HostError:
    """Why there was no greeting, as far as can be seen from dom0."""
    if not await store.is_introduced(pair.stubdomain.domid):
        return HostError(f"{shown_domain(pair.stubdomain)} is gone, and {shown_domain(pair.target)}'s QEMU with it")
    if not await _is_there(store, pair.vchan):
        return HostError(
            f"{shown_domain(pair.stubdomain)} does not serve {pair.vchan}: its QEMU is not up;"
            " 'pv-host-agent dm wait' waits for it, and console 0 of the stubdomain has QEMU's log"
        )
    others = await asyncio.to_thread(_clients, path)
    if others:
        return HostError(f"{shown(path)}: {others} came first, without libxl's lock, and only one can be connected; cure: end it")
    return HostError(f"{exc}; the other end is in {shown_domain(pair.stubdomain)}: {pair.vchan}")


async def _is_there(store: Client, node: str) -> bool:
    try:
        await store.read(node)
    except NoEntry:
        return False
    return True
