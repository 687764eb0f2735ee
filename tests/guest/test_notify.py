# SPDX-License-Identifier: Apache-2.0
"""When systemd hears that the boot may go on, and that the agent lives; and what the log says, and how often."""

from __future__ import annotations

import io
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from guest_agent.log import MAX_REMEMBERED, Log
from guest_agent.notify import Notifier, Readiness
from pv_channel.messages import Result
from tests.guest.channel_ends import Dom0, FakeProvisioner, RunningAgent, Tty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FakeSystemd:
    """The far end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.settimeout(0.05)

    def heard(self) -> list[str]:
        """What was said since the last look."""
        said = []
        while True:
            try:
                said.append(self._socket.recv(4096).decode())
            except TimeoutError:
                return said

    def is_ready(self) -> bool:
        """Whether READY=1 is among it."""
        return any("READY=1" in said.splitlines() for said in self.heard())

    def close(self) -> None:
        """Unbind."""
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[FakeSystemd]:
    """A systemd."""
    made = FakeSystemd(str(tmp_path / "notify"))
    yield made
    made.close()


def readiness(systemd: FakeSystemd, *, provisioned: bool = False, **more: str) -> Readiness:
    """One that began at 0 and waits 10 s."""
    return Readiness(Notifier({"NOTIFY_SOCKET": systemd.address, **more}), provisioned=provisioned, wait=10, now=0)


def test_an_abstract_socket_is_spoken_to() -> None:
    systemd = FakeSystemd(f"@pv-guest-agent-test-{os.getpid()}")
    Notifier({"NOTIFY_SOCKET": systemd.address}).send("READY=1")
    assert systemd.is_ready()
    systemd.close()


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nonexistent/notify", "@nobody-is-there"])
def test_a_systemd_that_is_not_there_is_no_error(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).send("READY=1")


def test_a_provisioned_guests_boot_goes_on_when_the_port_is_open(systemd: FakeSystemd) -> None:
    ready = readiness(systemd, provisioned=True)
    ready.check(1)
    assert not systemd.is_ready()
    ready.port_is_open()
    assert systemd.is_ready()


def test_an_unprovisioned_guests_boot_waits_for_the_first_answer(systemd: FakeSystemd) -> None:
    ready = readiness(systemd)
    ready.port_is_open()
    ready.check(9.9)
    assert not systemd.is_ready()
    ready.answered("generation 1 applied")
    assert systemd.is_ready()


def test_an_unprovisioned_guests_boot_goes_on_after_the_wait(systemd: FakeSystemd) -> None:
    ready = readiness(systemd)
    assert ready.check(4) == 6
    assert not systemd.is_ready()
    ready.check(10)
    assert systemd.is_ready()


def test_a_host_that_speaks_in_time_has_as_long_again_and_no_longer(systemd: FakeSystemd) -> None:
    ready = readiness(systemd)
    ready.host_spoke(9)
    ready.host_spoke(18)
    ready.check(18.9)
    assert not systemd.is_ready()
    ready.check(19)
    assert systemd.is_ready()


def test_the_boot_waits_while_a_document_is_worked_on(systemd: FakeSystemd) -> None:
    ready = readiness(systemd)
    ready.check(50, working=True)
    assert not systemd.is_ready()
    ready.check(50)
    assert systemd.is_ready()


def test_readiness_is_said_once(systemd: FakeSystemd) -> None:
    ready = readiness(systemd, provisioned=True)
    for _ in range(3):
        ready.port_is_open()
        ready.check(100)
        ready.answered("again")
    assert sum("READY=1" in said for said in systemd.heard()) == 1


def test_signs_of_life_come_twice_as_often_as_systemd_demands(systemd: FakeSystemd) -> None:
    ready = readiness(systemd, provisioned=True, WATCHDOG_USEC="20000000", WATCHDOG_PID=str(os.getpid()))
    ready.port_is_open()
    systemd.heard()
    now, signs = 0.0, 0
    while now < 60:
        now += ready.check(now)
        ready.check(now)
        signs += systemd.heard().count("WATCHDOG=1")
    assert signs == 6


def test_another_process_watchdog_is_not_ours(systemd: FakeSystemd) -> None:
    assert Notifier({"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}).watchdog_seconds == 0


def test_an_agent_says_ready_after_its_first_answer_was_sent(systemd: FakeSystemd, tmp_path: Path) -> None:
    with Tty() as tty:
        agent = RunningAgent(tmp_path, lambda: [tty.path], notify=systemd.address)
        dom0 = Dom0(tty.master)
        dom0.open()
        assert not systemd.is_ready()
        dom0.provision()
        dom0.message(Result)
        time.sleep(0.1)
        assert systemd.is_ready()
        agent.stop(tty)


def test_a_provisioned_agent_says_ready_before_any_host_speaks(systemd: FakeSystemd, tmp_path: Path) -> None:
    with Tty() as tty:
        agent = RunningAgent(tmp_path, lambda: [tty.path], provisioner=FakeProvisioner(provisioned=True), notify=systemd.address)
        time.sleep(0.3)
        assert systemd.is_ready()
        agent.stop(tty)


def test_an_agent_without_a_tty_says_ready_after_the_wait(systemd: FakeSystemd, tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, lambda: [str(tmp_path / "hvc1")], notify=systemd.address, wait=0.3)
    time.sleep(1)
    assert systemd.is_ready()
    agent.stop()


def test_the_journal_is_given_priorities_and_a_terminal_a_name() -> None:
    journal, terminal = io.StringIO(), io.StringIO()
    for stream, environment in ((journal, {"JOURNAL_STREAM": "8:1"}), (terminal, {})):
        log = Log(stream, environment)
        log.note("a")
        log.alert("b")
        log.fail("c")
    assert journal.getvalue() == "<6>a\n<4>b\n<3>c\n"
    assert terminal.getvalue() == "pv-guest-agent: a\npv-guest-agent: b\npv-guest-agent: c\n"


def test_no_text_makes_two_lines_or_a_long_one() -> None:
    stream = io.StringIO()
    Log(stream, {}).note("one\ntwo\x1b[2J" + "x" * 5000)
    assert stream.getvalue().count("\n") == 1
    assert len(stream.getvalue()) < 500
    assert "\x1b" not in stream.getvalue()


def test_the_same_thing_is_said_once_until_it_is_forgotten() -> None:
    stream = io.StringIO()
    log = Log(stream, {})
    for _ in range(2):
        log.once("refused", b"key", "refused it")
        log.once("refused", b"key", "refused it")
        log.forget("refused")
    assert stream.getvalue().count("refused it") == 2


def test_a_peer_that_has_ever_new_keys_does_not_fill_the_log() -> None:
    stream = io.StringIO()
    log = Log(stream, {})
    for number in range(10 * MAX_REMEMBERED):
        log.once("refused", number, f"refused {number}")
    assert stream.getvalue().count("\n") == MAX_REMEMBERED + 1


def test_a_closed_standard_error_is_no_reason_to_stop() -> None:
    stream = io.StringIO()
    stream.close()
    Log(stream, {}).fail("nobody hears this")
