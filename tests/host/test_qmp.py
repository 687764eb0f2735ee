# SPDX-License-Identifier: Apache-2.0
"""A connection to a monitor that answers, refuses, hangs, hangs up, is somebody else's, or is none; and libxl's lock on it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.errors import HostError
from host_agent.qemu import qmp as qmp_module
from host_agent.qemu.libxl_lock import held, lock_of, socket_of
from host_agent.qemu.qmp import MAX_EVENTS, QmpTrouble, connect
from tests.host.fake_qmp import FakeMonitor, Oops

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from host_agent.qemu.qmp import Qmp

LONG = 20.0


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[FakeMonitor]:
    """A QEMU's."""
    with FakeMonitor(tmp_path / "qmp") as one:
        yield one


def asked(path: Path, story: Callable[[Qmp], Awaitable[Any]], seconds: float = LONG, lock: Path | None = None) -> Any:
    """What *story* comes to on a connection."""

    async def connected() -> Any:
        async with connect(path, seconds, lock=lock) as qmp:
            return await story(qmp)

    return asyncio.run(connected())


async def nothing(_: Qmp) -> None:
    """Connecting is all."""


def test_a_command_gets_what_qemu_returns(monitor: FakeMonitor) -> None:
    monitor.answers["query-status"] = {"status": "running"}

    async def story(qmp: Qmp) -> Any:
        return qmp.version, await qmp.execute("query-status"), await qmp.execute("query-status", {"a": 1})

    assert asked(monitor.path, story) == ((7, 2, 22), {"status": "running"}, {"status": "running"})
    assert monitor.asked[1:] == [("query-status", {}), ("query-status", {"a": 1})]


def test_a_refusal_has_qemus_class_and_words_and_what_follows_it_is_answered(monitor: FakeMonitor) -> None:
    def refuse(_: Any) -> None:
        raise Oops("Chardev 'x\x1b[2J' is busy", "DeviceNotFound")

    monitor.answers |= {"chardev-remove": refuse, "stop": {}}

    async def story(qmp: Qmp) -> QmpTrouble:
        with pytest.raises(QmpTrouble) as trouble:
            await qmp.execute("chardev-remove", {"id": "secret"})
        await qmp.execute("stop")
        return trouble.value

    trouble = asked(monitor.path, story)
    assert (trouble.error_class, trouble.desc) == ("DeviceNotFound", "Chardev 'x\\x1b[2J' is busy")
    assert str(trouble).endswith("QEMU refuses chardev-remove: Chardev 'x\\x1b[2J' is busy")
    assert "secret" not in str(trouble)


def test_an_answer_that_does_not_come_is_waited_for_only_so_long(monitor: FakeMonitor) -> None:
    monitor.silent.add("stop")

    async def story(qmp: Qmp) -> None:
        with pytest.raises(QmpTrouble, match=r"did not answer stop within 0\.05 s.*its log") as trouble:
            await qmp.execute("stop", seconds=0.05)
        assert (trouble.value.error_class, trouble.value.desc) == ("", "")

    asked(monitor.path, story)


def test_a_qemu_that_ends_before_it_answers_is_told_and_so_is_whatever_is_asked_then(monitor: FakeMonitor) -> None:
    monitor.hang_up.add("quit")

    async def story(qmp: Qmp) -> None:
        for command in ("quit", "stop"):
            with pytest.raises(QmpTrouble, match=rf"closed the connection before it answered {command}.*crashed"):
                await qmp.execute(command)
        await asyncio.wait_for(qmp.ended(), LONG)

    asked(monitor.path, story)


def test_a_second_client_is_told_of_the_first_in_bounded_time_and_served_when_that_leaves(monitor: FakeMonitor) -> None:
    async def story(_: Qmp) -> None:
        with pytest.raises(QmpTrouble, match=r"did not greet within 0\.05 s: another QMP client is connected"):
            async with connect(monitor.path, 0.05):
                pass

    asked(monitor.path, story)
    asked(monitor.path, nothing)


def test_a_full_queue_is_the_same_in_bounded_time(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(os.fspath(tmp_path / "full"))
        listener.listen(0)
        first.connect(os.fspath(tmp_path / "full"))
        with pytest.raises(QmpTrouble, match="other QMP clients are connected and wait"):
            asked(tmp_path / "full", nothing, 0.1)


def test_no_socket_and_one_of_a_dead_qemu_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(QmpTrouble, match="there is no such QMP socket: no QEMU runs"):
        asked(tmp_path / "none", nothing)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(tmp_path / "dead"))
    with pytest.raises(QmpTrouble, match="nobody listens on this QMP socket: its QEMU has ended"):
        asked(tmp_path / "dead", nothing)


@pytest.mark.parametrize("greeting", [b"SSH-2.0-x\n", b"{}\n", b"[1]\n", b'{"QMP": 1}\n', b"\n"])
def test_what_does_not_speak_qmp_is_told_so(monitor: FakeMonitor, greeting: bytes) -> None:
    monitor.greeting = greeting
    with pytest.raises(QmpTrouble, match="does not speak QMP"):
        asked(monitor.path, nothing, 2)


def test_a_greeting_that_is_refused_capabilities_is_no_connection(monitor: FakeMonitor) -> None:
    del monitor.answers["qmp_capabilities"]
    with pytest.raises(QmpTrouble, match="does not speak QMP"):
        asked(monitor.path, nothing)


