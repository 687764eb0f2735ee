# SPDX-License-Identifier: Apache-2.0
"""Discovery: channels are found and followed through every turn of a domain's life, and nothing of a guest's is believed."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.channels import discovery
from host_agent.channels.discovery import Discovery, survey
from host_agent.channels.endpoint import Domain, Endpoint
from host_agent.errors import HostError
from host_agent.xenstore.connection import MAX_IN_FLIGHT
from pv_channel.greeting import NO_UUID, uuid_bytes
from tests.host import fake_xenstored as fake
from tests.host.fake_xenstored import Channel, FakeXenstored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

OURS = "org.pvchannel.config.1"
UUID = "0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"
WEB1 = [Channel(OURS, "/run/pv-channel/web1.sock"), Channel("org.example.other", tty="/dev/pts/4")]
DEADLINE_SECONDS = 20.0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeXenstored]:
    with FakeXenstored(tmp_path / "xenstored") as running:
        yield running


class Watched:
    """A discovery that runs, and how often it said that something changed."""

    def __init__(self, path: Path) -> None:
        self.changes = 0
        self.now = Discovery(self._changed, paths=[path])

    def _changed(self) -> None:
        self.changes += 1

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds; each step of it was told."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not true():
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.01)

    def domain(self, domid: int) -> Domain:
        return self.now.domains[domid]


def follow(path: Path, story: Callable[[Watched], Awaitable[None]]) -> None:
    async def run() -> None:
        watched = Watched(path)
        task = asyncio.create_task(watched.now.run())
        try:
            await asyncio.wait_for(watched.now.first_look.wait(), DEADLINE_SECONDS)
            await story(watched)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_what_runs_already_is_found_with_all_that_the_toolstack_knows(daemon: FakeXenstored) -> None:
    daemon.create(7, "web1", UUID, WEB1, device_model=4711)
    daemon.create(8, "bare")

    async def story(watched: Watched) -> None:
        web1 = Domain(7, uuid_bytes(UUID), "web1", 4711)
        assert watched.now.endpoints == {
            (7, "1"): Endpoint(Path("/run/pv-channel/web1.sock"), channel=OURS, domain=web1),
            (7, "2"): Endpoint(Path("/dev/pts/4"), is_pty=True, channel="org.example.other", domain=web1),
        }
        assert list(watched.now.domains) == [7, 8]
        assert watched.domain(7) == web1
        assert watched.domain(8).device_model is None
        assert watched.now.trouble == ""
        assert watched.changes == 1

    follow(daemon.path, story)


def test_a_domain_that_starts_is_found_as_its_nodes_appear(daemon: FakeXenstored) -> None:
    async def story(watched: Watched) -> None:
        assert not watched.now.domains
        before = watched.now.endpoints
        daemon.create(7, "web1", UUID, WEB1)
        await watched.until(lambda: (7, "1") in watched.now.endpoints, "the socket")
        assert (7, "2") not in watched.now.endpoints  # QEMU has not opened its terminal yet
        daemon.start_device_model(7, 4711, WEB1)
        await watched.until(lambda: (7, "2") in watched.now.endpoints, "the terminal")
        assert {endpoint.domain for endpoint in watched.now.endpoints.values()} == {watched.domain(7)}
        assert watched.domain(7).device_model == 4711
        assert before == {}

    follow(daemon.path, story)


def test_a_channel_comes_and_goes_while_the_domain_runs(daemon: FakeXenstored) -> None:
    daemon.create(7, channels=WEB1, device_model=1)

    async def story(watched: Watched) -> None:
        daemon.channel(7, 3, Channel("org.example.hot", "/run/hot"))
        await watched.until(lambda: (7, "3") in watched.now.endpoints, "the new channel")
        daemon.rm("/libxl/7/device/console/1")
        await watched.until(lambda: (7, "1") not in watched.now.endpoints, "the channel that went")
        assert (7, "2") in watched.now.endpoints

    follow(daemon.path, story)


def test_a_reboot_is_another_domain_at_the_same_path(daemon: FakeXenstored) -> None:
    daemon.create(7, "web1", UUID, WEB1, device_model=1)

    async def story(watched: Watched) -> None:
        daemon.destroy(7)
        await watched.until(lambda: not watched.now.domains, "the old one's end")
        assert not watched.now.endpoints
        daemon.create(9, "web1", UUID, WEB1, device_model=2)
        await watched.until(lambda: (9, "2") in watched.now.endpoints, "the new one")
        assert watched.domain(9) == Domain(9, uuid_bytes(UUID), "web1", 2)

    follow(daemon.path, story)


def test_a_migration_within_the_host_ends_with_the_new_domain_under_the_old_name(daemon: FakeXenstored) -> None:
    daemon.create(7, "web1", UUID, WEB1, device_model=1)

    async def story(watched: Watched) -> None:
        daemon.create(9, "web1--incoming", UUID, WEB1, device_model=2)
        await watched.until(lambda: (9, "2") in watched.now.endpoints, "the arrival")
        assert watched.domain(9).name == "web1--incoming"
        assert watched.domain(7).uuid == watched.domain(9).uuid
        daemon.write("/local/domain/9/name", "web1")
        daemon.destroy(7)
        await watched.until(lambda: list(watched.now.domains) == [9] and watched.domain(9).name == "web1", "its name")

    follow(daemon.path, story)


def test_nodes_of_a_domain_that_does_not_run_are_no_domain(daemon: FakeXenstored) -> None:
    """A toolstack that was killed leaves them behind."""
    daemon.create(7, channels=WEB1, device_model=1)
    daemon.create(8, channels=WEB1, device_model=2)
    daemon.release(7)

    async def story(watched: Watched) -> None:
        assert list(watched.now.domains) == [8]
        daemon.introduce(7)
        await watched.until(lambda: (7, "1") in watched.now.endpoints, "it runs after all")

    follow(daemon.path, story)


# -- whom to believe


def test_what_a_guest_made_anew_is_not_believed(daemon: FakeXenstored, caplog: pytest.LogCaptureFixture) -> None:
    daemon.create(7, channels=WEB1, device_model=1)
    daemon.rm("/local/domain/7/device/console/2/tty")
    daemon.write("/local/domain/7/device/console/2/tty", "/dev/pts/0", owner=7)

    async def story(watched: Watched) -> None:
        assert list(watched.now.endpoints) == [(7, "1")]
        daemon.start_device_model(7, 1)
        await asyncio.sleep(0.2)
        assert list(watched.now.endpoints) == [(7, "1")]

    follow(daemon.path, story)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        "xenstore: domain 7: /local/domain/7/device/console/2/tty is not dom0's, but domain 7's, and not believed"
    ]


@pytest.mark.parametrize("node", ["vm", "name", "image/device-model-pid"])
def test_no_identity_is_taken_from_a_node_that_dom0_does_not_own(daemon: FakeXenstored, node: str) -> None:
    daemon.create(7, "web1", UUID, WEB1, device_model=4711)
    daemon.perms(f"/local/domain/7/{node}", "n7", "r0")
    nothing = {"vm": ("uuid", NO_UUID), "name": ("name", ""), "image/device-model-pid": ("device_model", None)}

    async def story(watched: Watched) -> None:
        field, value = nothing[node]
        domain = Domain(7, uuid_bytes(UUID), "web1", 4711)._asdict() | {field: value}
        assert watched.domain(7)._asdict() == domain

    follow(daemon.path, story)


def test_the_guest_may_remove_its_directory_and_stays_found(daemon: FakeXenstored) -> None:
    daemon.create(7, channels=WEB1, device_model=1)
    daemon.rm("/local/domain/7/device")

    async def story(watched: Watched) -> None:
        assert list(watched.now.endpoints) == [(7, "1")]

    follow(daemon.path, story)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("path", "relative.sock", "is not absolute"),
        ("path", "", "is not absolute"),
        ("path", "/run/../etc/x", "leads upwards"),
        ("path", "/run/a\nb", "has characters"),
        ("path", b"/run/a\0b", "has characters"),
        ("path", "/" + "x" * 107, "has more than the 107 bytes"),
        ("name", "", "cannot be a channel's"),
        ("name", "org example", "cannot be a channel's"),
        ("name", b"\xff\xfe", "cannot be a channel's"),
        ("name", "x" * 2000, "cannot be a channel's"),
        ("connection", "SOCKET", "is neither socket nor pty"),
        ("connection", "", "is neither socket nor pty"),
    ],
)
def test_what_is_odd_is_left_alone_with_one_line(
    daemon: FakeXenstored, caplog: pytest.LogCaptureFixture, key: str, value: str | bytes, complaint: str
) -> None:
    daemon.create(7, channels=[*WEB1, Channel("org.example.good", "/run/good")], device_model=1)
    daemon.write(f"/libxl/7/device/console/1/{key}", value)

    async def story(watched: Watched) -> None:
        assert list(watched.now.endpoints) == [(7, "2"), (7, "3")]
        daemon.write("/libxl/7/type", "pvh")
        await asyncio.sleep(0.2)

    follow(daemon.path, story)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert told[0].startswith("xenstore: domain 7: console 1: ")
    assert complaint in told[0]
    assert told[0].isprintable()


@pytest.mark.parametrize(
    "tty", ["/dev/pts/../../etc/passwd", "/dev/ttyS0", "/dev/pts/", "/dev/pts/1x", "dev/pts/1", "/dev/pts/\u0663"]
)
def test_only_a_terminal_of_devpts_is_one(daemon: FakeXenstored, tty: str) -> None:
    daemon.create(7, channels=[Channel(OURS, tty=tty)], device_model=1)

    async def story(watched: Watched) -> None:
        assert watched.now.endpoints == {}

    follow(daemon.path, story)


@pytest.mark.parametrize(
    ("vm", "uuid"),
    [
        (f"/vm/{UUID}", uuid_bytes(UUID)),
        (f"/vm/{UUID}-1", uuid_bytes(UUID)),
        (f"/vm/{UUID.upper()}", uuid_bytes(UUID)),
        (f"/vm/{UUID}/x", NO_UUID),
        (f"/vm/{UUID}-", NO_UUID),
        (f" /vm/{UUID}", NO_UUID),
        ("/vm/" + "-" * 36, NO_UUID),
        ("", NO_UUID),
    ],
)
def test_a_uuid_is_one_or_none(daemon: FakeXenstored, vm: str, uuid: bytes) -> None:
    daemon.create(7, channels=WEB1, device_model=1)
    daemon.write("/local/domain/7/vm", vm)

    async def story(watched: Watched) -> None:
        assert watched.domain(7).uuid == uuid
        assert len(watched.now.endpoints) == 2

    follow(daemon.path, story)


@pytest.mark.parametrize("pid", ["", "-1", "0", "4711 ", "1_0", "x"])
def test_a_pid_is_one_or_none(daemon: FakeXenstored, pid: str) -> None:
    daemon.create(7, channels=WEB1, device_model=1)
    daemon.write("/local/domain/7/image/device-model-pid", pid)

    async def story(watched: Watched) -> None:
        assert watched.domain(7).device_model is None

    follow(daemon.path, story)


def test_names_that_are_no_domids_and_no_consoles_are_passed_over(daemon: FakeXenstored) -> None:
    daemon.create(7, channels=WEB1, device_model=1)
    for name in ("x", "007", "123456", "-1"):
        daemon.write(f"/local/domain/{name}/vm", "x")
        daemon.write(f"/libxl/{name}/type", "x")
        daemon.write(f"/libxl/7/device/console/{name}/name", OURS)

    async def story(watched: Watched) -> None:
        assert list(watched.now.domains) == [7]
        assert len(watched.now.endpoints) == 2

    follow(daemon.path, story)


# -- a daemon that is no good


def test_without_xen_the_trouble_says_so_and_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "xenstored"
    caplog.set_level(logging.INFO)

    async def story(watched: Watched) -> None:
        assert watched.now.trouble == f"no xenstore at {path}: this is not a Xen dom0, or xenstored is not running"
        await asyncio.sleep(0.7)  # it has tried again by now
        with FakeXenstored(path) as daemon:
            daemon.create(7, channels=WEB1, device_model=1)
            await watched.until(lambda: watched.now.trouble == "", "the daemon's coming")
            assert len(watched.now.endpoints) == 2

    follow(path, story)
    told = [record.getMessage() for record in caplog.records if record.name == "pv-host-agent"]
    assert told[0].startswith("no xenstore at ")
    assert told[1] == "xenstore is followed: running guests: 1, channels: 2"


def test_a_daemon_that_is_gone_leaves_what_was_known_and_is_found_again(daemon: FakeXenstored) -> None:
    daemon.create(7, channels=WEB1, device_model=1)

    async def story(watched: Watched) -> None:
        known = watched.now.endpoints
        daemon.cut()
        await watched.until(lambda: watched.now.trouble == "xenstored closed the connection", "the loss")
        assert watched.now.endpoints == known
        await watched.until(lambda: watched.now.trouble == "", "the reconnection")
        assert watched.now.endpoints == known
        daemon.create(8, channels=WEB1, device_model=1)
        await watched.until(lambda: (8, "2") in watched.now.endpoints, "watches are set again")

    follow(daemon.path, story)


def test_a_daemon_that_garbles_is_left_and_tried_again(daemon: FakeXenstored) -> None:
    daemon.create(7, channels=WEB1, device_model=1)

    async def story(watched: Watched) -> None:
        daemon.say(b"\xff" * 64)
        await watched.until(lambda: "announced a message" in watched.now.trouble, "the loss")
        await watched.until(lambda: watched.now.trouble == "", "the reconnection")
        assert daemon.connected == 2

    follow(daemon.path, story)


def test_a_domain_that_vanishes_under_the_look_is_no_error(daemon: FakeXenstored) -> None:
    for domid in range(7, 17):
        daemon.create(domid, channels=WEB1, device_model=1)
    vanished: list[int] = []

    def vanish(operation: int, path: str) -> None:
        if operation == fake.READ and path.startswith("/libxl/") and len(vanished) < 10:
            domid = int(path.split("/")[2])
            if domid not in vanished and domid % 2:
                vanished.append(domid)
                daemon.destroy(domid)

    daemon.before = vanish

    async def story(watched: Watched) -> None:
        await watched.until(lambda: list(watched.now.domains) == [8, 10, 12, 14, 16], "only those that run")
        assert watched.now.trouble == ""

    follow(daemon.path, story)
    assert sorted(vanished) == [7, 9, 11, 13, 15]


def test_what_no_watch_told_is_found_by_the_look_at_everything(daemon: FakeXenstored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "EVERYTHING_SECONDS", 0.1)
    daemon.create(7, channels=WEB1, device_model=1)

    async def story(watched: Watched) -> None:
        daemon.write("/local/domain/7/name", "renamed")  # nobody watches names
        await watched.until(lambda: watched.domain(7).name == "renamed", "the name")

    follow(daemon.path, story)


def test_a_busy_host_does_not_put_off_the_look_at_everything(daemon: FakeXenstored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "EVERYTHING_SECONDS", 0.5)
    daemon.create(7, channels=WEB1, device_model=1)

    async def story(watched: Watched) -> None:
        daemon.write("/local/domain/7/name", "renamed")

        def busy() -> bool:
            daemon.write("/libxl/8/type", "pv")
            return watched.domain(7).name == "renamed"

        await watched.until(busy, "the name")

    follow(daemon.path, story)


# -- many


def test_hundreds_of_domains_take_some_requests_each_and_never_many_at_once(daemon: FakeXenstored) -> None:
    for domid in range(1, 301):
        daemon.create(domid, channels=WEB1[:1], device_model=domid)

    async def story(watched: Watched) -> None:
        assert len(watched.now.endpoints) == 300
        assert daemon.requests.total() < 300 * 20
        assert daemon.most_at_once <= MAX_IN_FLIGHT
        daemon.requests.clear()
        daemon.write("/libxl/7/device/console/1/path", "/run/another")
        await watched.until(lambda: watched.now.endpoints[7, "1"].path == Path("/run/another"), "the change of one")
        assert daemon.requests.total() < 40

    follow(daemon.path, story)


def test_a_domains_many_writes_are_one_look(daemon: FakeXenstored) -> None:
    daemon.create(7, channels=WEB1, device_model=1)

    async def story(watched: Watched) -> None:
        daemon.requests.clear()
        for number in range(500):
            daemon.write("/libxl/7/device/console/1/path", f"/run/{number}")
        await watched.until(lambda: watched.now.endpoints[7, "1"].path == Path("/run/499"), "the last")
        assert daemon.requests[fake.IS_INTRODUCED] < 100

    follow(daemon.path, story)


# -- one look


def test_a_survey_shows_every_console_as_it_is(daemon: FakeXenstored) -> None:
    daemon.create(7, "web1", UUID, WEB1, device_model=4711)
    daemon.write("/local/domain/7/device/console/1/state", "4")
    daemon.write("/local/domain/0/backend/console/7/1/state", "4")
    daemon.rm("/local/domain/7/device/console/2")
    daemon.write("/local/domain/7/device/console/0/state", "\x1b[2J" * 9, owner=7)
    daemon.create(8, "bare")

    found = asyncio.run(survey([daemon.path]))
    assert found.domains[0] == Domain(7, uuid_bytes(UUID), "web1", 4711)
    assert [domain.domid for domain in found.domains] == [7, 8]
    primary, ours, other, bare = found.consoles
    assert (primary.id, primary.name, primary.connection) == ("0", "", "")
    assert primary.frontend_state.isprintable()
    assert len(primary.frontend_state) <= 20
    assert ours._asdict() == {
        "domid": 7, "id": "1", "name": OURS, "connection": "socket", "path": "/run/pv-channel/web1.sock", "frontend_state": "4",
        "backend_state": "4", "tty": "", "output": "chardev:libxl-channel0", "has_frontend": True,
        "target": None,
    }  # fmt: skip
    assert (other.connection, other.tty, other.frontend_state, other.has_frontend) == ("pty", "", "", False)
    assert (bare.domid, bare.id) == (8, "0")


def test_a_survey_of_a_machine_without_xen_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"^no xenstore at .*: this is not a Xen dom0, or xenstored is not running$"):
        asyncio.run(survey([tmp_path / "nowhere"]))
