# SPDX-License-Identifier: Apache-2.0
"""A guest whose QEMU runs in a stubdomain: its channels are the stubdomain's consoles, and found and plugged as its own."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import pytest

from host_agent.channels.discovery import Discovery, survey
from host_agent.channels.listing import channel_values, channels, row_of
from host_agent.doctor.at_host import Where
from host_agent.doctor.gather import gather
from host_agent.errors import HostError
from host_agent.qemu.hotplug import Wanted, plug
from host_agent.qemu.hotplug_session import Places
from host_agent.qemu.hotunplug import Unwanted, unplug
from host_agent.qemu.libxl_lock import lock_of
from pv_channel import CHANNEL_NAME
from pv_channel.greeting import uuid_bytes
from tests.host.fake_consoles import FakeConsoles
from tests.host.fake_xenstored import Channel, FakeXenstored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from host_agent.channels.endpoint import Endpoint

TARGET, STUBDOMAIN = 7, 9
UUID = "0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"
ITS_OWN = "2a4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e02"
PID = 4711
LONG = 60.0
SAVE, RESTORE = Channel("save", "/run/chan/save.sock"), Channel("restore", "/run/chan/restore.sock")
OURS = Channel(CHANNEL_NAME, "/run/pv-channel/web1.sock")


@pytest.fixture
def xen(tmp_path: Path) -> Iterator[FakeXenstored]:
    """With the target, and a stubdomain that has a channel of the target's on its console 4."""
    with FakeXenstored(tmp_path / "xenstored") as daemon:
        daemon.create(TARGET, "web1", UUID)
        daemon.create(STUBDOMAIN, "web1-dm", ITS_OWN, [SAVE, RESTORE], PID)
        daemon.channel(STUBDOMAIN, 4, OURS)
        daemon.write(f"/local/domain/{STUBDOMAIN}/target", TARGET)
        daemon.write(f"/local/domain/{TARGET}/image/device-model-domid", STUBDOMAIN)
        yield daemon


def found(xen: FakeXenstored) -> dict[tuple[int, str], Endpoint]:
    """One look of discovery's."""

    async def look() -> dict[tuple[int, str], Endpoint]:
        discovery = Discovery(lambda: None, paths=[xen.path])
        task = asyncio.create_task(discovery.run())
        await asyncio.wait_for(discovery.first_look.wait(), LONG)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return discovery.endpoints

    return asyncio.run(look())


def owner(xen: FakeXenstored, console: str = "4") -> int | None:
    """Whose channel that console of the stubdomain is."""
    endpoint = found(xen).get((STUBDOMAIN, console))
    return None if endpoint is None or endpoint.domain is None else endpoint.domain.domid


def test_a_channel_on_a_stubdomains_console_is_its_targets_and_is_served_by_the_stubdomains_qemu(xen: FakeXenstored) -> None:
    domain = found(xen)[STUBDOMAIN, "4"].domain
    assert domain is not None
    assert (domain.domid, domain.name, domain.uuid, domain.device_model) == (TARGET, "web1", uuid_bytes(UUID), PID)


def test_the_consoles_of_qemus_own_state_are_not_the_targets_channels(xen: FakeXenstored) -> None:
    assert (owner(xen, "1"), owner(xen, "2")) == (STUBDOMAIN, STUBDOMAIN)


def test_a_stubdomain_that_claims_a_target_by_itself_keeps_its_channels(xen: FakeXenstored) -> None:
    xen.perms(f"/local/domain/{STUBDOMAIN}/target", f"n{STUBDOMAIN}")
    assert owner(xen) == STUBDOMAIN


def test_a_target_cannot_disown_its_stubdomain(xen: FakeXenstored) -> None:
    node = f"/local/domain/{TARGET}/image/device-model-domid"
    xen.write(node, 12)
    assert owner(xen) is None
    xen.perms(node, f"n{TARGET}")
    assert owner(xen) == TARGET


def test_of_two_stubdomains_of_one_target_the_one_that_the_target_names_has_its_channels(xen: FakeXenstored) -> None:
    xen.create(11, "web1-dm2", channels=[], device_model=1)
    xen.channel(11, 3, Channel(CHANNEL_NAME, "/run/pv-channel/second.sock"))
    xen.write("/local/domain/11/target", TARGET)
    endpoints = found(xen)
    assert owner(xen) == TARGET
    assert (11, "3") not in endpoints
    xen.write(f"/local/domain/{TARGET}/image/device-model-domid", 11)
    assert owner(xen) is None
    domain = found(xen)[11, "3"].domain
    assert domain is not None
    assert (domain.domid, domain.device_model) == (TARGET, 1)


