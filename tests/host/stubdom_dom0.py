# SPDX-License-Identifier: Apache-2.0
"""A dom0 whose VM has its QEMU in a stubdomain, all of it fake: xenstored, QEMU's monitor, the proxy, the consoles' ends."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from host_agent.qemu.hotplug_session import Places
from host_agent.stubdom.monitor import Way
from host_agent.stubdom.pair import Meant, find
from host_agent.xenstore.client import Client
from tests.host import fake_dom0_proxy
from tests.host.fake_qmp import FakeMonitor
from tests.host.fake_xenstored import Channel, FakeXenstored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from host_agent.stubdom.pair import Pair

TARGET, STUBDOMAIN = 7, 9
UUID = "0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"
ITS_OWN = "2a4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e02"
HOME = f"/local/domain/{STUBDOMAIN}/device-model/{TARGET}"
STATE = b"QEVM\0\0\0\x03" + bytes(range(256)) * 40 + b"\0"
LONG = 60.0


class FakeConsoleEnd:
    """Dom0's end of a console, as QEMU has it: a socket at *path* that serves one client at a time. Use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard = bytearray()
        #: Whether the terminal inside is cooked: it says what it hears.
        self.echoes = False
        #: Whether anybody inside reads.
        self.reads = True
        self._client: socket.socket | None = None
        self._there = threading.Event()

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(self.path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        self._thread.join()
        self._listener.close()

    def say(self, data: bytes) -> None:
        """As what runs inside writes it."""
        assert self._there.wait(LONG)
        assert self._client is not None
        self._client.sendall(data)

    def hang_up(self) -> None:
        """As a QEMU that ends."""
        client = self._client
        if client is not None:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while True:
            try:
                self._client, _ = self._listener.accept()
            except OSError:
                return
            self._there.set()
            with self._client as client:
                self._listen(client)
            self._there.clear()

    def _listen(self, client: socket.socket) -> None:
        with suppress(OSError):
            while self.reads and (data := client.recv(4096)):
                self.heard += data
                if self.echoes:
                    client.sendall(data.replace(b"\n", b"\r\n"))
            while not self.reads:
                time.sleep(0.01)


class Stubdomains:
    """The dom0; use it in a `with`."""

    def __init__(self, work: Path) -> None:
        self.work = work
        for name in ("run", "lib", "chan", "bin"):
            (work / name).mkdir(mode=0o700)
        self.xen = FakeXenstored(work / "xenstored")
        self.qemu = FakeMonitor(work / "inside.qmp")
        self.save, self.restore = FakeConsoleEnd(work / "chan" / "save.sock"), FakeConsoleEnd(work / "chan" / "restore.sock")
        self.places = Places([self.xen.path], [work / "run"], work / "lib")
        self.proxy = fake_dom0_proxy.program(work / "bin", self.qemu.path)
        self.way = Way(self.proxy, None, LONG)
        self.said: list[str] = []
        self._stack = ExitStack()

    @property
    def socket(self) -> Path:
        """Where the monitor is in dom0."""
        return self.work / "run" / f"qmp-libxl-{TARGET}"

    def __enter__(self) -> Self:
        for each in (self.xen, self.qemu, self.save, self.restore):
            self._stack.enter_context(each)
        self.xen.create(TARGET, "web1", UUID)
        channels = [Channel("save", str(self.save.path)), Channel("restore", str(self.restore.path))]
        self.xen.create(STUBDOMAIN, "web1-dm", ITS_OWN, channels, os.getpid())
        self.qemu.answers |= {"query-status": {"status": "running", "running": True}}
        os.environ["XENSTORED_PATH"] = str(self.xen.path)
        self._stack.callback(os.environ.pop, "XENSTORED_PATH")
        return self

    def __exit__(self, *_: object) -> None:
        self.save.reads = self.restore.reads = True
        self._stack.close()

    def published(self) -> None:
        """As after `dm argv`."""
        self.xen.write(f"/local/domain/{STUBDOMAIN}/target", TARGET)
        self.xen.write(f"/local/domain/{TARGET}/image/device-model-domid", STUBDOMAIN)
        self.xen.write(HOME, "", STUBDOMAIN)
        self.xen.perms(HOME, f"n{STUBDOMAIN}", f"r{TARGET}")

    def up(self) -> None:
        """As after the launcher is up: QEMU runs, and its monitor is served."""
        self.published()
        self.xen.write(f"{HOME}/qmp-vchan/ring-ref", 8)
        self.xen.write(f"{HOME}/state", "running")

    def tell(self, story: Callable[[Client, Pair], Awaitable[Any]], meant: Meant | None = None) -> Any:
        """What *story* returns."""

        async def told() -> Any:
            pair = await find(meant or Meant("web1"), self.places.xenstored)
            async with await Client.connect(self.places.xenstored) as store:
                return await story(store, pair)

        return asyncio.run(told())
