# SPDX-License-Identifier: Apache-2.0
"""A VM's private bus with helpers on it: other people's, well-behaved or not, and ours; they live in a thread beside the test."""

# Without "from __future__ import annotations": dbus-fast takes the text "None" for a signature.
import asyncio
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self

from dbus_fast import DBusError, PropertyAccess
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusBytes, DBusStr
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from host_agent.qemu.bus import connect
from host_agent.qemu.private_bus import private_bus
from host_agent.qemu.vmstate import Allowed, Helper

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from host_agent.qemu.vmstate import State

NAME: Final = "org.qemu.VMState1"
_PATH: Final = "/org/qemu/VMState1"
#: Longer than anything takes that ends at all.
_SECONDS: Final = 120.0


class Program(ServiceInterface):
    """Somebody else's helper, written as dbus-fast's own manual says: *state* is its state, *loaded* what it was given."""

    def __init__(self, name: str, state: bytes = b"", *, fails: bool = False, delay: float = 0) -> None:
        super().__init__(NAME)
        self._id, self.state, self._fails, self._delay = name, state, fails, delay
        self.loaded: list[bytes] = []

    @dbus_property(access=PropertyAccess.READ)
    def Id(self) -> DBusStr:  # noqa: N802 -- the interface's
        return self._id

    @dbus_method()
    async def Save(self) -> DBusBytes:  # noqa: N802 -- the interface's
        await asyncio.sleep(self._delay)
        if self._fails:
            raise DBusError("org.example.Error.Broken", "it is broken")
        return self.state

    @dbus_method()
    async def Load(self, data: DBusBytes) -> None:  # noqa: N802 -- the interface's
        if self._fails:
            raise DBusError("org.example.Error.Broken", "it is broken")
        self.loaded.append(data)


class Beside:
    """The bus of one VM, for a `with`; *allowed* is its QEMU, where that is not root's or ours."""

    def __init__(self, directory: "Path", allowed: Allowed | None = None) -> None:
        self._directory, self._allowed = directory, allowed or Allowed()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = AsyncExitStack()
        self.told: list[str] = []
        self.address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.address = self.run(self._stack.enter_async_context(private_bus(self._directory, self._allowed.uid)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, coroutine: "Coroutine[Any, Any, Any]") -> Any:
        """What it returns, from the thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_SECONDS)

    def add(self, program: Program) -> Program:
        """It is on the bus from now on."""
        self.run(self._add(program))
        return program

    def add_ours(self, name: str, state: "State") -> None:
        """The host agent's own helper, with any state."""
        self.run(self._add_ours(name, state))

    async def _add(self, program: Program) -> None:
        bus = await MessageBus(self.address).connect()
        self._stack.push_async_callback(self._leave, bus)
        bus.export(_PATH, program)
        await bus.request_name(NAME)

    async def _leave(self, bus: MessageBus) -> None:
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # the library's

    async def _add_ours(self, name: str, state: "State") -> None:
        bus = await self._stack.enter_async_context(connect(self.address))
        await Helper(bus, name, state, self._allowed, self.told.append).begin()