def test_a_channel_of_a_target_that_is_gone_is_nobodys(xen: FakeXenstored) -> None:
    xen.destroy(TARGET)
    assert (STUBDOMAIN, "4") not in found(xen)


def follow(xen: FakeXenstored, change: Callable[[], None], true: Callable[[Discovery], bool]) -> None:
    async def story() -> None:
        discovery = Discovery(lambda: None, paths=[xen.path])
        task = asyncio.create_task(discovery.run())
        await asyncio.wait_for(discovery.first_look.wait(), LONG)
        change()
        async with asyncio.timeout(LONG):
            while not true(discovery):
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


def test_a_domain_that_becomes_a_stubdomain_while_it_runs_is_noticed(xen: FakeXenstored) -> None:
    xen.rm(f"/local/domain/{STUBDOMAIN}/target")
    xen.rm(f"/local/domain/{TARGET}/image/device-model-domid")

    def publish() -> None:  # as `dm argv` does, and libxl
        xen.write(f"/local/domain/{TARGET}/image/device-model-domid", STUBDOMAIN)
        xen.write(f"/local/domain/{STUBDOMAIN}/target", TARGET)
        xen.write(f"/libxl/{TARGET}/dm-version", "qemu_xen")

    def is_the_targets(discovery: Discovery) -> bool:
        endpoint = discovery.endpoints.get((STUBDOMAIN, "4"))
        return endpoint is not None and endpoint.domain is not None and endpoint.domain.domid == TARGET

    follow(xen, publish, is_the_targets)


def test_a_channel_that_is_plugged_into_the_stubdomain_is_noticed(xen: FakeXenstored) -> None:
    other = Channel("org.example.other", "/run/other.sock")
    follow(xen, lambda: xen.channel(STUBDOMAIN, 5, other), lambda found: (STUBDOMAIN, "5") in found.endpoints)


def test_the_list_of_channels_has_it_as_the_targets_and_says_whose_console_it_is(xen: FakeXenstored) -> None:
    listed = channels(asyncio.run(survey([xen.path])), CHANNEL_NAME)
    ours = next(each for each in listed if each.console.id == "4")
    values = channel_values(ours)
    assert (values["domid"], values["vm"], values["console"], values["stubdomain"]) == (TARGET, "web1", "4", STUBDOMAIN)
    assert row_of(ours)[:4] == (str(TARGET), "web1", f"4 of {STUBDOMAIN}", CHANNEL_NAME)
    save = channel_values(next(each for each in listed if each.console.id == "1"))
    assert (save["domid"], save["stubdomain"]) == (STUBDOMAIN, None)


def test_doctor_looks_at_the_qemu_and_the_nodes_of_the_stubdomain(xen: FakeXenstored, tmp_path: Path) -> None:
    for name in ("state", "documents", "sockets"):
        (tmp_path / name).mkdir(mode=0o700)
    where = Where(tmp_path / "state", tmp_path / "documents", (tmp_path / "sockets",), CHANNEL_NAME, (xen.path,), tmp_path / "no")
    evidence = gather(where, "web1", lambda _: None)
    (case,) = evidence.cases
    assert case.console is not None
    assert (case.vm, case.server, case.console.id) == ("web1", str(STUBDOMAIN), "4")
    assert case.qemu is not None
    assert case.qemu.pid == PID
    assert case.domains[0].device_model == PID


# -- hot-plug


