# SPDX-License-Identifier: Apache-2.0
"""Other applications' channels: one program for each, started when its VM is there, again when it ends, and ended with the VM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from host_agent.backends.other_channel import Patience
from host_agent.backends.others import Others
from host_agent.channels.endpoint import Domain, Endpoint
from host_agent.channels.kept_links import links
from host_agent.channels.sockets import made
from pv_channel import CHANNEL_NAME
from pv_channel.greeting import uuid_text
from tests.host.channel_program import described, install, is_no_more, is_over, starts
from tests.host.dom0 import TIMING, Dom0, eventually, hostnames
from tests.host.fake_xenstored import Channel, FakeXenstored
from tests.host.fakes import FakeGuest, FakeQemu
from tests.host.running import Running
from tests.host.talk import OTHER, UUID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CLIP, AGENT = "org.example.clip.1", "org.example.agent.1"
PATIENCE = Patience(end=10, steady=0.0, again=0.1, read_every=0.05)


class Qemu:
    """The end of one channel that is QEMU's, at *path*; what connects comes in `clients`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clients: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        self.path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.clients.put_nowait((reader, writer))

    async def echo(self, word: bytes) -> bytes:
        """What the program that is connected next, or is already, answers to *word*; b"" where it is gone."""
        async with asyncio.timeout(60):
            reader, writer = await self.clients.get()
            self.clients.put_nowait((reader, writer))
            writer.write(word)
            return await reader.read(100)

    async def next_client(self) -> None:
        """Forget the client there was, and wait for another."""
        async with asyncio.timeout(60):
            if not self.clients.empty():
                self.clients.get_nowait()[1].close()
            self.clients.put_nowait(await self.clients.get())


class Host:
    """The channels and descriptions of one dom0; *serve* serves them while a story goes on."""

    def __init__(self, work: Path) -> None:
        self.sockets, self.files, self.bin = work / "sockets", work / "backends", work / "bin"
        for directory in (self.sockets, self.files, self.bin):
            directory.mkdir(mode=0o700)
        self.endpoints: list[Endpoint] = []
        self.patience = PATIENCE
        self.ours = CHANNEL_NAME

    def program(self, name: str, channel: str = CLIP, *faults: str, file: str = "", **more: Any) -> Path:
        """A program, and its description file."""
        binary = install(self.bin, name, channel, *faults, **more)
        described(self.files, file or f"50-{name}.json", channel, binary)
        return binary

    def run(self, path: Path, domid: int = 7, channel: str = CLIP, uuid: bytes = UUID, name: str = "web1") -> Endpoint:
        """The VM runs, and has the channel at *path*."""
        endpoint = Endpoint(path, channel=channel, domain=Domain(domid, uuid, name))
        self.endpoints.append(endpoint)
        return endpoint

    def stop(self, domid: int = 7) -> None:
        """The VM runs no more."""
        self.endpoints = [each for each in self.endpoints if each.domain is not None and each.domain.domid != domid]

    def found(self) -> list[Endpoint]:
        return [each if each.is_pty else each._replace(made=made(each.path)) for each in self.endpoints]

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        task = asyncio.create_task(Others([self.files], self.ours, self.found, TIMING, self.patience).serve())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def serve(self, story: Callable[[], Awaitable[None]]) -> None:
        async def told() -> None:
            async with self.served():
                await story()

        asyncio.run(told())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def started(program: Path, times: int = 1) -> dict[str, Any]:
    """Wait until the program was started so often; how, the last time."""
    await eventually(lambda: len(starts(program)) >= times, f"{program.name} is started {times} times: {starts(program)}")
    return starts(program)[-1]


