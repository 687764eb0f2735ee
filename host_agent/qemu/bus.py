# SPDX-License-Identifier: Apache-2.0
"""A connection to a D-Bus message bus: each wait has a deadline, each failure is a sentence, and it is closed in the end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dbus_fast import AuthError, DBusFastError, Message, MessageType, NameFlag
from dbus_fast.aio import MessageBus

from host_agent.errors import HostError
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

#: For the connection, with the bus's greeting.
CONNECT_SECONDS: Final = 15.0
#: GLib's limit for the answer to a call, and so QEMU's (25.02 s measured).
ANSWER_SECONDS: Final = 25.0
#: For the last bytes to go out.
CLOSE_SECONDS: Final = 2.0
_MAX_WORDS: Final = 300
_DRIVER: Final = "org.freedesktop.DBus"
_DRIVER_PATH: Final = "/org/freedesktop/DBus"

# What goes wrong is raised as `BusTrouble`; the library would print it besides, some of it with what was sent.
logging.getLogger("dbus_fast").propagate = False


class BusTrouble(HostError):  # noqa: N818 -- trouble is the word
    """A bus that cannot be had, or a program on it that does not do what it was asked for.

    *error* is the name of the D-Bus error; "" where there was no answer, and what was asked for may have been done or not then.
    """

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


class Caller(NamedTuple):
    """Who is connected to a bus, by the kernel's word (SO_PEERCRED), which the bus hands on. *pid* is 0 where it is not known."""

    uid: int
    pid: int


class Bus:
    """A bus that has greeted; `connect` makes it."""

    def __init__(self, bus: MessageBus, address: str) -> None:
        self._bus, self._shown = bus, printable(address, _MAX_WORDS)

    async def call(
        self, whom: str, path: str, interface: str, member: str, signature: str = "", body: Sequence[object] = (),
        *, returns: str, seconds: float = ANSWER_SECONDS,
    ) -> list[Any]:  # fmt: skip
        """What *whom* answers, of the signature *returns*; raise `BusTrouble` for anything else, or nothing within *seconds*."""
        message = Message(whom, path, interface, member, signature=signature, body=list(body))
        what = f"{interface}.{member}"
        try:
            async with asyncio.timeout(seconds):
                reply = await self._bus.call(message)
        except TimeoutError:
            raise BusTrouble(f"{self._shown}: {printable(whom)} did not answer {what} within {seconds:g} s") from None
        except (DBusFastError, EOFError, OSError) as exc:
            raise BusTrouble(f"{self._shown}: the connection broke before {what} was answered ({_words(exc)})") from None
        if reply is None:  # it was closed meanwhile
            raise BusTrouble(f"{self._shown}: the connection was closed before {what} was answered")
        if reply.message_type is MessageType.ERROR:
            error = printable(reply.error_name or "")
            text = _words(reply.body[0]) if reply.body and isinstance(reply.body[0], str) else error
            raise BusTrouble(f"{self._shown}: {printable(whom)} refuses {what}: {text}", error)
        if reply.signature != returns:
            raise BusTrouble(f"{self._shown}: {printable(whom)} answers {what} with '{printable(reply.signature)}'")
        return list(reply.body)

    async def queue_for(self, name: str) -> None:
        """Own the well-known *name*, or wait in line for it; raise `BusTrouble`."""
        await self._driver("RequestName", "su", (name, NameFlag.NONE.value), "u")

    async def owners(self, name: str) -> list[str]:
        """Who owns the well-known *name* or waits in line for it; nobody may. Raise `BusTrouble`."""
        try:
            (owners,) = await self._driver("ListQueuedOwners", "s", (name,), "as")
        except BusTrouble as exc:
            if exc.error == "org.freedesktop.DBus.Error.NameHasNoOwner":
                return []
            raise
        return [str(owner) for owner in owners]

    async def who(self, name: str) -> Caller:
        """Who it is that the bus calls *name*; raise `BusTrouble`."""
        (found,) = await self._driver("GetConnectionCredentials", "s", (name,), "a{sv}")
        values = {key: value.value for key, value in found.items()}
        if "UnixUserID" not in values:
            raise BusTrouble(f"{self._shown}: the bus does not know whose {printable(name)} is")
        return Caller(int(values["UnixUserID"]), int(values.get("ProcessID", 0)))

    def on_call(self, take: Callable[[Message], bool]) -> None:
        """Have *take* told of each call that comes in; it is to say whether it answers it, by `answer`."""
        self._bus.add_message_handler(lambda message: message.message_type is MessageType.METHOD_CALL and take(message))

    def answer(self, message: Message) -> None:
        """Send the answer to a call; nobody hears of it where the connection has broken."""
        self._bus.send(message).add_done_callback(lambda sent: sent.cancelled() or sent.exception())

    async def ended(self) -> None:
        """Return once the connection is over."""
        with suppress(DBusFastError, EOFError, OSError):
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # the library's only one

    async def _driver(self, member: str, signature: str, body: Sequence[object], returns: str) -> list[Any]:
        return await self.call(_DRIVER, _DRIVER_PATH, _DRIVER, member, signature, body, returns=returns)


@asynccontextmanager
async def connect(address: str, seconds: float = CONNECT_SECONDS) -> AsyncIterator[Bus]:
    """The bus at *address* (``unix:path=PATH``), within *seconds*; raise `BusTrouble`. It is closed when the block ends."""
    shown = printable(address, _MAX_WORDS)
    try:
        bus = MessageBus(address)
        async with asyncio.timeout(seconds):
            await bus.connect()
    except TimeoutError:
        raise BusTrouble(f"{shown}: the bus does not greet within {seconds:g} s; is it a dbus-daemon?") from None
    except AuthError:
        raise BusTrouble(f"{shown}: the bus does not take this user; cure: run this as root, or as its policy says") from None
    except (DBusFastError, EOFError, OSError, ValueError) as exc:
        raise BusTrouble(f"{shown}: no bus there ({_words(exc)}); the address is that of a dbus-daemon, unix:path=PATH") from None
    connected = Bus(bus, address)
    try:
        yield connected
    finally:
        bus.disconnect()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await connected.ended()


def _words(said: object) -> str:
    if isinstance(said, OSError) and said.strerror:
        return said.strerror
    return printable(said, _MAX_WORDS) or type(said).__name__