def test_a_qemu_that_is_just_ending_is_told_so(monitor: FakeMonitor) -> None:
    monitor.hang_up.add("qmp_capabilities")
    with pytest.raises(QmpTrouble, match="hung up before its greeting"):
        asked(monitor.path, nothing)


def test_nothing_of_what_fails_is_printed_besides(monitor: FakeMonitor, capfd: pytest.CaptureFixture[str]) -> None:
    monitor.greeting = b"nonsense\n"
    with pytest.raises(QmpTrouble):
        asked(monitor.path, nothing)
    assert capfd.readouterr() == ("", "")


def test_a_connection_is_closed_however_the_block_ends(monitor: FakeMonitor) -> None:
    async def fail(_: Qmp) -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        asked(monitor.path, fail)

    async def hang(_: Qmp) -> None:
        await asyncio.sleep(LONG)

    async def cancelled() -> None:
        async def connected() -> None:
            async with connect(monitor.path, LONG) as qmp:
                await hang(qmp)

        task = asyncio.create_task(connected())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    asked(monitor.path, nothing)  # a client that had stayed would be in our way
    assert monitor.clients == 3


def test_a_qemu_that_reads_nothing_more_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp_module, "CLOSE_SECONDS", 0.1)
    heard: list[bytes] = []

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"QMP": {"version": {}, "capabilities": []}}\n')
        heard.append(await reader.read(1024))
        writer.write(b'{"return": {}}\n')
        try:
            await asyncio.sleep(LONG)
        finally:
            writer.transport.abort()

    async def story() -> None:
        server = await asyncio.start_unix_server(deaf, tmp_path / "deaf", limit=1024)
        async with connect(tmp_path / "deaf", LONG) as qmp:
            with pytest.raises(QmpTrouble, match="did not answer"):
                await qmp.execute("x", {"much": "x" * 8_000_000}, seconds=0.05)
        server.close()
        await server.wait_closed()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(asyncio.wait_for(story(), LONG))
    assert len(heard) == 1


# events


def test_events_come_in_order_by_name_and_end_with_the_connection(monitor: FakeMonitor) -> None:
    monitor.answers["go"] = {}

    async def story(qmp: Qmp) -> None:
        with qmp.events("MIGRATION") as events:
            await asyncio.to_thread(monitor.event, "MIGRATION", status="setup")
            await asyncio.to_thread(monitor.event, "STOP")
            await asyncio.to_thread(monitor.event, "MIGRATION", status="active")
            first = await events.next(LONG)
            assert first is not None
            assert first == {"event": "MIGRATION", "data": {"status": "setup"}, "timestamp": {"seconds": 1, "microseconds": 2}}
            second = await events.next(LONG)
            assert second is not None
            assert second["data"] == {"status": "active"}
            assert await events.next(0.05) is None
            await asyncio.to_thread(monitor.event, "MIGRATION", status="failed")
            await asyncio.to_thread(monitor.cut)
            assert [event["data"]["status"] async for event in events] == ["failed"]
            with pytest.raises(QmpTrouble, match="while its events were waited for"):
                await events.next(LONG)

    asked(monitor.path, story)


def test_events_that_nobody_takes_are_bounded_and_their_loss_is_seen(monitor: FakeMonitor) -> None:
    monitor.answers["go"] = {}

    async def story(qmp: Qmp) -> None:
        with qmp.events() as events:
            for number in range(MAX_EVENTS + 3):
                await asyncio.to_thread(monitor.event, "E", n=number)
            await qmp.execute("go")
            assert events.missed
            first = await events.next(LONG)
            assert first is not None
            assert first["data"]["n"] == 3
        assert not qmp._client.events.history

    asked(monitor.path, story)


# libxl's lock and paths


def test_the_lock_and_the_socket_are_where_libxl_has_them(tmp_path: Path) -> None:
    uuid = bytes.fromhex("0f4c6b1e6f5b4a539d1b2f6f0a3c9e01")
    assert lock_of(7, uuid).as_posix() == (
        "/var/lib/xen/userdata-l.7.0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01.qmp-socket-lock"
    )
    first, second = tmp_path / "first", tmp_path / "second"
    assert socket_of(7, (first, second)) == first / "qmp-libxl-7"
    second.mkdir()
    (second / "qmp-libxl-7").touch()
    assert socket_of(7, (first, second)) == second / "qmp-libxl-7"


def test_whoever_has_the_lock_keeps_us_from_qemu_and_is_told_of(monitor: FakeMonitor, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        told = rf"lock: another program, pid {os.getpid()} .*, has had libxl's lock .* for 0\.1 s.*fuser"
        with pytest.raises(HostError, match=told):
            asked(monitor.path, nothing, 0.1, lock)
    assert monitor.clients == 0

    async def locked(_: Qmp) -> None:
        with lock.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    asked(monitor.path, locked, lock=lock)
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_libxl_removed_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    lock = tmp_path / "lock"

    async def story() -> None:
        with lock.open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            task = asyncio.create_task(take())
            await asyncio.sleep(0.1)
            lock.unlink()
        await task

    async def take() -> None:
        async with held(lock, LONG):
            with lock.open() as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    asyncio.run(story())


def test_a_lock_that_cannot_be_had_at_all_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        async with held(tmp_path / "none" / "lock", LONG):
            pass

    with pytest.raises(HostError, match="none/lock: No such file or directory; cure"):
        asyncio.run(story())
