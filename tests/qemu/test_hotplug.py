# SPDX-License-Identifier: Apache-2.0
"""QEMU's end of a plugged channel on real QEMUs: made, used, removed; one client at a time; libxl's lock. There is no guest."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.errors import HostError
from host_agent.qemu.hotplug_chardev import add_pty, add_socket, chardevs, remove
from host_agent.qemu.qmp import QmpTrouble, connect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from host_agent.qemu.qmp import Qmp
    from tests.qemu.conftest import Start
    from tests.qemu.machines import Qemu, Running

LABEL = "libxl-channel2"
LONG = 120.0


def told(running: Running, story: Callable[[Qmp], Awaitable[Any]]) -> Any:
    """What *story* comes to on a connection to it."""

    async def connected() -> Any:
        async with connect(running.qmp, LONG) as qmp:
            return await story(qmp)

    return asyncio.run(connected())


def descriptors(running: Running) -> int:
    """How many it has open."""
    return len(list(Path(f"/proc/{running.pid}/fd").iterdir()))


def test_a_socket_is_made_and_goes_with_its_device_a_hundred_times_without_a_leak(
    start: Start, qemu: Qemu, tmp_path: Path
) -> None:
    running, path = start(qemu), tmp_path / "channel"

    async def once(qmp: Qmp) -> None:
        await add_socket(qmp, LABEL, str(path))
        assert (await chardevs(qmp))[LABEL].startswith(f"disconnected:unix:{path},")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))
            await remove(qmp, LABEL)
        assert not path.exists()
        assert LABEL not in await chardevs(qmp)

    async def often(qmp: Qmp) -> None:
        await once(qmp)
        before = descriptors(running)
        for _ in range(100):
            await once(qmp)
        assert descriptors(running) == before

    told(running, often)


def test_a_terminal_is_opened_and_goes(start: Start, qemu: Qemu) -> None:
    async def story(qmp: Qmp) -> None:
        tty = await add_pty(qmp, LABEL)
        assert Path(tty).is_char_device()
        assert (await chardevs(qmp))[LABEL] == f"pty:{tty}"
        await remove(qmp, LABEL)
        await remove(qmp, LABEL)  # a second time is no error
        assert LABEL not in await chardevs(qmp)

    told(start(qemu), story)


def test_what_qemu_refuses_comes_in_its_words(start: Start, qemu: Qemu, tmp_path: Path) -> None:
    async def story(qmp: Qmp) -> None:
        with pytest.raises(QmpTrouble, match="Failed to bind socket to /nonexistent/x: No such file") as trouble:
            await add_socket(qmp, LABEL, "/nonexistent/x")
        assert trouble.value.error_class == "GenericError"
        await add_socket(qmp, LABEL, str(tmp_path / "x"))
        with pytest.raises(QmpTrouble, match=r"QEMU refuses chardev-add: .*libxl-channel2") as trouble:
            await add_socket(qmp, LABEL, str(tmp_path / "y"))
        assert trouble.value.error_class == "GenericError"
        with pytest.raises(QmpTrouble) as trouble:
            await qmp.execute("no-such-command")
        assert trouble.value.error_class == "CommandNotFound"

    told(start(qemu), story)


def test_a_busy_device_is_waited_for_and_then_told(start: Start, qemu: Qemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_agent.qemu.hotplug_chardev._FREE_SECONDS", 0.2)
    running = start(qemu, "-chardev", f"null,id={LABEL}", "-serial", f"chardev:{LABEL}")

    async def story(qmp: Qmp) -> None:
        with pytest.raises(QmpTrouble, match=f"Chardev '{LABEL}' is busy"):
            await remove(qmp, LABEL)
        assert LABEL in await chardevs(qmp)

    told(running, story)


def test_a_second_client_hears_of_the_first_and_is_served_after_it(start: Start, qemu: Qemu) -> None:
    running = start(qemu)

    async def story(_: Qmp) -> None:
        with pytest.raises(QmpTrouble, match="did not greet within 1 s: another QMP client is connected"):
            async with connect(running.qmp, 1):
                pass

    told(running, story)
    told(running, chardevs)


def test_who_has_libxls_lock_is_alone_with_qemu(start: Start, qemu: Qemu, tmp_path: Path) -> None:
    running, lock = start(qemu), tmp_path / "lock"

    async def locked() -> None:
        async with connect(running.qmp, LONG, lock=lock) as qmp:
            with pytest.raises(HostError, match="libxl's lock"):
                async with connect(running.qmp, 0.5, lock=lock):
                    pass
            await chardevs(qmp)

    asyncio.run(locked())
    with lock.open() as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_qemu_that_is_killed_is_told_of_as_one(start: Start, qemu: Qemu) -> None:
    running = start(qemu)

    async def story(qmp: Qmp) -> None:
        running.process.kill()
        running.wait()
        with pytest.raises(QmpTrouble, match="it has ended, or crashed"):
            await qmp.execute("query-status")

    told(running, story)
    with pytest.raises(QmpTrouble, match="nobody listens on this QMP socket"):
        told(running, chardevs)
