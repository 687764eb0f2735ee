# SPDX-License-Identifier: Apache-2.0
"""A fleet's host while etcd misbehaves or is not there: what it follows, what it serves on, and what it does not send."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from host_agent.channels.sources import Sources
from host_agent.etcd.client import Etcd
from host_agent.etcd.gateway import Gateway
from host_agent.fleet.cache import Cache, Text
from host_agent.fleet.config import Fleet
from host_agent.fleet.follow import Follow
from host_agent.fleet.layout import Layout
from host_agent.fleet.member import Member
from host_agent.ledger.ledger import Ledger
from host_agent.membership import Health
from host_agent.service import Service
from tests.host.dom0 import TIMING, Dom0, eventually, hostnames
from tests.host.fake_gateway import FakeGateway, answer, b64, cut, lines, silence
from tests.host.fakes import CHANNEL, FakeGuest, FakeQemu

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

LAYOUT = Layout("/pv-channel/")
NOWHERE = "http://127.0.0.1:1"
PLAIN = b"instance-id: i-1\nlocal-hostname: web1\n"


def kv(name: str, value: str, revision: int) -> dict[str, str]:
    key = b64(f"/pv-channel/{name}")
    return {"key": key, "value": b64(value), "create_revision": "1", "mod_revision": str(revision)}


def found(revision: int, *kvs: object) -> object:
    return {"header": {"revision": str(revision)}, "kvs": list(kvs), "count": str(len(kvs))}


def watched(number: int, revision: int, *events: object, **more: object) -> object:
    said = {"created": True} if not events and not more else {"events": list(events), **more}
    return {"result": {"header": {"revision": str(revision)}, "watch_id": str(number), **said}}


class Reads:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Text | None], int]] = []
        self.away: list[str] = []

    def are(self, texts: dict[str, Text], revision: int) -> None:
        self.told.append(("are", dict(texts), revision))

    def became(self, changes: dict[str, Text | None], revision: int) -> None:
        self.told.append(("became", changes, revision))

    def is_away(self, why: str) -> None:
        self.away.append(why)


def following(fake: FakeGateway, until: Callable[[Reads], bool]) -> Reads:
    """What is told of what *fake* says, until that is enough."""

    async def follow() -> Reads:
        reads = Reads()
        async with fake:
            etcd = Etcd(Gateway([fake.endpoint], answer_seconds=20), silence=0.2)
            task = asyncio.create_task(Follow(etcd, LAYOUT, reads).run())
            try:
                await eventually(lambda: until(reads), f"{reads.told} {reads.away}")
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await etcd.close()
        return reads

    return asyncio.run(follow())


EMPTY = answer(found(9))


def test_a_cut_watch_goes_on_where_it_was() -> None:
    one = watched(1, 12, {"kv": kv("documents/web1", "one", 12)})
    gone = watched(1, 13, {"type": "DELETE", "kv": {"key": b64("/pv-channel/documents/web1"), "mod_revision": "13"}})
    fake = FakeGateway(
        kv_range=[answer(found(9, kv("documents/web1", "zero", 4))), EMPTY],
        watch=[lines(watched(1, 9), one, then=cut), lines(watched(1, 12), gone, then=silence)],
    )
    reads = following(fake, lambda reads: len(reads.told) == 3)
    assert reads.told == [
        ("are", {"documents/web1": Text(4, b"zero")}, 9),
        ("became", {"documents/web1": Text(12, b"one")}, 12),
        ("became", {"documents/web1": None}, 13),
    ]
    starts = [[each["create_request"]["start_revision"] for each in asked.body] for asked in fake.asked if asked.path == "watch"]
    assert starts == [["10", "10", "10"], ["13", "10", "10"]]


def test_what_was_compacted_and_what_was_restored_from_a_backup_is_read_again() -> None:
    compacted = watched(1, 0, canceled=True, compact_revision="40")
    fake = FakeGateway(
        kv_range=[EMPTY], watch=[lines(watched(1, 9), compacted), lines(watched(1, 3)), lines(watched(1, 9), then=silence)]
    )
    reads = following(fake, lambda reads: len(reads.told) == 3)
    assert [what for what, _, _ in reads.told] == ["are"] * 3
    assert [why for why in reads.away if why] == [], "none of that is trouble"


def test_what_is_no_operators_key_is_passed_over() -> None:
    fake = FakeGateway(kv_range=[answer(found(9, kv("documents/a/b", "x", 2), kv("documents/ok", "y", 3)))], watch=[silence])
    assert following(fake, lambda reads: bool(reads.told)).told[0][1] == {"documents/ok": Text(3, b"y")}


def test_trouble_is_told_and_that_it_is_over() -> None:
    fake = FakeGateway(kv_range=[cut, EMPTY], watch=[lines(watched(1, 9), then=silence)])
    reads = following(fake, lambda reads: bool(reads.told) and reads.away[-1:] == [""])
    assert "etcd cannot be reached" in reads.away[0]


class Host(Dom0):
    """A host of a fleet whose etcd is not there."""

    def remember(self, texts: dict[str, bytes], held: list[str]) -> None:
        """It has seen these documents, and these VMs were its own, when etcd was last there."""
        cache = Cache(self.state, "x")
        cache.change({name: Text(3, value) for name, value in texts.items()})
        for key in held:
            cache.hold(key)
        cache.close()

    def serve_alone(self, story: Callable[[], Awaitable[None]]) -> None:
        """Serve the documents of a directory, as before it was one of a fleet."""
        asyncio.run(super()._serve(story))

    async def _serve(self, story: Callable[[], Awaitable[None]]) -> None:
        ledger = Ledger.open(self.state)
        fleet = Fleet([NOWHERE], dom0="a")
        member = self.member = Member(fleet, self.state, Cache(self.state, "x"), fleet.connect())
        sources = Sources([self.sockets], CHANNEL.decode(), None, self.libvirts)
        service = Service(self.documents, sources, CHANNEL, self.identify, ledger, TIMING, membership=member)
        task = asyncio.create_task(service.run())
        try:
            await asyncio.sleep(0)
            await story()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await task
            ledger.close()
            await member.close()


def test_a_restart_without_etcd_serves_what_was_ours_and_sends_nothing_new(tmp_path: Path) -> None:
    guest, other, dom0 = FakeGuest(), FakeGuest(), Host(tmp_path)
    dom0.remember({"documents/vm1": PLAIN, "documents/vm2": PLAIN}, ["vm1"])

    async def story() -> None:
        await eventually(lambda: guest.pinged > 0, "it is served")
        await eventually(lambda: dom0.stands("vm1", "provisioning", "withheld", "etcd cannot be reached"), "and said to wait")
        assert dom0.member.health == Health(answers=False, leased=False, here=1, owned=0)

    with FakeQemu(dom0.sockets / "vm1.sock", guest), FakeQemu(dom0.sockets / "vm2.sock", other):
        dom0.serve(story)
    assert guest.applied == other.applied == []
    assert other.opened == [], "whose that is cannot be known"


def test_what_a_guest_has_in_force_needs_no_etcd(tmp_path: Path) -> None:
    guest, dom0 = FakeGuest(), Host(tmp_path)
    dom0.document("vm1", "web1")

    async def first() -> None:
        await eventually(lambda: dom0.vm("vm1").get("verdict") == "ready", "provisioned alone")

    async def second() -> None:
        await eventually(lambda: len(guest.opened) == 2, "met again")
        await eventually(lambda: dom0.vm("vm1").get("verdict") == "ready", "ready")

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.serve_alone(first)
        dom0.remember({"documents/vm1": (dom0.documents / "vm1.yaml").read_bytes()}, ["vm1"])
        guest.restart()
        dom0.serve(second)
    assert hostnames(guest) == ["web1"]
