# SPDX-License-Identifier: Apache-2.0
"""What systemd is told of the service: that it is ready, how it stands, and that it lives for as long as it can work."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from host_agent.errors import LedgerTrouble
from host_agent.ledger.ledger import Ledger
from host_agent.log.happenings import Happening
from host_agent.pulse import PROOF_SECONDS, Pulse
from host_agent.sd_notify import Notifier
from host_agent.summary import Summary
from host_agent.talk.drive import Batch
from tests.host.dom0 import Dom0, eventually
from tests.host.fakes import FakeGuest, FakeQemu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Systemd:
    """Who listens on the notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(os.fspath(path))
        self.socket.setblocking(False)
        self._heard: list[str] = []

    @property
    def heard(self) -> list[str]:
        """Every line so far."""
        while True:
            try:
                self._heard += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self._heard

    def notifier(self, watchdog_microseconds: int = 0) -> Notifier:
        """Who tells it."""
        return Notifier({"NOTIFY_SOCKET": os.fspath(self.path), "WATCHDOG_USEC": str(watchdog_microseconds)})


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    listener = Systemd(tmp_path / "notify")
    yield listener
    listener.socket.close()


class SickLedger(Ledger):
    """One that cannot be written while it is `sick`."""

    sick = False

    def commit(self) -> None:
        if SickLedger.sick and self._db.in_transaction:
            raise LedgerTrouble("ledger: database or disk is full")
        super().commit()


@pytest.fixture
def sick(tmp_path: Path) -> Iterator[Ledger]:
    SickLedger.sick = False
    ledger = SickLedger.open(tmp_path / "state")
    yield ledger
    SickLedger.sick = False
    ledger.close()


class Beating:
    """A pulse whose time the test tells."""

    def __init__(self, ledger: Ledger, notifier: Notifier) -> None:
        self.now, self.line = 0.0, "serving 0 VMs"
        self.loop = asyncio.new_event_loop()
        self.pulse = Pulse(notifier, Batch(ledger, self.loop), lambda: self.line, lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        """Beat as often as the service would."""
        until = self.now + seconds
        while self.now < until:
            self.now += self.pulse.every
            self.pulse.beat()


@pytest.fixture
def beat(sick: Ledger) -> Iterator[Callable[[Notifier], Beating]]:
    made: list[Beating] = []

    def begin(notifier: Notifier) -> Beating:
        made.append(Beating(sick, notifier))
        return made[-1]

    yield begin
    for beating in made:
        beating.loop.close()


def test_a_sign_of_life_comes_twice_in_each_time_that_the_watchdog_gives(
    systemd: Systemd, beat: Callable[[Notifier], Beating]
) -> None:
    beat(systemd.notifier(4_000_000)).pass_time(10)
    assert systemd.heard.count("WATCHDOG=1") == 5
    beat(systemd.notifier(1_000_000)).pass_time(2)
    assert systemd.heard.count("WATCHDOG=1") == 5 + 4


def test_a_ledger_that_takes_nothing_is_no_sign_of_life_and_is_said_once(
    systemd: Systemd, beat: Callable[[Notifier], Beating], caplog: pytest.LogCaptureFixture
) -> None:
    beating = beat(systemd.notifier(2_000_000))
    SickLedger.sick = True
    with caplog.at_level(logging.INFO):
        beating.pass_time(10)
        assert systemd.heard == ["STATUS=the ledger cannot be written; nothing is sent to any VM"]
        assert [record.__dict__["happening"] for record in caplog.records] == [Happening.LEDGER_TROUBLE]
        SickLedger.sick = False
        beating.pass_time(2)
    assert systemd.heard[1:] == ["WATCHDOG=1", "STATUS=serving 0 VMs", "WATCHDOG=1"]
    assert "can be written again" in caplog.messages[-1]


def test_without_a_watchdog_the_ledger_is_proven_all_the_same(
    beat: Callable[[Notifier], Beating], caplog: pytest.LogCaptureFixture
) -> None:
    SickLedger.sick = True
    beat(Notifier({})).pass_time(PROOF_SECONDS + 1)
    assert "nothing is sent to any VM" in caplog.text


def test_how_it_stands_is_said_when_it_changes_and_not_more_than_once_a_second(
    systemd: Systemd, beat: Callable[[Notifier], Beating]
) -> None:
    beating = beat(systemd.notifier())
    beating.pulse.ready()
    for number in range(30):
        beating.line = f"serving {number // 10} VMs"
        beating.now += 0.1
        beating.pulse.beat()
    said = [line for line in systemd.heard if line.startswith("STATUS=")]
    assert said[0] == "STATUS=serving 0 VMs"
    assert len(said) == len(set(said)) <= 4


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_where_systemd_means_this_process(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_seconds == seconds


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@nobody-listens-here"])
def test_a_notification_that_nobody_takes_stops_nothing(address: str) -> None:
    Notifier({"NOTIFY_SOCKET": address}).ready("serving 0 VMs")


def test_an_abstract_socket_is_one(tmp_path: Path) -> None:
    name = f"pv-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).stopping("leaving")
        assert end.recv(100) == b"STOPPING=1\nSTATUS=leaving"


def test_the_summary_counts_the_vms_that_are_served_and_puts_the_ready_ones_first(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "state")
    for number, state in enumerate(["greeting", "ready", "greeting", "removed", "unreachable"]):
        ledger.want(f"vm{number}", f"vm{number}", None, "")
        ledger.stand(f"vm{number}", state)
    summary = Summary(ledger)
    assert summary.line([]) == "serving 0 VMs"
    assert summary.line(["vm1"]) == "serving 1 VM: 1 ready"
    assert summary.line(["vm0", "vm1", "vm2", "vm4"]) == "serving 4 VMs: 1 ready, 2 greeting, 1 unreachable"
    ledger.stand("vm0", "ready")
    assert summary.line(["vm0", "vm1", "vm2"]) == "serving 3 VMs: 2 ready, 1 greeting"
    ledger.close()


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    return Dom0(tmp_path)


def test_the_service_tells_of_its_life_from_ready_to_stopping(
    dom0: Dom0, systemd: Systemd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(systemd.path))
    for name in ("vm1", "vm2"):
        dom0.document(name, "web")

    async def story() -> None:
        assert "READY=1" not in systemd.heard
        await eventually(lambda: "STATUS=serving 2 VMs: 1 ready, 1 unreachable" in systemd.heard, "the status")
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: systemd.heard.count("READY=1") == 2, "the reload")

    with FakeQemu(dom0.sockets / "vm1.sock", FakeGuest()), caplog.at_level(logging.INFO):
        dom0.serve(story)
    heard = systemd.heard
    assert heard.index("RELOADING=1") > heard.index("READY=1")
    assert heard[heard.index("RELOADING=1") + 1].startswith("MONOTONIC_USEC=")
    assert "STOPPING=1" in heard[-2:]
    happened = [record.__dict__.get("happening") for record in caplog.records]
    assert happened.count(Happening.STARTED) == happened.count(Happening.RELOADED) == happened.count(Happening.STOPPED) == 1


def test_a_second_sigterm_while_it_stops_changes_nothing(dom0: Dom0, caplog: pytest.LogCaptureFixture) -> None:
    dom0.document("vm1", "web")

    async def story() -> None:
        await eventually(lambda: dom0.vm("vm1").get("state") == "ready", "served")
        os.kill(os.getpid(), signal.SIGTERM)

    with FakeQemu(dom0.sockets / "vm1.sock", FakeGuest()), caplog.at_level(logging.INFO):
        dom0.serve(story)
    assert caplog.text.count("stopped: left 1 VM within") == 1
