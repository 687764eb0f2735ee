# SPDX-License-Identifier: Apache-2.0
"""A connection to a QEMU's monitor: each wait has a deadline, each failure is a sentence, and it is always closed in the end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient, QMPError, Runstate

from host_agent.errors import HostError, shown
from host_agent.qemu.libxl_lock import held
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from qemu.qmp import Message

#: For the lock and QEMU's greeting, together.
CONNECT_SECONDS: Final = 15.0
#: For the answer to one command. QEMU answers within milliseconds, unless its main loop is busy with a disk or a peer.
ANSWER_SECONDS: Final = 30.0
#: For the last bytes to go out; past that the connection is cut.
CLOSE_SECONDS: Final = 2.0
#: Events that wait to be taken; past that the oldest is dropped.
MAX_EVENTS: Final = 1024
#: `query-qmp-schema` answers with 200 kB on QEMU 10, in one line.
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_QUEUE_SECONDS: Final = 0.02
_MAX_WORDS: Final = 400
_UCRED: Final = struct.Struct("=iII")

# What goes wrong is raised as `QmpTrouble`; the library would print it besides, with what was sent.
logging.getLogger("qemu.qmp").propagate = False


class QmpTrouble(HostError):  # noqa: N818 -- trouble is the word
    """QEMU did not do what it was told, or there is no QEMU to tell.

    *error_class* is QEMU's own (``GenericError``, ``DeviceNotFound``, ``CommandNotFound``) with its words as *desc*; both are
    "" where QEMU did not answer: what was asked for may have been done or not then.
    """

    def __init__(self, message: str, error_class: str = "", desc: str = "") -> None:
        super().__init__(message)
        self.error_class, self.desc = error_class, desc


class HungUp(QmpTrouble):
    """QEMU closed the connection before its greeting: it is just ending, or has not seen yet that the client before has left."""


class Events:
    """Events of QEMU's from the moment of listening on: take them by `next`, or by ``async for`` until the connection ends."""

    def __init__(self, qmp: Qmp, names: tuple[str, ...]) -> None:
        self._qmp, self._listener = qmp, _Listener(names)

    @property
    def missed(self) -> bool:
        """Whether there were more than `MAX_EVENTS` that nobody took, and the oldest are lost."""
        return self._listener.missed

    async def next(self, seconds: float) -> dict[str, Any] | None:
        """The next event, or None where none comes within *seconds*; raise `QmpTrouble` where none can come any more."""
        try:
            async with asyncio.timeout(seconds):
                return await self._next()
        except TimeoutError:
            return None

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next event, however long it takes; the end is the connection's."""
        try:
            return await self._next()
        except QmpTrouble:
            raise StopAsyncIteration from None

    async def _next(self) -> dict[str, Any]:
        waiting = [asyncio.ensure_future(self._listener.something.wait()), asyncio.ensure_future(self._qmp.ended())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if not self._listener.something.is_set():
            raise self._qmp.lost("while its events were waited for")
        return self._listener.take()


class _Listener(EventListener):
    """The library's own keeps every event for ever, in a history besides."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.something = asyncio.Event()
        self.missed = False
        self._waiting: deque[Message] = deque(maxlen=MAX_EVENTS)

    async def put(self, event: Message) -> None:
        if self.accept(event):
            self.missed |= len(self._waiting) == MAX_EVENTS
            self._waiting.append(event)
            self.something.set()

    def take(self) -> dict[str, Any]:
        event = dict(self._waiting.popleft())
        if not self._waiting:
            self.something.clear()
        return event


class Qmp:
    """A monitor that has greeted; `connect` makes it."""

    def __init__(self, client: QMPClient, path: Path, end: socket.socket) -> None:
        self._client, self.path, self._end = client, path, end
        #: Who listens there: QEMU, or what stands between.
        self.pid = _listener(end)

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's, for people to read. What it can do is asked by ``query-qmp-schema``."""
        greeting = self._client.greeting
        numbers: Any = {} if greeting is None else greeting.QMP.version.get("qemu", {})
        major, minor, micro = (int(numbers.get(each, 0)) for each in ("major", "minor", "micro"))
        return major, minor, micro

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, seconds: float = ANSWER_SECONDS
    ) -> Any:
        """What QEMU returns; raise `QmpTrouble` where it refuses, is gone, or does not answer within *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                return await self._client.execute(command, arguments)
        except TimeoutError:
            raise QmpTrouble(
                f"{shown(self.path)}: QEMU did not answer {command} within {seconds:g} s: it hangs or is very busy;"
                " its log is in /var/log/xen or /var/log/libvirt"
            ) from None
        except ExecuteError as exc:
            desc = printable(str(exc), _MAX_WORDS)
            told = f"{shown(self.path)}: QEMU refuses {command}: {desc}"
            raise QmpTrouble(told, printable(exc.error_class, 60), desc) from None
        except QMPError:
            raise self.lost(f"before it answered {command}") from None

    @contextmanager
    def events(self, *names: str) -> Iterator[Events]:
        """Listen for events with these *names*, or any, while in the block."""
        events = Events(self, names)
        with self._client.listen(events._listener):
            yield events

    async def ended(self) -> None:
        """Return once nothing can be asked here any more."""
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()

    async def hang_up(self, seconds: float = CLOSE_SECONDS) -> None:
        """Ask nothing any more, and read on until the other end has closed, for at most *seconds*: no word is left unread."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended()

    def lost(self, when: str) -> QmpTrouble:
        """QEMU, or what stands between, has hung up."""
        return QmpTrouble(f"{shown(self.path)}: QEMU closed the connection {when}: it has ended, or crashed; see its log")


