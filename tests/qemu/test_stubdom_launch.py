# SPDX-License-Identifier: Apache-2.0
"""The launcher of a stubdomain with real QEMUs: state out through console 1, and in through console 2 of another stubdomain."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.host.fake_xenstored import FakeXenstored
from tests.host.stubdomain import HOME, RESTORE, Stubdomain, kill, publish, until
from tests.qemu.monitor import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.host.stubdomain import Launcher
    from tests.qemu.machines import Qemu

#: Arguments as hostile as a real QEMU takes them: a name may be any bytes but NUL.
NAME = b"web1\t\n'\"\\$HOME `id` \xff\xc3\xa9"
#: Its clock stands while it is paused: two states of it are the same.
CLOCK = (b"-rtc", b"base=2001-01-01,clock=vm")
MACHINE = (
    b"-nodefaults", b"-no-user-config", b"-display", b"none", b"-machine", b"pc,accel=tcg", b"-m", b"16", *CLOCK, b"-name", NAME,
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FakeXenstored]:
    with FakeXenstored(tmp_path / "xenstored") as running:
        yield running


@pytest.fixture
def stubdomain(tmp_path: Path, store: FakeXenstored) -> Iterator[Callable[[], Stubdomain]]:
    """Make one, as often as it is called; they share the toolstack's orders, as one and its successor do."""
    made: list[Stubdomain] = []

    def make() -> Stubdomain:
        work = tmp_path / f"stubdomain{len(made)}"
        work.mkdir()
        made.append(Stubdomain(work, store.path))
        return made[-1]

    yield make
    for each in made:
        each.__exit__()


def launch(inside: Stubdomain, qemu: Qemu, store: FakeXenstored, *arguments: bytes) -> Launcher:
    """Start *qemu* in it."""
    firmware = [word for path in qemu.firmware for word in (b"-L", os.fsencode(path))]
    publish(store, *firmware, *MACHINE, *arguments)
    return inside.launch("--qemu", qemu.program, **qemu.environment)


def runs(store: FakeXenstored, launcher: Launcher) -> None:
    until(lambda: store.value(f"{HOME}/state") == "running", launcher)


def saved(inside: Stubdomain) -> bytes:
    """The state as it came out of console 1, compared with what QEMU writes into a file."""
    reference = inside.work / "state"
    with inside.monitor() as qmp:
        qmp.execute("xen-save-devices-state", filename=os.fspath(reference))
        expected = reference.read_bytes()
        qmp.execute("xen-save-devices-state", filename=os.fspath(inside.save.path))
        state = inside.save.read(len(expected))
    assert state == expected
    assert inside.save.rest() == b""
    return state


def test_state_goes_out_and_in_byte_for_byte(qemu: Qemu, store: FakeXenstored, stubdomain: Callable[[], Stubdomain]) -> None:
    first, second = stubdomain(), stubdomain()
    # Paused: without Xen RAM does not travel, and a BIOS that has begun has state that refers to it.
    launcher = launch(first, qemu, store, b"-S")
    runs(store, launcher)
    with first.monitor() as qmp:
        assert qmp.execute("query-status")["status"] == "prelaunch"
        assert qmp.execute("query-name")["name"].encode("utf-8", "surrogateescape").startswith(b"web1\t\n'\"\\$HOME `id` ")
    state = saved(first)
    assert state.startswith(b"QEVM")
    assert b"\n" in state  # which a terminal in its first state would have changed
    assert launcher.stop() == 0
    other = launch(second, qemu, store, *RESTORE)
    until(lambda: store.value(f"{HOME}/restore") == "ready", other)
    assert store.value(f"{HOME}/state") == ""
    second.restore.write(state)
    runs(store, other)
    with second.monitor() as qmp:
        assert qmp.execute("query-status")["status"] == "running"
        qmp.execute("stop")
    assert saved(second).startswith(b"QEVM")
    assert other.stop() == 0


def test_a_state_that_is_none_ends_qemu_and_so_the_launcher(
    qemu: Qemu, store: FakeXenstored, stubdomain: Callable[[], Stubdomain]
) -> None:
    inside = stubdomain()
    launcher = launch(inside, qemu, store, *RESTORE)
    until(lambda: store.value(f"{HOME}/restore") == "ready", launcher)
    inside.restore.write(b"no state of any machine, and long enough to be looked at")
    assert launcher.end() == 1
    assert "load of migration failed" in launcher.said()
    assert "exited with status 1" in launcher.said()
    assert store.value(f"{HOME}/state") == ""


def test_the_set_of_descriptors_is_there_and_a_terminal_in_it_cannot_be_saved_to(
    qemu: Qemu, store: FakeXenstored, stubdomain: Callable[[], Stubdomain]
) -> None:
    """QEMU truncates what it opens in a set, which no terminal lets it: hence the console's own name (README)."""
    inside = stubdomain()
    launcher = launch(inside, qemu, store)
    runs(store, launcher)
    for _ in range(2):  # a QEMU that nobody talks to forgets its sets
        with inside.monitor() as qmp:
            assert [each["fdset-id"] for each in qmp.execute("query-fdsets")] == [1]
            with pytest.raises(Refused, match=r"/dev/fdset/1|Failed to dup"):
                qmp.execute("xen-save-devices-state", filename="/dev/fdset/1")
    assert inside.save.rest() == b""


def test_a_qemu_with_wrong_arguments_says_so_on_console_0(
    qemu: Qemu, store: FakeXenstored, stubdomain: Callable[[], Stubdomain]
) -> None:
    launcher = launch(stubdomain(), qemu, store, b"-machine", b"none-such")
    assert launcher.end() == 1
    assert re.search("unsupported machine type|none-such", launcher.said())


def test_the_end_of_each_party(qemu: Qemu, store: FakeXenstored, stubdomain: Callable[[], Stubdomain]) -> None:
    inside = stubdomain()
    launcher = launch(inside, qemu, store)
    runs(store, launcher)
    kill(inside.started_proxies()[0][0])
    until(lambda: len(inside.started_proxies()) == 2, launcher)
    until(inside.listens, launcher)
    with inside.monitor() as qmp:
        assert qmp.execute("query-status")["status"] == "running"
    assert launcher.stop(signal.SIGKILL) == -signal.SIGKILL
    again = launch(inside, qemu, store)
    until(lambda: "ready" in again.said(), again)
    (pid,) = {line.split()[4].rstrip(",") for line in again.said().splitlines() if "QEMU is process" in line}
    kill(int(pid))
    assert again.end() == 128 + signal.SIGKILL
    assert "was ended by SIGKILL" in again.said()
