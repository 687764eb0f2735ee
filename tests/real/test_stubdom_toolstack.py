# SPDX-License-Identifier: Apache-2.0
"""The toolstack's end on Xen's own daemons and with Xen's own vchan-socket-proxy; the hypervisor alone is missing."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.channels.discovery import survey
from host_agent.errors import HostError
from host_agent.qemu.hotplug_session import Places
from host_agent.stubdom import argv, proxy
from host_agent.stubdom.argv_nodes import Publication, publish, published
from host_agent.stubdom.launch_orders import orders
from host_agent.stubdom.launch_xenstore import Xenstore
from host_agent.stubdom.monitor import Way, monitor
from host_agent.stubdom.pair import Meant, find
from host_agent.stubdom.proxy_kept import keep, pid_path, state_path
from host_agent.stubdom.readiness import RUNNING, NotReady, Why, wait_for
from host_agent.xenstore.client import Client
from host_agent.xenstore.wire import Permission
from tests.real.xenstored import PROGRAMS, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from host_agent.stubdom.pair import Pair
    from tests.real.xenstored import Daemon

UUID = "0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"
ITS_OWN = "2a4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e02"
TARGET, STUBDOMAIN = 7, 9
DIRECTORY = f"/vm/{UUID}/image/dm-argv"
HOME = f"/local/domain/{STUBDOMAIN}/device-model/{TARGET}"
PROXY = PROGRAMS / proxy.NAME
DEADLINE_SECONDS = 60.0
HOSTILE = [
    b"a\tb", b"a\nb", b"'\"\\", b"$HOME `id` $(id)", "\N{LATIN SMALL LETTER E WITH ACUTE}".encode(), b"\xff\xfe",
    bytes(range(1, 256)), b"", b" ", b"--", b"x" * 2000,
]  # fmt: skip


@pytest.fixture(params=["xenstored", "oxenstored"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path, no_hypervisor: Path) -> Iterator[Daemon]:
    """One that runs, with both domains."""
    place = tmp_path / "xenstored"
    place.mkdir()
    with running(request.param, place, no_hypervisor) as one:
        one.ask(create)
        for domid in (TARGET, STUBDOMAIN):
            one.introduce(domid)
        yield one


async def create(store: Client) -> None:
    """What libxl writes."""
    for domid, name, uuid in ((TARGET, "web1", UUID), (STUBDOMAIN, "web1-dm", ITS_OWN)):
        home, theirs = f"/local/domain/{domid}", [Permission("n", 0), Permission("r", domid)]
        for path in (home, f"/vm/{uuid}"):
            await store.mkdir(path)
            await store.set_permissions(path, theirs)
        await store.write(f"{home}/vm", f"/vm/{uuid}".encode())
        await store.write(f"{home}/name", name.encode())


def told(daemon: Daemon, story: Callable[[Client, Pair], Awaitable[Any]]) -> None:
    async def run(store: Client) -> None:
        await story(store, await find(Meant("web1", "web1-dm"), [daemon.path]))

    daemon.ask(run)


def test_hostile_arguments_arrive_as_they_are_with_libxls_permissions(daemon: Daemon) -> None:
    async def story(store: Client, pair: Pair) -> None:
        await publish(store, pair, Publication([b"-S"] * 30))
        assert await publish(store, pair, Publication(HOSTILE, "seabios")) == DIRECTORY
        assert await published(store, pair) == HOSTILE
        theirs = [Permission("n", 0), Permission("r", STUBDOMAIN)]
        for path in (DIRECTORY, f"{DIRECTORY}/001", f"{DIRECTORY}/{len(HOSTILE):03d}", f"/local/domain/{STUBDOMAIN}/target"):
            assert await store.permissions(path) == theirs
        assert await store.permissions(HOME) == [Permission("n", STUBDOMAIN), Permission("r", TARGET)]
        assert await store.directory(HOME) == []
        assert await store.read(f"/local/domain/{TARGET}/image/device-model-domid") == b"9"
        assert await store.read(f"/local/domain/{TARGET}/hvmloader/bios") == b"seabios"
        found = {domain.domid: domain for domain in (await survey([daemon.path])).domains}
        assert (found[STUBDOMAIN].target, found[TARGET].stubdomain) == (TARGET, STUBDOMAIN)

    told(daemon, story)
    reader = Xenstore.open(daemon.path)  # the other end
    try:
        assert orders(reader, STUBDOMAIN).arguments == HOSTILE
    finally:
        reader.close()


def test_as_many_arguments_as_there_can_be_arrive_in_one_transaction(daemon: Daemon) -> None:
    many = [b"%d" % number for number in range(argv.MAX_ARGUMENTS)]

    async def story(store: Client, pair: Pair) -> None:
        await publish(store, pair, Publication(many))
        assert await published(store, pair) == many
        with pytest.raises(argv.BadArgument):
            await publish(store, pair, Publication([*many, b"one too many"]))
        with pytest.raises(argv.BadArgument):
            await publish(store, pair, Publication([b"x" * 4038]))
        assert await published(store, pair) == many

    told(daemon, story)


def test_an_argument_that_only_one_of_the_daemons_takes_is_named_by_the_other(
    daemon: Daemon, request: pytest.FixtureRequest
) -> None:
    """A message has room for it, and oxenstored has a limit of its own (quota-maxsize)."""
    longest, words = [b"-S", b"x" * 4037], r"does not take it \(E2BIG\): a limit of its own"

    async def story(store: Client, pair: Pair) -> None:
        takes = request.node.callspec.params["daemon"] == "xenstored"
        with nullcontext() if takes else pytest.raises(argv.BadArgument, match=words) as refused:
            await publish(store, pair, Publication(longest))
        if refused is None:
            assert await published(store, pair) == longest
        else:
            assert (refused.value.number, await store.directory(f"/vm/{UUID}")) == (2, [])

    told(daemon, story)


def test_a_domain_that_does_not_run_gets_nothing(daemon: Daemon) -> None:
    async def story(store: Client, pair: Pair) -> None:
        daemon.release(STUBDOMAIN)
        with pytest.raises(HostError, match="both have to run; nothing was written"):
            await publish(store, pair, Publication([b"-S"]))
        assert "image" not in await store.directory(f"/vm/{UUID}")

    told(daemon, story)


def test_readiness_is_told_by_a_watch_and_a_stubdomains_end_too(daemon: Daemon) -> None:
    async def story(store: Client, pair: Pair) -> None:
        await publish(store, pair, Publication([b"-S"]))
        async with await Client.connect([daemon.path]) as inside:
            waiting = asyncio.create_task(wait_for(store, pair, pair.state, RUNNING, DEADLINE_SECONDS))
            await inside.write(pair.state, b"starting")
            await inside.write(pair.state, b"running")
            await waiting
            await inside.rm(pair.state)
            waiting = asyncio.create_task(wait_for(store, pair, pair.state, RUNNING, DEADLINE_SECONDS))
            await asyncio.sleep(0)
            daemon.release(STUBDOMAIN)
            with pytest.raises(NotReady) as caught:
                await waiting
            assert caught.value.why is Why.STUBDOMAIN_GONE

    told(daemon, story)


# -- Xen's own proxy, as far as it goes without a hypervisor: to the vchan, which it waits for or does without


@pytest.fixture
def proxied(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setenv("XENSTORED_PATH", os.fspath(daemon.path))
    assert PROXY.exists(), "on Debian 12: apt-get install xen-utils-4.17"
    return daemon


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not await true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def value(store: Client, path: str) -> bytes:
    with suppress(HostError):
        return await store.read(path)
    return b""


def test_xens_own_proxy_takes_the_socket_that_it_is_handed_and_says_that_it_runs(proxied: Daemon, tmp_path: Path) -> None:
    path, said = tmp_path / "qmp.sock", list[str]()

    async def story(store: Client, pair: Pair) -> None:
        keeping = asyncio.create_task(keep(store, pair, PROXY, path, said.append))

        async def is_up() -> bool:
            return await value(store, state_path(pair)) == b"running"

        await until(is_up)
        first = int(await store.read(pid_path(pair)))
        assert path.is_socket()
        os.kill(first, 9)

        async def is_another() -> bool:
            return await value(store, pid_path(pair)) != b"%d" % first

        await until(is_another)
        proxied.release(STUBDOMAIN)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await keeping

    told(proxied, story)
    assert any("ended by signal 9; it is started again" in sentence for sentence in said)
    assert said[-1] == "domain web1-dm (9) is gone, and its QMP with it"
    assert not path.exists()


def test_a_connection_through_xens_own_proxy_that_comes_to_nothing_is_one_sentence(proxied: Daemon, tmp_path: Path) -> None:
    """Without a hypervisor there is no vchan: the proxy ends, or it waits for one for ever."""
    places = Places([proxied.path], [tmp_path], tmp_path, 5.0)

    async def story(store: Client, pair: Pair) -> None:
        with pytest.raises(HostError, match=r"vchan-socket-proxy ended|does not serve .*qmp-vchan"):
            async with monitor(store, places, pair, Way(PROXY, None, 5.0)):
                pass

    told(proxied, story)
    assert not (tmp_path / f"qmp-libxl-{TARGET}").exists()
