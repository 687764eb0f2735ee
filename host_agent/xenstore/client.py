# SPDX-License-Identifier: Apache-2.0
"""What can be asked of xenstore: read, list, watch and, in transactions where that matters, write."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from host_agent.errors import shown
from host_agent.xenstore import wire
from host_agent.xenstore.connection import ANSWER_SECONDS, MAX_EVENTS, Connection
from host_agent.xenstore.errors import Again, Garbled, Lost, TooBig, XenstoreError
from host_agent.xenstore.wire import Operation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from host_agent.xenstore.connection import Events
    from host_agent.xenstore.wire import Permission

#: For a daemon to take the connection; its queue is short, and while others are in it we ask again so often.
CONNECT_SECONDS: Final = 5.0
_QUEUE_SECONDS: Final = 0.02
#: A long listing comes in parts; where the node changes between two of them, it is begun anew so many times.
_LISTING_ATTEMPTS: Final = 8


def socket_paths(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where the daemon's socket can be, in the order to try: what libxenstore's variables say, or else its usual places."""
    if "XENSTORED_PATH" in environment:
        return (Path(environment["XENSTORED_PATH"]),)
    if "XENSTORED_RUNDIR" in environment:
        return (Path(environment["XENSTORED_RUNDIR"], "socket"),)
    return Path("/run/xenstored/socket"), Path("/var/run/xenstored/socket")


PATHS: Final = socket_paths()


class Nodes:
    """The nodes, as all see them or as one transaction does. Paths are absolute; whatever is asked can raise `XenstoreError`."""

    def __init__(self, connection: Connection, transaction: int = 0) -> None:
        self._connection, self._transaction = connection, transaction

    async def _ask(self, operation: Operation, path: str, more: bytes = b"") -> bytes:
        payload = wire.joined(wire.checked_path(path)) + more
        return await self._connection.ask(operation, payload, path, self._transaction)

    async def read(self, path: str) -> bytes:
        """The value at *path*."""
        return await self._ask(Operation.READ, path)

    async def directory(self, path: str) -> list[str]:
        """The names of the children of *path*, however many they are."""
        try:
            return wire.strings(await self._ask(Operation.DIRECTORY, path))
        except TooBig:
            return await self._long_directory(path)

    async def _long_directory(self, path: str) -> list[str]:
        for _ in range(_LISTING_ATTEMPTS):
            names = await self._in_parts(path)
            if names is not None:
                return wire.strings(names)
        raise Again("EAGAIN", path)

    async def _in_parts(self, path: str) -> bytes | None:
        """The whole listing, or None where the node changed meanwhile."""
        names, generation = b"", None
        while len(names) <= wire.MAX_REPLY_BYTES:
            part = wire.part(await self._ask(Operation.DIRECTORY_PART, path, wire.joined(b"%d" % len(names))))
            if generation not in (None, part.generation):
                return None
            generation, names = part.generation, names + part.names
            if part.last:
                return names
        raise Garbled("xenstored's listing has no end")

    async def permissions(self, path: str) -> list[Permission]:
        """Whose *path* is, in the first entry, and who else may do what."""
        return wire.permissions(await self._ask(Operation.GET_PERMS, path))

    async def write(self, path: str, value: bytes) -> None:
        """Set the value at *path*, which is made with its parents where it is not there."""
        await self._ask(Operation.WRITE, path, value)

    async def mkdir(self, path: str) -> None:
        """Have *path* be there, with its parents."""
        await self._ask(Operation.MKDIR, path)

    async def rm(self, path: str) -> None:
        """Have *path*, and all below it, be gone."""
        await self._ask(Operation.RM, path)

    async def set_permissions(self, path: str, permissions: Iterable[Permission]) -> None:
        """Give *path* to the first entry's domain, and let the others do what theirs say."""
        await self._ask(Operation.SET_PERMS, path, wire.joined(*(str(each).encode("ascii") for each in permissions)))


