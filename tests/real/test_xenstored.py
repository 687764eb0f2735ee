# SPDX-License-Identifier: Apache-2.0
"""Xen's own daemons, xenstored and oxenstored, asked by our client and followed by discovery; the hypervisor alone is missing."""

from __future__ import annotations

import asyncio
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_agent.channels.discovery import Discovery, survey
from host_agent.channels.endpoint import Domain, Endpoint
from host_agent.errors import HostError
from host_agent.qemu.hotplug_nodes import NewConsole, Place, begin_closing, offer_to_qemu, remove, stay_open, used, write
from host_agent.xenstore.errors import Again, Exists, Invalid, Lost, NoEntry, Refused
from host_agent.xenstore.wire import Event, Operation, Permission
from pv_channel.greeting import uuid_bytes
from tests.real.xenstored import DEADLINE_SECONDS, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from host_agent.xenstore.client import Client
    from tests.real.xenstored import Daemon

DAEMONS = ("xenstored", "oxenstored")
UUID = "0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"


@pytest.fixture(params=DAEMONS)
def daemon(request: pytest.FixtureRequest, tmp_path: Path, no_hypervisor: Path) -> Iterator[Daemon]:
    with running(request.param, tmp_path, no_hypervisor) as one:
        yield one


async def create(store: Client, domid: int, name: str = "web1") -> None:
    """What libxl writes for a guest with a socket and a pty."""
    home, guest = f"/local/domain/{domid}", [Permission("n", 0), Permission("r", domid)]
    async with store.transaction() as nodes:
        await nodes.mkdir(home)
        await nodes.set_permissions(home, guest)
        await nodes.write(f"{home}/vm", f"/vm/{UUID}".encode())
        await nodes.write(f"{home}/name", name.encode())
        for console, said in (
            ("1", {"name": "org.pvchannel.config.1", "connection": "socket", "path": "/run/pv-channel/web1.sock"}),
            ("2", {"name": "org.example.other", "connection": "pty"}),
        ):
            frontend = f"{home}/device/console/{console}"
            await nodes.mkdir(frontend)
            await nodes.set_permissions(frontend, [Permission("n", domid), Permission("r", 0)])
            for key, value in said.items():
                await nodes.write(f"/libxl/{domid}/device/console/{console}/{key}", value.encode())
        await nodes.write(f"{home}/device/console/2/tty", b"/dev/pts/4")
        await nodes.set_permissions(f"{home}/device/console/2/tty", guest)
        await nodes.write(f"{home}/image/device-model-pid", b"4711")


async def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def test_nodes_errors_owners_and_domains(daemon: Daemon) -> None:
    async def story(store: Client) -> None:
        await store.write("/a/b", b"\0\xff value")
        assert await store.read("/a/b") == b"\0\xff value"
        assert await store.read("/a") == b""
        assert await store.directory("/a") == ["b"]
        assert await store.directory("/a/b") == []
        with pytest.raises(NoEntry):
            await store.read("/nowhere")
        with pytest.raises(NoEntry):
            await store.directory("/nowhere")
        assert (await store.permissions("/a/b"))[0].domid == 0
        assert not await store.is_introduced(7)
        daemon.introduce(7)
        assert await store.is_introduced(7)
        await store.set_permissions("/a/b", [Permission("n", 7), Permission("r", 0)])
        assert await store.permissions("/a/b") == [Permission("n", 7), Permission("r", 0)]
        await store.rm("/a")
        with pytest.raises(NoEntry):
            await store.permissions("/a/b")

    daemon.ask(story)


def test_every_path_that_we_refuse_is_refused_by_the_daemon(daemon: Daemon) -> None:
    async def story(store: Client) -> None:
        for path in ("/a//b", "/a/", "/a b", "/\N{LATIN SMALL LETTER A WITH DIAERESIS}", ""):
            with pytest.raises(Invalid):
                await store.read(path)
            with pytest.raises(Refused) as caught:
                await store._connection.ask(Operation.READ, path.encode() + b"\0", path)
            assert caught.value.word in ("EINVAL", "ENOENT")

    daemon.ask(story)


def test_a_listing_of_thousands_is_whole(daemon: Daemon) -> None:
    names = [f"a-name-of-some-length-{number}" for number in range(3000)]

    async def story(store: Client) -> None:
        await asyncio.gather(*(store.mkdir(f"/many/{name}") for name in names))
        assert sorted(await store.directory("/many")) == sorted(names)

    daemon.ask(story)


def test_a_message_too_long_would_have_been_the_last(daemon: Daemon) -> None:
    """Why our own limit is there: xenstored hangs up, and oxenstored never answers again."""

    async def story(store: Client) -> None:
        await store.write("/a", b"x" * 2000)
        transport = store._connection._transport
        assert transport is not None
        transport.write(struct.pack("=IIII", Operation.WRITE, 99, 0, 5000) + b"/a\0" + b"x" * 4997)
        with pytest.raises(Lost):
            await asyncio.gather(*(store.read("/a") for _ in range(100)))

    daemon.ask(story, answer_seconds=2.0)


def test_watches_tell_and_are_taken_back(daemon: Daemon) -> None:
    async def story(store: Client) -> None:
        await store.watch("/libxl", "ours")
        await store.watch("@introduceDomain", "born")
        await store.watch("@releaseDomain", "gone")
        with pytest.raises(Exists):
            await store.watch("/libxl", "ours")
        first = {Event("/libxl", "ours"), Event("@introduceDomain", "born"), Event("@releaseDomain", "gone")}
        assert await heard(store, first)
        await store.write("/libxl/7/device/console/1/name", b"x")
        daemon.introduce(7)
        assert await heard(store, {Event("/libxl/7/device/console/1/name", "ours"), Event("@introduceDomain", "born")})
        await store.rm("/libxl/7/device")
        daemon.release(7)
        assert await heard(store, {Event("/libxl/7/device", "ours"), Event("@releaseDomain", "gone")})
        await store.unwatch("/libxl", "ours")
        await store.write("/libxl/8", b"x")
        assert store.take_events().events == []

    daemon.ask(story)