@asynccontextmanager
async def connect(path: Path, seconds: float = CONNECT_SECONDS, *, lock: Path | None = None) -> AsyncIterator[Qmp]:
    """The monitor at the socket *path*, with libxl's *lock* held where one is given; raise `QmpTrouble`, or `HostError`.

    Both must be had within *seconds*; whatever happens in the block, the connection is closed and the lock free after it.
    """
    async with AsyncExitStack() as stack:
        until = asyncio.get_running_loop().time() + seconds
        if lock is not None:
            await stack.enter_async_context(held(lock, seconds))
        end = await _connected(path, until)
        stack.callback(end.close)
        client = QMPClient(readbuflen=_MAX_LINE_BYTES)
        client.events.event_filter = lambda _: False  # its default listener would keep them all
        await _greeted(client, end, path, until, seconds)
        stack.push_async_callback(_disconnected, client, end)
        yield Qmp(client, path, end)


def _listener(end: socket.socket) -> int:
    """The process that the other end was made by (unix(7): ``struct ucred``)."""
    pid: int = _UCRED.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0]
    return pid


async def _connected(path: Path, until: float) -> socket.socket:
    """A socket whose other end is QEMU's, which need not have taken it yet."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        async with asyncio.timeout_at(until):
            while True:
                try:
                    end.connect(os.fspath(path))
                    return end
                except BlockingIOError:  # EAGAIN: its queue is full
                    await asyncio.sleep(_QUEUE_SECONDS)
    except OSError as exc:  # a TimeoutError is one
        end.close()
        raise QmpTrouble(f"{shown(path)}: {_why_not(exc)}") from None
    except BaseException:
        end.close()
        raise


def _why_not(exc: OSError) -> str:
    if isinstance(exc, TimeoutError):
        return "other QMP clients are connected and wait, and QEMU serves one at a time; cure: end them"
    if isinstance(exc, FileNotFoundError):
        return "there is no such QMP socket: no QEMU runs here, or it was started without one"
    if isinstance(exc, ConnectionRefusedError):
        return "nobody listens on this QMP socket: its QEMU has ended"
    if isinstance(exc, PermissionError):
        return "no permission for this QMP socket; cure: run this as root"
    return f"this QMP socket cannot be connected to: {exc.strerror or exc}"


async def _greeted(client: QMPClient, end: socket.socket, path: Path, until: float, seconds: float) -> None:
    """Have QEMU greet *client*, or raise `QmpTrouble`, with nothing left to close but *end*."""
    try:
        async with asyncio.timeout_at(until):
            await client.connect(end)
    except TimeoutError:
        raise QmpTrouble(
            f"{shown(path)}: QEMU did not greet within {seconds:g} s: another QMP client is connected, and QEMU serves one at a"
            f" time (or QEMU hangs); cure: end the other one, which 'ss -xp src {shown(path)}' shows"
        ) from None
    except ConnectError as exc:
        if isinstance(exc.exc, EOFError | OSError):
            raise HungUp(f"{shown(path)}: QEMU hung up before its greeting: it is just ending") from None
        raise QmpTrouble(f"{shown(path)}: what listens there does not speak QMP") from None


async def _disconnected(client: QMPClient, end: socket.socket) -> None:
    """Close the connection within bounds, however QEMU is; what went wrong with it was told by what was asked for."""
    with suppress(QMPError, EOFError, OSError):
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.disconnect()
        except TimeoutError:  # QEMU does not read: what should still go out never will
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.disconnect()