class Client(Nodes):
    """A connection to xenstored; leave its `async with`, or `close` it, when done."""

    @classmethod
    async def connect(
        cls, paths: Sequence[Path] = PATHS, *, answer_seconds: float = ANSWER_SECONDS, max_events: int = MAX_EVENTS
    ) -> Self:
        """Connected to the first of *paths* where a daemon is; raise `Lost` where there is none."""
        troubles: list[OSError] = []
        for path in paths:
            try:
                end = await _connected(path)
            except OSError as exc:  # a TimeoutError is one
                troubles.append(exc)
                continue
            _, connection = await asyncio.get_running_loop().create_unix_connection(
                lambda: Connection(answer_seconds, max_events), sock=end
            )
            return cls(connection)
        raise Lost(_why_not(paths, troubles))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the connection is no more, whoever ended it."""
        return self._connection.closed

    def close(self) -> None:
        """End the connection; its watches and unfinished transactions end with it."""
        self._connection.close()

    async def watch(self, path: str, token: str) -> None:
        """Have whatever changes at or below *path* be told as events with *token*, beginning with one at once."""
        await self._watch(Operation.WATCH, path, token)

    async def unwatch(self, path: str, token: str) -> None:
        """Hear no more of it, but for events that wait already."""
        await self._watch(Operation.UNWATCH, path, token)

    async def _watch(self, operation: Operation, path: str, token: str) -> None:
        payload = wire.joined(wire.checked_watch(path), token.encode("ascii"))
        await self._connection.ask(operation, payload, path)

    async def wait_for_events(self) -> None:
        """Return once there are events to take; raise `Lost` when there can be none any more."""
        await self._connection.wait_for_events()

    def take_events(self) -> Events:
        """All events that came since the last time, perhaps none."""
        return self._connection.take_events()

    async def is_introduced(self, domid: int) -> bool:
        """Whether xenstored knows the domain as one that runs, which a stale node does not say."""
        answer = await self._connection.ask(Operation.IS_DOMAIN_INTRODUCED, wire.joined(b"%d" % domid), f"domain {domid}")
        return wire.answer(answer)

    async def set_target(self, domid: int, target: int) -> None:
        """Let the domain *domid*, which runs, do in xenstore what *target*, which runs, may do: it is its device model."""
        payload = wire.joined(b"%d" % domid, b"%d" % target)
        await self._connection.ask(Operation.SET_TARGET, payload, f"domain {domid}")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Nodes]:
        """The nodes as they are now; what is written comes true all at once when the block ends, or not at all.

        Raise `Again` at its end where somebody else's changes came between: nothing was done, and it is the caller's to
        repeat it. A block that raises has changed nothing.
        """
        number = wire.number(await self._connection.ask(Operation.TRANSACTION_START, b"\0", "transaction"))
        try:
            yield Nodes(self._connection, number)
        except BaseException:
            with suppress(XenstoreError):  # the daemon forgets it with the connection; the block's own error is the one to tell
                await self._connection.ask(Operation.TRANSACTION_END, b"F\0", "transaction", number)
            raise
        await self._connection.ask(Operation.TRANSACTION_END, b"T\0", "transaction", number)


async def _connected(path: Path) -> socket.socket:
    """A socket with the daemon at *path*; raise `OSError`.

    asyncio's own connect takes a full queue (EAGAIN of a unix socket, which is not EINPROGRESS) for a connection.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            while True:
                try:
                    end.connect(os.fspath(path))
                    return end
                except BlockingIOError:
                    await asyncio.sleep(_QUEUE_SECONDS)
    except BaseException:
        end.close()
        raise


def _why_not(paths: Sequence[Path], troubles: Sequence[OSError]) -> str:
    for path, trouble in zip(paths, troubles, strict=True):
        if isinstance(trouble, PermissionError):
            return f"{shown(path)}: no permission: xenstore is root's; cure: run this as root"
        if not isinstance(trouble, FileNotFoundError | ConnectionRefusedError):
            return f"{shown(path)}: xenstored cannot be reached: {trouble.strerror or str(trouble) or 'no answer'}"
    return f"no xenstore at {shown(paths[0])}: this is not a Xen dom0, or xenstored is not running"