def test_a_program_is_started_when_its_vm_is_there_and_bytes_pass_and_it_ends_with_the_vm(host: Host) -> None:
    clip = host.program("clip")

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            await asyncio.sleep(0.2)
            assert starts(clip) == []
            host.run(qemu.path)
            assert await qemu.echo(b"hello") == b"HELLO"
            (how,) = starts(clip)
            assert how["argv"] == [f"--fd={how['fd']}"]
            assert how["held"] == [0, 1, 2, how["fd"]]
            assert (how["stdin"], how["blocking"], how["sid"]) == ("/dev/null", True, how["pid"])
            assert {name: value for name, value in how["env"].items() if name.startswith("PV_")} == {
                "PV_CHANNEL_NAME": CLIP, "PV_CHANNEL_VM": "web1", "PV_CHANNEL_UUID": uuid_text(UUID), "PV_CHANNEL_DOMID": "7",
            }  # fmt: skip
            assert how["env"].keys() - {"LC_CTYPE"} == {"PATH", "LANG", *(name for name in how["env"] if name.startswith("PV_"))}
            host.stop()
            await eventually(partial(is_no_more, how["pid"]), "it has ended")
            assert not any(link.exists() for link in links(qemu.path))
        assert len(starts(clip)) == 1

    host.serve(story)


def test_each_channel_of_each_vm_has_a_program_of_its_own(host: Host) -> None:
    clip, agent = host.program("clip"), host.program("agent", AGENT)

    async def story() -> None:
        async with AsyncExitStack() as stack:
            qemus = [await stack.enter_async_context(Qemu(host.sockets / f"{name}.sock")) for name in "abc"]
            host.run(qemus[0].path)
            host.run(qemus[1].path, channel=AGENT)
            host.run(qemus[2].path, 8, uuid=OTHER, name="web2")
            assert [await qemu.echo(b"x") for qemu in qemus] == [b"X"] * 3
            assert sorted(each["env"]["PV_CHANNEL_VM"] for each in starts(clip)) == ["web1", "web2"]
            host.stop(8)
            gone = next(each["pid"] for each in starts(clip) if each["env"]["PV_CHANNEL_VM"] == "web2")
            await eventually(partial(is_no_more, gone), "the other VM's has ended")
            assert [await qemu.echo(b"y") for qemu in qemus[:2]] == [b"Y"] * 2
        assert (len(starts(clip)), len(starts(agent))) == (2, 1)

    host.serve(story)


def test_our_own_channels_are_never_handed_to_another_program(host: Host) -> None:
    host.ours = AGENT
    ours = [host.program("ours", CHANNEL_NAME), host.program("agent", AGENT)]
    clip = host.program("clip")

    async def story() -> None:
        async with AsyncExitStack() as stack:
            for name, channel in (("a", CHANNEL_NAME), ("b", AGENT), ("c", CLIP)):
                host.run((await stack.enter_async_context(Qemu(host.sockets / name))).path, channel=channel)
            await started(clip)
        assert [starts(each) for each in ours] == [[], []]

    host.serve(story)


