# SPDX-License-Identifier: Apache-2.0
"""QMP over vchan from dom0: one connection, under libxl's lock; a second one is refused by name; a dead proxy is replaced."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.__main__ import main
from host_agent.channels.ends import ends
from host_agent.errors import HostError
from host_agent.qemu.libxl_lock import lock_of
from host_agent.qemu.qmp import QmpTrouble
from host_agent.stubdom import proxy
from host_agent.stubdom.monitor import Way, monitor
from host_agent.stubdom.proxy_kept import keep
from pv_channel.greeting import uuid_bytes
from tests.host.fake_qmp import FakeMonitor
from tests.host.stubdom_dom0 import HOME, LONG, STUBDOMAIN, TARGET, UUID, Stubdomains

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from host_agent.qemu.qmp import Qmp
    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client

#: Another program that has the lock, or a connection, until its standard input ends.
LOCKS = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('ready', flush=True);"
    " sys.stdin.read()"
)
CONNECTS = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1); print('ready', flush=True);"
    " sys.stdin.read()"
)


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[Stubdomains]:
    with Stubdomains(tmp_path) as one:
        one.up()
        yield one


def asked(dom0: Stubdomains, story: Callable[[Qmp], Awaitable[Any]], way: Way | None = None) -> Any:
    async def told(store: Client, pair: Pair) -> Any:
        async with monitor(store, dom0.places, pair, way or dom0.way) as qmp:
            return await story(qmp)

    return dom0.tell(told)


async def status(qmp: Qmp) -> str:
    return str((await qmp.execute("query-status"))["status"])


class Program:
    """A program of ours that is in the way, in a `with`; it is there when the block begins."""

    def __init__(self, script: str, path: Path) -> None:
        self._words = [sys.executable, "-I", "-S", "-c", script, os.fspath(path)]

    def __enter__(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def test_a_command_is_asked_and_the_proxy_the_socket_and_the_lock_are_gone_after_it(dom0: Stubdomains) -> None:
    assert asked(dom0, status) == "running"
    assert not dom0.socket.exists()
    lock = lock_of(TARGET, uuid_bytes(UUID), dom0.work / "lib")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert dom0.xen.value(f"/local/domain/0/device-model/{STUBDOMAIN}/qmp-proxy-state") == "running"


def test_a_qemu_that_has_not_seen_the_last_client_leave_is_asked_again(dom0: Stubdomains) -> None:
    with FakeMonitor(dom0.socket) as direct:  # what passes an end of QEMU's on at once
        direct.answers |= dom0.qemu.answers
        direct.shy = 2
        assert asked(dom0, status) == "running"
        assert direct.clients == 3


def test_a_dead_proxys_socket_is_no_hindrance(dom0: Stubdomains) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(dom0.socket))
    assert asked(dom0, status) == "running"


def test_what_is_no_socket_stays(dom0: Stubdomains) -> None:
    dom0.socket.write_text("precious")
    with pytest.raises(HostError, match="is no socket, and stays"):
        asked(dom0, status)
    assert dom0.socket.read_text() == "precious"


def test_a_second_one_is_refused_by_the_name_of_the_first(dom0: Stubdomains) -> None:
    lock = lock_of(TARGET, uuid_bytes(UUID), dom0.work / "lib")
    with Program(LOCKS, lock) as first, pytest.raises(HostError) as told:
        asked(dom0, status, dom0.way._replace(seconds=0.3))
    assert f"another program, pid {first.pid} (python" in str(told.value)
    assert "has had libxl's lock on this QEMU's QMP socket" in str(told.value)
    assert dom0.qemu.clients == 0


def test_one_that_does_not_take_libxls_lock_is_named_too(dom0: Stubdomains) -> None:
    async def story(store: Client, pair: Pair) -> None:
        task = asyncio.create_task(keep(store, pair, dom0.proxy, dom0.socket, dom0.said.append))
        await until(lambda: dom0.xen.value(f"/local/domain/0/device-model/{STUBDOMAIN}/qmp-proxy-state") == "running")
        with Program(CONNECTS, dom0.socket) as first:
            with pytest.raises(HostError) as told:
                async with monitor(store, dom0.places, pair, dom0.way):
                    pass
            assert f"pid {first.pid} (python" in str(told.value)
            assert "is connected, without libxl's lock, and only one can be" in str(told.value)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    dom0.tell(story)


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_proxy_that_listens_already_is_used_and_outlives_the_command(dom0: Stubdomains) -> None:
    async def story(store: Client, pair: Pair) -> list[str]:
        task = asyncio.create_task(keep(store, pair, dom0.proxy, dom0.socket, dom0.said.append))
        await until(lambda: dom0.xen.value(f"/local/domain/0/device-model/{STUBDOMAIN}/qmp-proxy-state") == "running")
        pid = dom0.xen.value(f"/local/domain/{STUBDOMAIN}/image/qmp-proxy-pid")
        said = []
        for _ in range(3):
            async with monitor(store, dom0.places, pair, Way(dom0.work / "nothing", None, LONG)) as qmp:
                said.append(await status(qmp))
        assert dom0.xen.value(f"/local/domain/{STUBDOMAIN}/image/qmp-proxy-pid") == pid
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return said

    assert dom0.tell(story) == ["running"] * 3
    assert len(dom0.said) == 1
    assert not dom0.socket.exists()


def test_events_that_nobody_took_do_not_kill_the_proxy(dom0: Stubdomains) -> None:
    """As those that come between the answer and the hanging up."""

    def make_noise() -> None:
        for number in range(200):
            dom0.qemu.event("RTC_CHANGE", offset=number)

    async def noisy(qmp: Qmp) -> None:
        await status(qmp)
        await asyncio.to_thread(make_noise)

    async def story(store: Client, pair: Pair) -> None:
        task = asyncio.create_task(keep(store, pair, dom0.proxy, dom0.socket, dom0.said.append))
        for _ in range(3):
            async with monitor(store, dom0.places, pair, dom0.way) as qmp:
                await noisy(qmp)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    dom0.tell(story)
    assert len(dom0.said) == 1


def test_a_proxy_that_is_killed_is_started_again_on_the_same_socket(dom0: Stubdomains) -> None:
    async def story(store: Client, pair: Pair) -> None:
        pid = f"/local/domain/{STUBDOMAIN}/image/qmp-proxy-pid"
        task = asyncio.create_task(keep(store, pair, dom0.proxy, dom0.socket, dom0.said.append))
        for _ in range(2):
            await until(lambda: dom0.xen.value(pid) != "")
            first = dom0.xen.value(pid)
            inode = dom0.socket.stat().st_ino
            os.kill(int(first), signal.SIGKILL)
            await until(lambda first=first: dom0.xen.value(pid) not in ("", first))  # type: ignore[misc]  # bound in its turn
            async with monitor(store, dom0.places, pair, dom0.way) as qmp:
                assert await status(qmp) == "running"
            assert dom0.socket.stat().st_ino == inode
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    dom0.tell(story)
    assert [sentence for sentence in dom0.said if "ended by signal 9; it is started again" in sentence] == dom0.said[1:]


def test_a_proxy_that_cannot_work_says_why(dom0: Stubdomains) -> None:
    dom0.proxy.write_text("#!/bin/sh\necho vchan client init: No such device >&2\nexit 1\n")
    with pytest.raises(HostError, match="qmp-libxl-7: vchan-socket-proxy ended with status 1: vchan client init: No such device"):
        asked(dom0, status)


def test_a_stubdomain_that_goes_takes_its_proxy_along(dom0: Stubdomains) -> None:
    async def story(store: Client, pair: Pair) -> None:
        keeping = asyncio.create_task(keep(store, pair, dom0.proxy, dom0.socket, dom0.said.append))
        await until(lambda: dom0.xen.value(f"/local/domain/{STUBDOMAIN}/image/qmp-proxy-pid") != "")
        dom0.xen.destroy(STUBDOMAIN)
        async with asyncio.timeout(LONG):
            await keeping

    dom0.tell(story)
    assert dom0.said[-1] == "domain web1-dm (9) is gone, and its QMP with it"
    assert not dom0.socket.exists()


def test_a_second_proxy_is_refused(dom0: Stubdomains) -> None:
    async def story(store: Client, pair: Pair) -> None:
        with proxy.listening(dom0.socket) as listener:  # type: ignore[union-attr]  # nobody listens yet
            assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            with pytest.raises(HostError, match="somebody listens there already"):
                await keep(store, pair, dom0.proxy, dom0.socket, dom0.said.append)

    dom0.tell(story)


def test_a_qemu_that_is_gone_is_no_endless_wait(dom0: Stubdomains) -> None:
    dom0.qemu.path.rename(dom0.work / "elsewhere")
    try:
        words = f"did not greet within 0.5 s.*the other end is in domain web1-dm \\(9\\): {HOME}/qmp-vchan"
        with pytest.raises(HostError, match=words):
            asked(dom0, status, dom0.way._replace(seconds=0.5))
    finally:
        (dom0.work / "elsewhere").rename(dom0.qemu.path)


def test_a_qemu_that_goes_under_a_command_is_no_endless_wait(dom0: Stubdomains) -> None:
    dom0.qemu.hang_up.add("query-status")
    with pytest.raises(QmpTrouble, match=r"did not answer query-status within 0.5 s"):
        asked(dom0, lambda qmp: qmp.execute("query-status", seconds=0.5))


def test_a_stubdomain_that_does_not_serve_its_monitor_is_said(dom0: Stubdomains) -> None:
    dom0.xen.rm(f"{HOME}/qmp-vchan")
    dom0.qemu.greeting = b""
    with pytest.raises(HostError, match=r"does not serve .*/qmp-vchan: its QEMU is not up; 'pv-host-agent dm wait' waits for it"):
        asked(dom0, status, dom0.way._replace(seconds=0.3))


def test_the_socket_is_roots_alone(dom0: Stubdomains) -> None:
    async def mode(_: Qmp) -> int:
        return dom0.socket.stat().st_mode & 0o777

    assert asked(dom0, mode) == 0o700


def test_the_newest_xens_program_is_found(tmp_path: Path) -> None:
    for version in ("xen-4.9", "xen-4.17", "xen-4.14"):
        directory = tmp_path / "lib" / version / "bin"
        directory.mkdir(parents=True)
        (directory / proxy.NAME).write_text("#!/bin/sh\n")
        (directory / proxy.NAME).chmod(0o700)
    (tmp_path / "lib" / "xen-4.19" / "bin").mkdir(parents=True)
    assert [path.parts[-3] for path in proxy._installed(tmp_path)] == ["xen-4.17", "xen-4.14", "xen-4.9"]
    with pytest.raises(HostError, match="no program; --proxy names a vchan-socket-proxy"):
        proxy.found(tmp_path)


# -- the verb


def usual(dom0: Stubdomains, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verb finds its places where the fakes are."""
    monkeypatch.setattr("host_agent.qemu.hotplug_session.Places.usual", lambda: dom0.places)


