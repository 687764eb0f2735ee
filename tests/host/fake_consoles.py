# SPDX-License-Identifier: Apache-2.0
"""A domain's QEMU and guest for hot-plug: character devices by QMP, and both drivers of its consoles in a fake xenstored.

It keeps the rules that were seen on QEMU 7.2 and 10: a console that is found without its character device is none and spoils
the id (10), a device is busy until the guest has closed its console, and for ever where the nodes just went (7.2). QEMU looks at
a console whose back end is in state 1, and not before; a guest begins as soon as its nodes are there.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.host.fake_qmp import FakeMonitor, Oops

if TYPE_CHECKING:
    from tests.host.fake_xenstored import FakeXenstored

_STATE = re.compile(r"/local/domain/0/backend/console/[0-9]+/([1-9][0-9]*)/state")
DEADLINE_SECONDS = 20.0


class FakeConsoles(FakeMonitor):
    """The QEMU of *domid*, whose monitor is at *path*; *version* is 7 or 10."""

    def __init__(self, path: Path, xen: FakeXenstored, domid: int, version: int = 7) -> None:
        super().__init__(path)
        self.xen, self.domid, self.version = xen, domid, version
        #: What each character device is connected to.
        self.chardevs: dict[str, str] = {"compat_monitor0": "unix:/x,server=on"}
        #: Ids that this QEMU refuses.
        self.spoilt: set[int] = set()
        #: Whether the guest's driver does anything.
        self.guest_answers = True
        self._sockets: dict[str, socket.socket] = {}
        self._consoles: dict[int, str] = {}
        self._stuck: set[str] = set()
        self.answers |= {"query-chardev": self._query, "chardev-add": self._add, "chardev-remove": self._remove}

    def __enter__(self) -> Self:
        super().__enter__()
        self._drivers = asyncio.run_coroutine_threadsafe(self._drive(), self._loop)
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        for one in self._sockets.values():
            one.close()

    def with_console(self, number: int, label: str) -> None:
        """The console was there since the domain's creation, and is connected."""
        self._consoles[number] = label
        for end in (f"/local/domain/{self.domid}/device/console/{number}", self._backend(number)):
            self.xen.write(f"{end}/state", "4")

    def ours(self) -> set[str]:
        """The character devices of channels."""
        return {label for label in self.chardevs if label.startswith("libxl-channel")}

    def settle(self) -> None:
        """Until both drivers have nothing to do."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.call(self._step()):
            assert time.monotonic() < deadline

    def _query(self, _: Any) -> list[dict[str, Any]]:
        return [{"label": label, "filename": what, "frontend-open": True} for label, what in self.chardevs.items()]

    def _add(self, arguments: Any) -> dict[str, str]:
        label, backend = arguments["id"], arguments["backend"]
        if label in self.chardevs:
            raise Oops(f"Chardev '{label}' already exists")
        if backend["type"] == "pty":
            self.chardevs[label] = "pty:/dev/pts/77"
            return {"pty": "/dev/pts/77"}
        assert backend["data"] | {"addr": None} == {"addr": None, "server": True, "wait": False}
        path = backend["data"]["addr"]["data"]["path"]
        Path(path).unlink(missing_ok=True)
        self._sockets[label] = listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        self.chardevs[label] = f"disconnected:unix:{path},server=on"
        return {}

    def _remove(self, arguments: Any) -> dict[str, Any]:
        label = arguments["id"]
        if label not in self.chardevs:
            raise Oops(f"Chardev '{label}' not found")
        if label in self._consoles.values() or label in self._stuck:
            raise Oops(f"Chardev '{label}' is busy")
        path = self.chardevs.pop(label).partition("unix:")[2].partition(",")[0]
        if label in self._sockets:
            self._sockets.pop(label).close()
            Path(path).unlink(missing_ok=True)
        return {}

    def _backend(self, number: int) -> str:
        return f"/local/domain/0/backend/console/{self.domid}/{number}"

    async def _drive(self) -> None:
        while True:
            await self._step()
            await asyncio.sleep(0.005)

    async def _step(self) -> bool:
        with self.xen.lock:  # a step sees one state of xenstore
            return self._step_now()

    def _step_now(self) -> bool:
        there = {int(match[1]) for match in map(_STATE.fullmatch, self.xen.snapshot()) if match}
        for number in self._consoles.keys() - there:
            label = self._consoles.pop(number)
            if self.version == 7:
                self._stuck.add(label)
        moved = [self._move(number) for number in sorted(there)]
        return any(moved)

    def _move(self, number: int) -> bool:
        """One step of either driver; whether there was one to take."""
        front, back = f"/local/domain/{self.domid}/device/console/{number}", self._backend(number)
        states = self.xen.value(f"{back}/state"), self.xen.value(f"{front}/state")
        if states[0] == "1" and number not in self._consoles:
            return self._take(number, self.xen.value(f"{front}/output").removeprefix("chardev:"))
        if states[1] == "6" and number in self._consoles:
            del self._consoles[number]
            return self._write(f"{back}/state", "6")
        if states == ("2", "3"):
            return self._write(f"{back}/state", "4")
        if not self.guest_answers:
            return False
        guests = {("0", "1"): "3", ("2", "1"): "3", ("4", "3"): "4", ("5", "1"): "6", ("5", "4"): "6"}.get(states)
        return guests is not None and self._write(f"{front}/state", guests)

    def _take(self, number: int, label: str) -> bool:
        if number in self.spoilt:
            return False
        if label not in self.chardevs:
            self.spoilt.add(number)
            return False
        assert label not in self._consoles.values(), "QEMU 7.2 aborts: two consoles on one character device"
        self._consoles[number] = label
        return self._write(f"{self._backend(number)}/state", "2")

    def _write(self, path: str, value: str) -> bool:
        """Where the node is still there."""
        with self.xen.lock:
            if path in self.xen.snapshot():
                self.xen.write(path, value)
        return True
