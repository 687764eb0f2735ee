# SPDX-License-Identifier: Apache-2.0
"""Dom0's end of one of a stubdomain's consoles: what it is, and its bytes, both ways."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.channels.connect import open_stream, unread
from host_agent.channels.endpoint import Endpoint
from host_agent.channels.toolstack import consoles_of
from host_agent.errors import HostError, shown
from host_agent.qemu.running_vm import shown as shown_domain
from host_agent.stubdom.console_map import role_of
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from host_agent.channels.toolstack import Console
    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client

#: What dom0's end can be; a file and a pipe are read and written by QEMU alone, from its start on.
SOCKET, PTY, FILE, PIPE, UNKNOWN = "socket", "pty", "file", "pipe", "unknown"
_CHUNK: Final = 64 * 1024
_BETWEEN_SECONDS: Final = 0.05


class End(NamedTuple):
    """What it is, and where."""

    kind: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind} {shown(self.place)}" if self.place else self.kind


def end_of(console: Console) -> End:
    """Dom0's end of *console*, as far as the toolstack and QEMU say where no guest can write."""
    if console.connection == "socket":
        return End(SOCKET, console.path)
    if console.tty.startswith("/dev/"):
        return End(PTY, console.tty)
    kind, colon, place = console.output.partition(":")
    if colon and kind in (FILE, PIPE):
        return End(kind, place)
    return End(PTY if console.connection == "pty" or console.output == "pty" else UNKNOWN, "")


async def find(store: Client, pair: Pair, number: int) -> End:
    """Dom0's end of the stubdomain's console *number*; raise `HostError` where there is no such console, or it has no end."""
    role = role_of(number)
    for console in await consoles_of(store, pair.stubdomain.domid):
        if console.id == str(number):
            end = end_of(console)
            if not end.place:
                raise HostError(
                    f"{shown_domain(pair.stubdomain)}: console {number} ({role}) has no end in dom0 that is known ({end.kind});"
                    " cure: give it a socket or a pty, and create the stubdomain anew"
                )
            return end
    raise HostError(
        f"{shown_domain(pair.stubdomain)} has no console {number} ({role}); cure: give it one and create it anew:"
        f" channel=['connection=socket,name={role},path=…'], or let libxl create it"
    )


class Stream:
    """The bytes of a console. `open_end` makes it."""

    def __init__(self, descriptor: int, end: End) -> None:
        self._descriptor, self.end = descriptor, end

    async def read(self) -> bytes:
        """What came, once anything has; raise `HostError` where dom0's end is closed."""
        while True:
            try:
                data = os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                await self._readable()
                continue
            except OSError as exc:
                raise self._lost(exc.strerror or str(exc)) from None
            if data:
                return data
            if self.end.kind != FILE:
                raise self._lost("its QEMU in dom0 has closed it")
            await asyncio.sleep(_BETWEEN_SECONDS)  # a file's end is where more may come

    async def discard(self, quiet_seconds: float, at_most: int) -> int:
        """Throw away what waits, until nothing comes for *quiet_seconds*; how much that was. Raise `HostError` past *at_most*."""
        thrown = 0
        while thrown <= at_most:
            try:
                async with asyncio.timeout(quiet_seconds):
                    thrown += len(await self.read())
            except TimeoutError:
                return thrown
        raise HostError(f"{self.end}: more than {at_most} bytes come out that nobody asked for: something else writes there")

    async def send(self, data: bytes) -> None:
        """Give all of *data* to dom0's QEMU, however long it takes; raise `HostError` where it is not taken."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest[:_CHUNK]) :]
            except BlockingIOError:
                await self._writable()
            except OSError as exc:
                raise self._lost(exc.strerror or str(exc)) from None
        while unread(self._descriptor):
            await asyncio.sleep(_BETWEEN_SECONDS)

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)

    async def _writable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._descriptor)

    def _lost(self, why: str) -> HostError:
        return HostError(f"{self.end}: {printable(why, 100)}")


@contextmanager
def open_end(end: End, pair: Pair) -> Iterator[Stream]:
    """The console's bytes while in the block; raise `HostError` where it cannot be had, or is somebody else's."""
    if end.kind == FILE:
        descriptor = _at_its_end(Path(end.place))
    elif end.kind in (SOCKET, PTY):
        descriptor = open_stream(Endpoint(Path(end.place), is_pty=end.kind == PTY, domain=pair.stubdomain))
    else:
        raise HostError(f"{end}: dom0's QEMU alone speaks there; cure: give the console a socket or a pty")
    try:
        yield Stream(descriptor, end)
    finally:
        os.close(descriptor)


def _at_its_end(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        os.lseek(descriptor, 0, os.SEEK_END)
    except OSError as exc:
        raise HostError(f"{shown(path)}: {exc.strerror}; QEMU in dom0 makes it when the stubdomain starts") from None
    return descriptor
