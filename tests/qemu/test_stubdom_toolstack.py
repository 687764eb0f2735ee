# SPDX-License-Identifier: Apache-2.0
"""Both ends of the stubdomain protocol with real QEMUs: told their arguments, waited for, spoken with, saved, restored, killed.

Xen is played: xenstored and the vchan are fakes, a console is a terminal and a socket with a relay between them.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.errors import HostError
from host_agent.qemu.hotplug_session import Places
from host_agent.stubdom import proxy, save
from host_agent.stubdom import restore as restoring
from host_agent.stubdom.argv_nodes import Publication, publish
from host_agent.stubdom.console_map import INCOMING_ARGUMENT
from host_agent.stubdom.lint import lint
from host_agent.stubdom.monitor import Way, monitor
from host_agent.stubdom.pair import Meant, find
from host_agent.stubdom.readiness import RUNNING, NotReady, wait_for
from host_agent.xenstore.client import Client
from tests.host import fake_dom0_proxy
from tests.host.console_relay import ConsoleRelay
from tests.host.fake_xenstored import Channel, FakeXenstored
from tests.host.stubdomain import STUBDOMAIN, TARGET, Stubdomain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from host_agent.qemu.qmp import Qmp
    from host_agent.stubdom.pair import Pair
    from tests.host.stubdomain import Launcher
    from tests.qemu.machines import Qemu

LONG = 120.0
NAME = "web1\t'\" $HOME `id` \N{LATIN SMALL LETTER E WITH ACUTE}".encode()
#: Its clock stands while it is paused: two states of it are the same.
MACHINE = [
    b"-nodefaults", b"-no-user-config", b"-display", b"none", b"-machine", b"pc,accel=tcg", b"-m", b"16", b"-rtc",
    b"base=2001-01-01,clock=vm", b"-name", NAME,
]  # fmt: skip
INCOMING = [b"-incoming", INCOMING_ARGUMENT]


class Host:
    """A dom0 and, one after the other, stubdomains of the same target; the consoles' ends are the first two channels."""

    def __init__(self, work: Path, qemu: Qemu) -> None:
        self.work, self.qemu, self.said = work, qemu, list[str]()
        for name in ("run", "lib", "chan", "bin"):
            (work / name).mkdir(mode=0o700)
        self.stack = ExitStack()
        self.xen = self.stack.enter_context(FakeXenstored(work / "xenstored"))
        self.save = self.stack.enter_context(ConsoleRelay(work / "chan" / "save.sock"))
        self.restore = self.stack.enter_context(ConsoleRelay(work / "chan" / "restore.sock"))
        self.places = Places([self.xen.path], [work / "run"], work / "lib")
        self.xen.create(TARGET, "web1")
        channels = [Channel("save", str(self.save.outside)), Channel("restore", str(self.restore.outside))]
        self.xen.create(STUBDOMAIN, "web1-dm", channels=channels, device_model=os.getpid())
        self.inside: list[Stubdomain] = []

    def tell(self, story: Callable[[Client, Pair], Awaitable[Any]]) -> Any:
        async def told() -> Any:
            pair = await find(Meant("web1", "web1-dm"), self.places.xenstored)
            async with await Client.connect(self.places.xenstored) as store:
                return await story(store, pair)

        return asyncio.run(told())

    def launch(self, *arguments: bytes) -> Launcher:
        """Publish them, and start a stubdomain of its own."""
        firmware = [word for path in self.qemu.firmware for word in (b"-L", os.fsencode(path))]
        assert lint([*MACHINE, *arguments], TARGET) == []
        self.tell(lambda store, pair: publish(store, pair, Publication([*firmware, *MACHINE, *arguments])))
        work = self.work / f"stubdomain{len(self.inside)}"
        work.mkdir()
        self.inside.append(self.stack.enter_context(Stubdomain(work, self.xen.path)))
        consoles = ("--save-console", self.save.inside, "--restore-console", self.restore.inside)
        return self.inside[-1].launch("--qemu", self.qemu.program, *consoles, **self.qemu.environment)

    def way(self) -> Way:
        """To the stubdomain that was started last: its proxy's end of the vchan is a socket."""
        served = self.inside[-1].directory / "qmp.sock.vchan"
        return Way(fake_dom0_proxy.program(self.work / "bin", served), None, LONG)

    def up(self) -> None:
        self.tell(lambda store, pair: wait_for(store, pair, pair.state, RUNNING, LONG))

    def ask(self, story: Callable[[Qmp], Awaitable[Any]]) -> Any:
        async def told(store: Client, pair: Pair) -> Any:
            async with monitor(store, self.places, pair, self.way()) as qmp:
                return await story(qmp)

        return self.tell(told)

    def saved(self, filename: str = "") -> bytes:
        wish = save.Wish(filename or str(self.save.inside), seconds=LONG)

        async def told(store: Client, pair: Pair) -> bytes:
            return await save.save(store, self.places, pair, self.way(), wish, self.said.append)

        state: bytes = self.tell(told)
        return state

    def restored(self, state: bytes) -> str:
        wish = restoring.Wish(LONG, LONG, LONG)

        async def told(store: Client, pair: Pair) -> str:
            return await restoring.restore(store, self.places, pair, self.way(), wish, state, self.said.append)

        status: str = self.tell(told)
        return status


