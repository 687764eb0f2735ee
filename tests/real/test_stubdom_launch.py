# SPDX-License-Identifier: Apache-2.0
"""The launcher of a stubdomain on Xen's own xenstored with Debian's QEMU, and as process 1 of a PID namespace."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from host_agent.stubdom.launch import main
from host_agent.stubdom.launch_failure import Status
from host_agent.stubdom.launch_orders import orders
from host_agent.stubdom.launch_xenstore import Xenstore
from tests.host.stubdomain import ARGV, HOME, RESTORE, STUBDOMAIN, Stubdomain, publish, until
from tests.real.xenstored import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.host.stubdomain import Launcher

HOSTILE = (b"a\tb", b"a\nb", b"'\"\\", b"$HOME `id`", "é".encode(), bytes(range(1, 256)), b"", b" ", b"x" * 2000)
#: Its clock stands while it is paused: two states of it are the same.
CLOCK = (b"-rtc", b"base=2001-01-01,clock=vm")
MACHINE = (b"-nodefaults", b"-no-user-config", b"-display", b"none", b"-machine", b"pc,accel=tcg", b"-m", b"16", *CLOCK)
NAME = b"web1\t\n'\"\\$HOME `id` \xff"


@pytest.fixture(params=["xenstored", "oxenstored"])
def xenstored(request: pytest.FixtureRequest, tmp_path: Path, no_hypervisor: Path) -> Iterator[Path]:
    """The socket of one that runs."""
    place = tmp_path / "xenstored"
    place.mkdir()
    with running(request.param, place, no_hypervisor) as daemon:
        yield daemon.path


@pytest.fixture
def store(xenstored: Path) -> Iterator[Xenstore]:
    opened = Xenstore.open(xenstored)
    yield opened
    opened.close()


@pytest.fixture
def stubdomain(tmp_path: Path, xenstored: Path) -> Iterator[Callable[[], Stubdomain]]:
    with ExitStack() as stack:
        made: list[Stubdomain] = []

        def make() -> Stubdomain:
            work = tmp_path / f"stubdomain{len(made)}"
            work.mkdir()
            made.append(stack.enter_context(Stubdomain(work, xenstored)))
            return made[-1]

        yield make


def runs(store: Xenstore, launcher: Launcher) -> None:
    until(lambda: store.read(f"{HOME}/state") == b"running", launcher)


def test_orders_are_read_as_they_were_written(store: Xenstore) -> None:
    for arguments in (HOSTILE, [b""] * 999):
        publish(store, *arguments)
        assert orders(store, STUBDOMAIN).arguments == list(arguments)


def test_what_the_daemon_refuses_has_a_status(
    store: Xenstore, stubdomain: Callable[[], Stubdomain], capfd: pytest.CaptureFixture[str]
) -> None:
    inside = stubdomain()
    assert main(inside.options()) == Status.ORDERS
    assert f"/local/domain/{STUBDOMAIN}/target: no such node in xenstore" in capfd.readouterr().err
    publish(store, *[b""] * 1000)
    assert main(inside.options()) == Status.ARGUMENTS
    assert f"{ARGV}: more than 999 arguments" in capfd.readouterr().err
    store.write("/local/domain/0/domid", b"%d" % STUBDOMAIN)  # who comes by a socket is domain 0
    publish(store, *HOSTILE[:-1])
    assert orders(store).arguments == list(HOSTILE[:-1])


def test_a_real_qemu_with_hostile_arguments_saves_and_restores(store: Xenstore, stubdomain: Callable[[], Stubdomain]) -> None:
    qemu = shutil.which("qemu-system-x86_64")
    assert qemu, "on Debian: apt-get install qemu-system-x86"
    first, second = stubdomain(), stubdomain()
    publish(store, *MACHINE, b"-name", NAME, b"-S")  # paused: what a BIOS has begun needs its RAM, which Xen keeps
    launcher = first.launch("--qemu", qemu)
    runs(store, launcher)
    reference = first.work / "state"
    with first.monitor() as qmp:
        assert qmp.execute("query-name")["name"].startswith(NAME[:-1].decode())
        qmp.execute("xen-save-devices-state", filename=os.fspath(reference))
        qmp.execute("xen-save-devices-state", filename=os.fspath(first.save.path))
    state = first.save.read(reference.stat().st_size)
    assert state == reference.read_bytes()
    assert launcher.stop() == 0
    publish(store, *MACHINE, *RESTORE)
    other = second.launch("--qemu", qemu)
    until(lambda: store.read(f"{HOME}/restore") == b"ready", other)
    second.restore.write(state)
    runs(store, other)
    with second.monitor() as qmp:
        assert qmp.execute("query-status")["status"] == "running"
    assert other.stop() == 0
    assert store.read(f"{HOME}/state") is None


def test_as_process_1_it_takes_orphans_and_switches_the_domain_off(store: Xenstore, stubdomain: Callable[[], Stubdomain]) -> None:
    """A namespace's process 1 that switches off is ended as by SIGINT (reboot(2)), and nothing beside the namespace is."""
    inside = stubdomain()
    publish(store, b"-name", b"web1")
    namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
    launcher = inside.launch("--poweroff", before=namespace, FAKE_QEMU="orphans")
    runs(store, launcher)
    until(lambda: "an orphan was taken care of" in launcher.said(), launcher)
    with inside.monitor() as qmp, pytest.raises(EOFError):
        qmp.execute("quit")
    assert launcher.end() in (-signal.SIGINT, 128 + signal.SIGINT)
    assert "exited with status 0" in launcher.said()
