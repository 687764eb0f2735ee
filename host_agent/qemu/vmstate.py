# SPDX-License-Identifier: Apache-2.0
"""A helper whose state travels with a VM: org.qemu.VMState1 on a bus (docs/interop/dbus-vmstate.rst), for its QEMU alone."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from dbus_fast import Message, MessageFlag, Variant

from host_agent.errors import HostError
from host_agent.qemu.vmstate_stream import MAX_STATE_BYTES, check_id
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from host_agent.qemu.bus import Bus, Caller

    class State(Protocol):
        """What travels."""

        def save(self) -> bytes:
            """All of it, at once; raise `HostError`."""

        async def load(self, state: bytes) -> None:
            """It is this from now on; raise `HostError`, and then it is what it was."""


#: The name that helpers wait in line for, and their interface; the object that has it.
INTERFACE: Final = "org.qemu.VMState1"
PATH: Final = "/org/qemu/VMState1"
#: QEMU waits for 25 s, with its VM standing still.
LOAD_SECONDS: Final = 20.0
_ERRORS: Final = "org.freedesktop.DBus.Error"
#: QEMU asks one thing at a time.
_MAX_CALLS: Final = 16
#: Unique names are never used again on a bus.
_MAX_JUDGED: Final = 256
_DESCRIPTION: Final = f"""\
<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
<node>
  <interface name="{INTERFACE}">
    <property name="Id" type="s" access="read"/>
    <method name="Load"><arg type="ay" name="data" direction="in"/></method>
    <method name="Save"><arg type="ay" name="data" direction="out"/></method>
  </interface>
</node>
"""


class Allowed(NamedTuple):
    """Who may call besides root and ourselves: QEMU, by its user, by its process, or by both where both are known."""

    uid: int | None = None
    pid: int | None = None

    def takes(self, caller: Caller) -> bool:
        """Whether this is one of them."""
        if caller.uid in (0, os.geteuid()):
            return True
        by_uid = self.uid is None or caller.uid == self.uid
        by_pid = self.pid is None or caller.pid == self.pid
        return by_uid and by_pid and self != Allowed()


class _Refusal(Exception):  # noqa: N818 -- it becomes an answer
    def __init__(self, error: str, text: str) -> None:
        super().__init__(text)
        self.error = f"{_ERRORS}.{error}"


class Helper:
    """What answers for *state*, under *name*, on one bus."""

    def __init__(self, bus: Bus, name: str, state: State, allowed: Allowed, tell: Callable[[str], None]) -> None:
        check_id(name)
        self._bus, self._name, self._state, self._allowed, self._tell = bus, name, state, allowed, tell
        self._judged: dict[str, bool] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._loading = asyncio.Lock()

    async def begin(self) -> None:
        """Answer from now on, and stand in line; raise `BusTrouble`."""
        self._bus.on_call(self._take)
        await self._bus.queue_for(INTERFACE)

    def _take(self, message: Message) -> bool:
        if message.path != PATH:
            return False
        if len(self._calls) >= _MAX_CALLS:
            self._answer(message, Message.new_error(message, f"{_ERRORS}.LimitsExceeded", "too many calls at once"))
            return True
        call = asyncio.create_task(self._reply(message))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return True

    async def _reply(self, message: Message) -> None:
        try:
            signature, body = await self._obey(message)
            answer = Message.new_method_return(message, signature, body)
        except _Refusal as exc:
            answer = Message.new_error(message, exc.error, str(exc))
        except HostError as exc:
            self._tell(f"{message.member}: {exc}")
            answer = Message.new_error(message, f"{_ERRORS}.Failed", printable(exc, 500))
        self._answer(message, answer)

    def _answer(self, message: Message, answer: Message) -> None:
        if not message.flags & MessageFlag.NO_REPLY_EXPECTED:
            self._bus.answer(answer)

    async def _obey(self, message: Message) -> tuple[str, list[object]]:
        """The answer's signature and values."""
        await self._judge(message.sender or "")
        match message.interface, message.member, message.signature:
            case (None | "org.qemu.VMState1"), "Save", "":
                return "ay", [self._saved()]
            case (None | "org.qemu.VMState1"), "Load", "ay":
                await self._load(bytes(message.body[0]))
                return "", []
            case "org.freedesktop.DBus.Properties", "GetAll", "s":
                return "a{sv}", [{"Id": Variant("s", self._name)} if message.body[0] in (INTERFACE, "") else {}]
            case "org.freedesktop.DBus.Properties", "Get", "ss":
                return "v", [self._property(*message.body)]
            case "org.freedesktop.DBus.Introspectable", "Introspect", "":
                return "s", [_DESCRIPTION]
        raise _Refusal("UnknownMethod", "only Load(ay), Save() and the property Id are here")

    async def _judge(self, sender: str) -> None:
        """Refuse whoever is neither root, nor we, nor this VM's QEMU."""
        if sender not in self._judged:
            caller = await self._bus.who(sender)
            if len(self._judged) >= _MAX_JUDGED:
                self._judged.clear()
            self._judged[sender] = self._allowed.takes(caller)
            if not self._judged[sender]:
                self._tell(f"refused to answer uid {caller.uid}, pid {caller.pid}: neither root nor this VM's QEMU")
        if not self._judged[sender]:
            raise _Refusal("AccessDenied", "only root and this VM's QEMU may ask here")

    def _property(self, interface: str, name: str) -> Variant:
        if (interface, name) not in ((INTERFACE, "Id"), ("", "Id")):
            raise _Refusal("UnknownProperty", "the only property here is Id")
        return Variant("s", self._name)

    def _saved(self) -> bytes:
        state = self._state.save()
        if len(state) > MAX_STATE_BYTES:  # which QEMU would leave out, and say that all is well
            raise HostError(f"{self._name}: its state has {len(state):,} bytes, and QEMU takes {MAX_STATE_BYTES:,}")
        return state

    async def _load(self, state: bytes) -> None:
        if len(state) > MAX_STATE_BYTES:
            raise HostError(f"{self._name}: {len(state):,} bytes came for it, of at most {MAX_STATE_BYTES:,}")
        try:
            async with asyncio.timeout(LOAD_SECONDS), self._loading:
                await self._state.load(state)
        except TimeoutError:
            raise HostError(f"{self._name}: its state could not be loaded within {LOAD_SECONDS:g} s; is the disk slow?") from None