@pytest.fixture
def host(tmp_path: Path, qemu: Qemu, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    one = Host(tmp_path, qemu)
    monkeypatch.setenv("XENSTORED_PATH", os.fspath(one.xen.path))
    try:
        yield one
    finally:
        one.stack.close()


async def name(qmp: Qmp) -> str:
    return str((await qmp.execute("query-name"))["name"])


async def status(qmp: Qmp) -> str:
    return str((await qmp.execute("query-status"))["status"])


def test_a_qemu_is_started_spoken_with_saved_and_restored_in_a_second_stubdomain(host: Host) -> None:
    first = host.launch(b"-S")  # paused: without Xen RAM does not travel
    host.up()
    assert host.ask(name).encode() == NAME
    assert host.ask(status) == "prelaunch"
    state = host.saved()
    reference = host.work / "reference"

    async def to_a_file(qmp: Qmp) -> None:
        await qmp.execute("xen-save-devices-state", {"filename": str(reference)}, seconds=LONG)

    host.ask(to_a_file)
    assert state == reference.read_bytes()
    assert host.saved() == state  # nothing of the first is in the second
    assert first.stop() == 0
    second = host.launch(*INCOMING)
    assert host.restored(state) in ("running", "paused")
    host.up()
    assert host.ask(name).encode() == NAME
    assert second.stop() == 0


def test_a_save_that_cannot_be_is_refused_in_qemus_words_and_leaves_the_monitor_free(host: Host) -> None:
    host.launch(b"-S")
    host.up()
    with pytest.raises(HostError, match="QEMU refuses xen-save-devices-state"):
        host.saved("/nonexistent/directory/state")
    assert host.ask(status) == "prelaunch"


async def until_it_is_gone(qmp: Qmp) -> None:
    while True:
        await qmp.execute("query-status", seconds=2.0)


def test_a_qemu_that_is_killed_is_said_and_the_next_one_is_found(host: Host) -> None:
    launcher = host.launch(b"-S")
    host.up()

    async def killed(store: Client, pair: Pair) -> None:
        way = host.way()._replace(seconds=10.0)
        async with monitor(store, host.places, pair, way) as qmp:
            assert await status(qmp) == "prelaunch"
            launcher.process.kill()  # QEMU gets SIGTERM by that
            await asyncio.to_thread(launcher.end)
            with pytest.raises(HostError, match=r"QEMU closed the connection|did not answer"):
                await until_it_is_gone(qmp)

    host.tell(killed)
    host.xen.rm(f"/local/domain/{STUBDOMAIN}/device-model/{TARGET}/state")
    with pytest.raises(NotReady):
        host.tell(lambda store, pair: wait_for(store, pair, pair.state, RUNNING, 0.5))
    host.launch(b"-S")
    host.up()
    assert host.ask(status) == "prelaunch"


def test_libxls_lock_keeps_a_second_one_from_a_real_qemu(host: Host) -> None:
    host.launch(b"-S")
    host.up()

    async def told(store: Client, pair: Pair) -> None:
        async with monitor(store, host.places, pair, host.way()) as qmp:
            with pytest.raises(HostError, match=rf"another program, pid {os.getpid()} .*, has had libxl's lock"):
                async with monitor(store, host.places, pair, host.way()._replace(seconds=0.5)):
                    pass
            assert await status(qmp) == "prelaunch"

    host.tell(told)
    assert proxy.NAME in str(host.way().program)
