# SPDX-License-Identifier: Apache-2.0
"""One of the two QEMUs that a VM moves between: how it stands, what is switched on in it, and whether it still lives."""

from __future__ import annotations

import asyncio
import os
import select
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from host_agent.channels import processes
from host_agent.errors import HostError, shown
from host_agent.qemu import capabilities
from host_agent.qemu.migration_status import Status
from host_agent.qemu.qmp import ANSWER_SECONDS, QmpTrouble, connect
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping
    from pathlib import Path

    from host_agent.qemu.capabilities import Capabilities
    from host_agent.qemu.migration_channel import MigMode
    from host_agent.qemu.qmp import Qmp

#: For an answer while state moves: QEMU asks the programs that have state of their own with its main loop held, 25 s for each.
PATIENT_SECONDS: Final = 120.0
#: What a program of QEMU's calls itself begins so; another at the socket, ssh for example, says nothing of QEMU by its end.
_COMM: Final = "qemu"
#: From a monitor that closes to the end of its process: some cleaning up.
_LOOKS: Final = 20
_LOOK_SECONDS: Final = 0.1


_T = TypeVar("_T")


class _RunState(msgspec.Struct):
    status: str


class _Name(msgspec.Struct):
    name: str = ""


class _Switch(msgspec.Struct):
    capability: str
    state: bool


class Object(msgspec.Struct):
    """A child of /objects, with its type as QEMU writes it."""

    name: str
    type: str


class End:
    """A QEMU with a monitor; `end_at` makes it. Whatever is asked can raise `QmpTrouble`."""

    def __init__(self, qmp: Qmp, can: Capabilities, process: _Process) -> None:
        self.qmp, self.can, self._process = qmp, can, process
        self._switched: dict[str, bool] = {}
        self._set: dict[str, object] = {}

    @property
    def path(self) -> Path:
        """The monitor's socket."""
        return self.qmp.path

    @property
    def pid(self) -> int:
        """The process that listens at the monitor's socket."""
        return self.qmp.pid

    @property
    def text(self) -> str:
        """It as in a message."""
        return f"QEMU {'.'.join(map(str, self.qmp.version))} at {shown(self.path)}"

    async def has_ended(self) -> bool:
        """Whether its process is known to have ended, or does just now; a lost connection alone does not say that."""
        for _ in range(_LOOKS if self._process.is_qemu else 0):
            if self._process.ended:
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def status(self) -> Status:
        """How far its migration is."""
        return await self._ask("query-migrate", Status, PATIENT_SECONDS)

    async def state(self) -> str:
        """Its VM's state, a ``RunState``: ``running``, ``paused``, ``inmigrate``, ``postmigrate`` …"""
        answer = await self._ask("query-status", _RunState, PATIENT_SECONDS)
        return printable(answer.status, 40)

    async def name(self) -> str:
        """What it was told to call its VM, or ""."""
        answer = await self._ask("query-name", _Name)
        return printable(answer.name, 100)

    async def objects(self) -> list[Object]:
        """What was made by ``-object`` and `object-add`."""
        return await self._ask("qom-list", list[Object], arguments={"path": "/objects"})

    async def switch(self, wanted: Mapping[str, bool]) -> None:
        """Have these capabilities on or off; `restore` puts back what they were."""
        were = {each.capability: each.state for each in await self._ask("query-migrate-capabilities", list[_Switch])}
        changes = {name: on for name, on in wanted.items() if were.get(name) is not on}
        if changes:
            await self._switch(changes)
            self._switched |= {name: were[name] for name in changes if name in were}

    async def set(self, wanted: Mapping[str, object]) -> None:
        """Have these parameters; `restore` puts back what they were."""
        were = await self._ask("query-migrate-parameters", dict[str, Any])
        changes = {name: value for name, value in wanted.items() if were.get(name) != value}
        if changes:
            await self.qmp.execute("migrate-set-parameters", changes)
            self._set |= {name: were[name] for name in changes if name in were}

    async def set_mode(self, mode: MigMode) -> None:
        """Move in this mode, as `check` allows it; a QEMU that knows no modes has but one."""
        if "mode" in self.can.parameters:
            await self.set({"mode": mode.value})

    async def restore(self) -> None:
        """Have its capabilities and parameters be what they were before."""
        switched, parameters = self._switched, self._set
        self._switched, self._set = {}, {}
        if switched:
            await self._switch(switched)
        if parameters:
            await self.qmp.execute("migrate-set-parameters", parameters)

    def check(self, *, mode: str, switches: Collection[str]) -> None:
        """Raise `HostError` where this QEMU knows no such mode or capability."""
        if mode not in self.can.modes:
            known = ", ".join(sorted(self.can.modes))
            raise HostError(f"{self.text} has no mode {printable(mode, 40)}, only {known}; cure: a newer QEMU, or another --mode")
        unknown = sorted(set(switches) - self.can.switches)
        if unknown:
            raise HostError(
                f"{self.text} has no capability {printable(unknown[0], 60)}; it has {', '.join(sorted(self.can.switches))}"
            )

    def check_not_xens(self) -> None:
        """Raise `HostError` where it is the device model of a Xen domain: its memory is the hypervisor's, and libxl moves it."""
        if self._process.is_xens or self.path.name.startswith("qmp-libx"):
            raise HostError(
                f"{shown(self.path)} is the QEMU of a Xen domain, and has only some of the domain's devices: libxl moves the"
                " whole; cure: xl migrate DOMAIN HOST (or xl save and xl restore)"
            )

    async def _ask(
        self, command: str, kind: type[_T], seconds: float = ANSWER_SECONDS, arguments: Mapping[str, object] | None = None
    ) -> _T:
        """The answer to *command*, decoded."""
        try:
            return msgspec.convert(await self.qmp.execute(command, arguments, seconds=seconds), kind)
        except msgspec.ValidationError as exc:
            raise QmpTrouble(f"{shown(self.path)}: {command} was not answered as QEMU does: {exc}") from None

    async def _switch(self, states: Mapping[str, bool]) -> None:
        wanted = [{"capability": name, "state": on} for name, on in states.items()]
        await self.qmp.execute("migrate-set-capabilities", {"capabilities": wanted})


class _Process:
    """Who listens at a monitor's socket."""

    def __init__(self, pid: int) -> None:
        found = processes.process(pid)
        argv: tuple[str, ...] = () if found is None else found.argv
        self.is_xens = "-xen-domid" in argv
        self.is_qemu = found is not None and found.comm.startswith(_COMM)
        try:
            self._descriptor = os.pidfd_open(pid)
        except OSError:  # of another pid namespace, or ended this moment: nothing is known of it then
            self._descriptor, self.is_qemu = -1, False

    @property
    def ended(self) -> bool:
        if not self.is_qemu:
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


@asynccontextmanager
async def end_at(path: Path) -> AsyncIterator[End]:
    """The QEMU with a monitor at *path*, with its schema read; raise `QmpTrouble`."""
    async with connect(path) as qmp:
        process = _Process(qmp.pid)
        try:
            yield End(qmp, await capabilities.asked(qmp), process)
        finally:
            process.close()