async def heard(store: Client, expected: set[Event]) -> bool:
    """Whether all of these come."""
    found: set[Event] = set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not expected <= found:
            await store.wait_for_events()
            found |= set(store.take_events().events)
    return True


def test_of_two_transactions_on_one_node_the_second_is_told_to_try_again(daemon: Daemon) -> None:
    async def too_late(store: Client) -> None:
        async with store.transaction() as nodes:
            seen = await nodes.read("/hot/count")
            await store.write("/hot/count", b"somebody else's")
            await nodes.write("/hot/count", seen + b"!")

    async def story(store: Client) -> None:
        await store.write("/hot/count", b"1")
        with pytest.raises(Again):
            await too_late(store)
        assert await store.read("/hot/count") == b"somebody else's"
        async with store.transaction() as nodes:
            await nodes.write("/hot/count", b"2")
        assert await store.read("/hot/count") == b"2"

    daemon.ask(story)


def test_discovery_follows_a_domain_from_its_creation_to_its_end(daemon: Daemon) -> None:
    found = Discovery(lambda: None, paths=[daemon.path])

    async def story(store: Client) -> None:
        following = asyncio.create_task(found.run())
        await asyncio.wait_for(found.first_look.wait(), DEADLINE_SECONDS)
        assert (found.domains, found.trouble) == ({}, "")
        await create(store, 7)
        daemon.introduce(7)
        await until(lambda: len(found.endpoints) == 2, "the domain")
        domain = Domain(7, uuid_bytes(UUID), "web1", 4711)
        assert found.endpoints == {
            (7, "1"): Endpoint(Path("/run/pv-channel/web1.sock"), channel="org.pvchannel.config.1", domain=domain),
            (7, "2"): Endpoint(Path("/dev/pts/4"), is_pty=True, channel="org.example.other", domain=domain),
        }
        await store.set_permissions("/local/domain/7/device/console/2/tty", [Permission("n", 7)])
        await store.write("/libxl/7/type", b"pvh")
        await until(lambda: list(found.endpoints) == [(7, "1")], "the terminal that is the guest's now")
        assert [each.domid for each in (await survey([daemon.path])).domains] == [7]
        for path in ("/libxl/7", "/local/domain/7"):
            await store.rm(path)
        daemon.release(7)
        await until(lambda: not found.domains, "its end")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    daemon.ask(story)


def test_a_daemon_that_is_killed_is_a_trouble_and_nothing_is_forgotten(daemon: Daemon) -> None:
    found = Discovery(lambda: None, paths=[daemon.path])

    async def story(store: Client) -> None:
        await create(store, 7)
        daemon.introduce(7)
        following = asyncio.create_task(found.run())
        await asyncio.wait_for(found.first_look.wait(), DEADLINE_SECONDS)
        daemon.process.kill()
        await until(lambda: "not a Xen dom0, or xenstored is not running" in found.trouble, "the trouble")
        assert len(found.endpoints) == 2
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    daemon.ask(story)


async def tree(store: Client, path: str = "/") -> dict[str, tuple[bytes, list[Permission]]]:
    """All nodes below *path*."""
    found: dict[str, tuple[bytes, list[Permission]]] = {}
    for name in await store.directory(path):
        child = f"{path.rstrip('/')}/{name}"
        found |= {child: (await store.read(child), await store.permissions(child)), **await tree(store, child)}
    return found


def test_a_plugged_channels_nodes_come_at_once_with_their_owners_and_go_without_a_trace(daemon: Daemon) -> None:
    async def story(store: Client) -> None:
        await create(store, 7)
        await store.mkdir("/local/domain/0/backend/console")
        before = await tree(store)
        place = Place(7, 3)
        console = NewConsole(place, "org.example.third", "socket", "libxl-channel3", "/run/third.sock")
        await write(store, console)
        guests, qemus = [Permission("n", 7), Permission("r", 0)], [Permission("n", 0), Permission("r", 7)]
        nodes = await tree(store)
        assert nodes[place.frontend] == (b"", guests)
        assert nodes[f"{place.frontend}/state"] == (b"1", guests)
        assert nodes[f"{place.backend}/state"] == (b"0", qemus)
        assert nodes[f"{place.frontend}/output"] == (b"chardev:libxl-channel3", qemus)
        assert nodes[f"{place.backend}/path"] == (b"/run/third.sock", qemus)
        assert nodes[f"{place.libxl}/path"] == (b"/run/third.sock", [Permission("n", 0)])
        assert {path: node for path, node in nodes.items() if path in before} == before
        assert await used(store, 7) == {1, 2, 3}
        with pytest.raises(HostError, match="is there already"):
            await write(store, console)
        await offer_to_qemu(store, place)
        nodes = await tree(store)
        assert nodes[f"{place.backend}/state"] == (b"1", qemus)
        await begin_closing(store, place)
        assert await stay_open(store, place, "1", "1")
        assert not await stay_open(store, place, "1", "1")
        assert await tree(store) == nodes
        await remove(store, place)
        assert await tree(store) == before
        await remove(store, place)  # a second time is no error

    daemon.ask(story)