class Host:
    """A dom0 whose QEMU serves the consoles of the stubdomain in which web1's QEMU runs."""

    def __init__(self, work: Path, version: int) -> None:
        self.work, self.said = work, list[str]()
        for name in ("run", "lib", "sockets"):
            (work / name).mkdir(mode=0o700)
        self.xen = FakeXenstored(work / "xenstored")
        self.places = Places([self.xen.path], [work / "run"], work / "lib", connect_seconds=LONG)
        self.qemu = FakeConsoles(work / "run" / f"qmp-libxl-{STUBDOMAIN}", self.xen, STUBDOMAIN, version)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.xen)
        self.xen.create(TARGET, "web1", UUID)
        self.xen.create(STUBDOMAIN, "web1-dm", ITS_OWN, [SAVE, RESTORE], os.getpid())
        self.xen.write(f"/local/domain/{STUBDOMAIN}/target", TARGET)
        self.xen.write(f"/local/domain/{TARGET}/image/device-model-domid", STUBDOMAIN)
        for number in (1, 2):
            self.qemu.chardevs[f"libxl-channel{number - 1}"] = "disconnected:unix:/x,server=on"
            self.qemu.with_console(number, f"libxl-channel{number - 1}")
        self._stack.enter_context(self.qemu)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def plug(self, **more: Any) -> Any:
        wanted = Wanted("web1", CHANNEL_NAME, **{"seconds": LONG, "path": self.work / "sockets" / "web1.sock", **more})
        return asyncio.run(plug(wanted, self.places, self.said.append))

    def unplug(self, channel: str) -> Any:
        return asyncio.run(unplug(Unwanted("web1", channel, seconds=LONG), self.places, self.said.append))


@pytest.fixture(params=[7, 10], ids=["7.2", "10"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path, request.param) as one:
        yield one


def test_a_channel_is_plugged_into_the_stubdomain_past_its_own_consoles_and_is_the_targets(host: Host) -> None:
    before = host.xen.snapshot()
    plugged = host.plug()
    assert (plugged.domain.domid, plugged.console, plugged.stubdomain) == (TARGET, 3, STUBDOMAIN)
    assert f"/libxl/{STUBDOMAIN}/device/console/3" in host.xen.snapshot()
    assert f"/libxl/{TARGET}/device/console/3" not in host.xen.snapshot()
    assert owner(host.xen, "3") == TARGET
    assert any("web1-dm (9), which gets the console" in sentence for sentence in host.said)
    again = host.plug()
    assert (again.already, again.console) == (True, 3)
    assert host.unplug(CHANNEL_NAME).console == 3
    assert host.xen.snapshot() == before


def test_plugging_takes_the_lock_of_the_qemu_that_is_spoken_to(host: Host) -> None:
    host.plug()
    assert lock_of(STUBDOMAIN, uuid_bytes(ITS_OWN), host.work / "lib").exists()


def test_the_consoles_of_qemus_own_state_are_not_unplugged(host: Host) -> None:
    for channel in ("save", "1", "2", "restore"):
        with pytest.raises(HostError, match="domain web1 \\(7\\) has no channel"):
            host.unplug(channel)


def test_where_the_stubdomain_has_no_more_terminals_plugging_is_refused(host: Host) -> None:
    for number in range(3, 8):
        host.xen.channel(STUBDOMAIN, number, Channel("" if number == 3 else f"org.example.n{number}", "/x"))
    with pytest.raises(HostError, match=r"7 channels are in use \(consoles 1, 2, 3, 4, 5, 6, 7\).*unplug another one first"):
        host.plug()


def test_a_stubdomain_that_has_no_qemu_in_dom0_is_refused_by_name(host: Host) -> None:
    host.xen.rm(f"/local/domain/{STUBDOMAIN}/image/device-model-pid")
    with pytest.raises(HostError, match=r"its QEMU runs in the stubdomain 9, domain web1-dm \(9\), and that one has"):
        host.plug()


def test_a_stubdomain_that_is_anothers_is_refused_by_name(host: Host) -> None:
    host.xen.create(8, "db1")
    host.xen.write(f"/local/domain/{STUBDOMAIN}/target", 8)
    with pytest.raises(HostError, match=r"the stubdomain 9, whose node target names 8; cure: pv-host-agent dm argv"):
        host.plug()


def test_a_stubdomain_that_is_gone_is_refused_by_name(host: Host) -> None:
    host.xen.destroy(STUBDOMAIN)
    with pytest.raises(HostError, match="the stubdomain 9, and no such domain runs: its device model is gone"):
        host.plug()


def test_a_stubdomain_that_only_names_its_target_is_found_too(host: Host) -> None:
    host.xen.rm(f"/local/domain/{TARGET}/image/device-model-domid")
    assert host.plug().stubdomain == STUBDOMAIN