def test_one_that_is_killed_is_started_again_and_no_descriptor_is_left(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    clip = host.program("clip")

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            host.run(qemu.path)
            await qemu.echo(b"x")
            held = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- its length
            for time in range(1, 9):
                pid = (await started(clip, time))["pid"]
                assert await qemu.echo(b"x") == b"X"
                os.kill(pid, signal.SIGKILL)
                await qemu.next_client()
                await eventually(partial(is_no_more, pid), "no zombie")
            assert await qemu.echo(b"x") == b"X"
            await eventually(lambda: len(os.listdir("/proc/self/fd")) <= held, "as many as before")  # noqa: PTH208

    with caplog.at_level(logging.INFO):
        host.serve(story)
    assert f"web1: channel {CLIP}: {clip} was ended by signal 9 (Killed); it is started again" in caplog.text


def test_one_that_ignores_sigterm_is_killed_with_what_it_started(host: Host) -> None:
    clip = host.program("clip", CLIP, "ignores-sigterm", "leaves-a-child", "stays")
    host.patience = PATIENCE._replace(end=0.2)

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            host.run(qemu.path)
            how = await started(clip)
            host.stop()
            await eventually(partial(is_no_more, how["pid"]), "killed")
            await eventually(partial(is_over, how["child"]), "its child, too")

    host.serve(story)


def test_when_the_service_ends_every_program_has_ended(host: Host) -> None:
    polite, rude = host.program("polite"), host.program("rude", AGENT, "ignores-sigterm", "stays")
    host.patience = PATIENCE._replace(end=0.2)

    async def story() -> None:
        async with Qemu(host.sockets / "a.sock") as first, Qemu(host.sockets / "b.sock") as second:
            async with host.served():
                host.run(first.path)
                host.run(second.path, channel=AGENT)
                pids = [(await started(program))["pid"] for program in (polite, rude)]
            assert [is_no_more(pid) for pid in pids] == [True, True]

    asyncio.run(story())


def test_one_that_fails_is_tried_again_and_again_and_the_log_has_it_once(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    clip = host.program("clip", CLIP, "ends-with-3")
    host.patience = PATIENCE._replace(steady=1000)

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            host.run(qemu.path)
            await started(clip, 4)

    with caplog.at_level(logging.INFO):
        host.serve(story)
    assert caplog.text.count("ended with status 3; it is started again") == 1
    assert caplog.text.count("serves it (pid") == 1
    assert f"{clip} says: I am \\x1b[31mup" in caplog.text
    assert "\x1b" not in caplog.text


def test_one_that_writes_without_end_neither_fills_the_log_nor_holds_up_anybody(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.program("clip", CLIP, "floods")
    agent = host.program("agent", AGENT)

    async def story() -> None:
        async with Qemu(host.sockets / "a.sock") as first, Qemu(host.sockets / "b.sock") as second:
            host.run(first.path)
            await first.next_client()
            host.run(second.path, channel=AGENT)
            await started(agent)
            assert await second.echo(b"x") == b"X"
            await asyncio.sleep(0.5)

    with caplog.at_level(logging.DEBUG):
        host.serve(story)
    assert len(caplog.text) < 50_000


def test_a_program_that_cannot_be_used_leaves_its_place_to_the_next(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    bad = host.program("bad", CLIP, answer="sys.exit(9)", file="10-bad.json")
    good = host.program("good", CLIP, file="20-good.json")

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            host.run(qemu.path)
            assert await qemu.echo(b"x") == b"X"

    with caplog.at_level(logging.WARNING):
        host.serve(story)
    assert (len(starts(bad)), len(starts(good))) == (0, 1)
    assert f"web1: channel {CLIP}: {host.files}/10-bad.json: {bad} --print-capabilities: it ended with status 9" in caplog.text


def test_files_that_come_change_and_go_are_followed(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    (host.files / "10-broken.json").write_text("{")

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            host.run(qemu.path)
            await eventually(lambda: "10-broken.json: no JSON" in caplog.text, "the bad file is complained of")
            first = host.program("first", file="50-first.json")
            pid = (await started(first))["pid"]
            host.program("later", file="60-later.json")
            other = described(host.files, "70-another-channel.json", AGENT, first)
            await asyncio.sleep(0.3)
            assert not is_over(pid)
            earlier = host.program("earlier", file="40-earlier.json")
            await started(earlier)
            assert is_no_more(pid)
            for file in [*host.files.glob("*0-[el]*.json"), *host.files.glob("50-*.json")]:
                file.write_text("")
            await eventually(partial(is_no_more, starts(earlier)[-1]["pid"]), "nobody is to serve it")
            assert other.exists()
            assert len(starts(first)) == 1

    with caplog.at_level(logging.INFO):
        host.serve(story)
    assert caplog.text.count("10-broken.json") == 1
    assert "was ended: another program serves it from now on" in caplog.text


def test_a_vm_that_comes_back_with_another_socket_is_served_there(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    clip = host.program("clip", CLIP, "stays")

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            host.run(qemu.path)
            assert await qemu.echo(b"x") == b"X"
            async with Qemu(qemu.path) as another:
                assert await another.echo(b"y") == b"Y"
                assert is_no_more(starts(clip)[0]["pid"])

    with caplog.at_level(logging.INFO):
        host.serve(story)
    assert "another socket or terminal is the VM's channel now" in caplog.text


def test_a_socket_that_a_dying_qemu_removed_is_put_back_and_its_program_stays(host: Host) -> None:
    clip = host.program("clip")

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            host.run(qemu.path)
            assert await qemu.echo(b"x") == b"X"
            qemu.path.unlink()
            await eventually(qemu.path.exists, "it is back")
            assert await qemu.echo(b"y") == b"Y"
            os.kill(starts(clip)[0]["pid"], signal.SIGKILL)
            await qemu.next_client()
            assert await qemu.echo(b"z") == b"Z"

    host.serve(story)


def test_while_two_domains_share_a_path_neither_is_served(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    clip = host.program("clip")

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            host.run(qemu.path, 7)
            pid = (await started(clip))["pid"]
            host.run(qemu.path, 8)
            await eventually(partial(is_no_more, pid), "it has ended")
            host.stop(7)
            assert (await started(clip, 2))["env"]["PV_CHANNEL_DOMID"] == "8"

    with caplog.at_level(logging.INFO):
        host.serve(story)
    assert "is the path of 2 consoles' channels (domains 7, 8): none is served until one is left" in caplog.text


def test_a_socket_that_somebody_else_may_have_put_there_is_not_handed_on(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    clip = host.program("clip")

    async def story() -> None:
        async with Qemu(host.sockets / "real.sock") as qemu:
            link = host.sockets / "clip.sock"
            link.symlink_to(qemu.path)
            host.run(link)
            await eventually(lambda: "a symbolic link" in caplog.text, "refused")
            assert qemu.clients.empty()

    with caplog.at_level(logging.WARNING):
        host.serve(story)
    assert starts(clip) == []


def test_a_channel_that_is_a_terminal_is_handed_on_raw(host: Host) -> None:
    clip = host.program("clip")

    async def story() -> None:
        ours, terminal = os.openpty()
        try:
            host.endpoints.append(Endpoint(Path(os.ttyname(terminal)), True, 7, CLIP, Domain(7, UUID, "web1")))
            await started(clip)
            os.write(ours, b"hello\n\x03")
            assert await asyncio.to_thread(os.read, ours, 100) == b"HELLO\n\x03"
        finally:
            os.close(ours)
            os.close(terminal)

    host.serve(story)


# -- beside the service


def test_a_fault_of_ours_here_touches_no_vm_that_is_provisioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dom0, guest = Dom0(tmp_path), FakeGuest()
    dom0.document("vm1", "web1")

    def broken() -> list[Endpoint]:
        raise RuntimeError("broken")

    files = tmp_path / "backends"
    described(files, "50-clip.json", CLIP, install(tmp_path, "clip", CLIP))
    dom0.beside = [("other applications' channels", Others([files], CHANNEL_NAME, broken, TIMING, PATIENCE).serve)]

    async def story() -> None:
        await eventually(lambda: "a fault in pv-host-agent" in caplog.text, "it is said")
        await eventually(lambda: hostnames(guest) == ["web1"], "the document")

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.serve(story)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_serve_finds_a_running_vms_channel_and_however_it_ends_the_program_does(
    number: signal.Signals, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = host.program("clip")
    (tmp_path / "dom0").mkdir(mode=0o700)
    dom0 = Dom0(tmp_path / "dom0")
    monkeypatch.setenv("XENSTORED_PATH", str(dom0.xenstored))
    words = ["serve", "--documents", dom0.documents, "--sockets", dom0.sockets, "--state", dom0.state, "--backends", host.files]

    async def story() -> None:
        async with Qemu(host.sockets / "clip.sock") as qemu:
            unused = Channel("org.example.unused.1", str(host.sockets / "unused.sock"))
            xen.create(7, "web1", channels=[unused, Channel(CLIP, str(qemu.path))])
            how = await started(clip)
            assert how["env"]["PV_CHANNEL_DOMID"] == "7"
            assert await qemu.echo(b"x") == b"X"
            serving.process.send_signal(number)
            await eventually(partial(is_over, how["pid"]), "it has ended")
        assert len(starts(clip)) == 1

    with FakeXenstored(dom0.xenstored) as xen, Running(*map(str, words)) as serving:
        asyncio.run(story())
        if number == signal.SIGTERM:
            assert serving.end() == 0