def test_the_verb_prints_what_qemu_returns(
    dom0: Stubdomains, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual(dom0, monkeypatch)
    dom0.qemu.answers["qom-get"] = lambda arguments: arguments["path"]
    assert main(["dm", "qmp", "web1", "qom-get", '{"path": "/x"}', "--proxy", str(dom0.proxy)]) == 0
    assert json.loads(capsys.readouterr().out) == "/x"
    for words in (["--stubdom", "9"], ["--stubdom", "9", "web1"], ["--target", "7"]):
        assert main(["dm", "qmp", "--proxy", str(dom0.proxy), *words, "query-status"]) == 0
        assert main(["dm", "qmp", "--proxy", str(dom0.proxy), *words, "query-status", "{}"]) == 0
    assert main(["dm", "qmp", "--proxy", str(dom0.proxy), "--stubdom", "9", "nonsense"]) == 1
    assert "QEMU refuses nonsense: The command nonsense has not been found" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["query-status", "[]"], ["query-status", "{"], ["a", "{}", "more"], ["x", "--serve"]])
def test_a_wrong_usage_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dm", "qmp", "web1", *words])
    assert ended.value.code == 2


def test_the_verb_serves_until_it_is_ended(dom0: Stubdomains) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from host_agent.__main__ import main; from host_agent.qemu.hotplug_session import Places\n"
        "places = Places([Path(sys.argv[1])], [Path(sys.argv[2])], Path(sys.argv[3]))\n"
        "Places.usual = classmethod(lambda cls: places)\n"
        "sys.exit(main(['dm', 'qmp', 'web1', '--serve', '--proxy', sys.argv[4]]))"
    )
    words = [sys.executable, "-c", script, str(dom0.xen.path), str(dom0.work / "run"), str(dom0.work / "lib"), str(dom0.proxy)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert b"web1 (7)'s QMP is at " in process.stderr.readline()
    assert asked(dom0, status, Way(dom0.work / "nothing", None, LONG)) == "running"
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not dom0.socket.exists()
    assert ends([str(dom0.socket)])[str(dom0.socket)].listeners == ()
