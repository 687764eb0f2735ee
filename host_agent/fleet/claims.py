# SPDX-License-Identifier: Apache-2.0
"""What a host does in etcd about one VM, in one transaction each: claim it, say how it is, release it; fenced, all but the first.

A write is fenced by comparing the revision at which the owner's key was made with the one that this host was given for it: a host
that was taken for dead, and another's turn begun, writes nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from host_agent.etcd.errors import Garbled
from host_agent.etcd.wire import Compare, Delete, Get, Put
from pv_channel.text import printable

if TYPE_CHECKING:
    from host_agent.etcd.client import Etcd
    from host_agent.etcd.wire import Operation
    from host_agent.fleet.layout import Layout

_MAX_NAME = 100


class Owner(msgspec.Struct):
    """What stands at an owner's key."""

    dom0: str = "?"


class Claimed(NamedTuple):
    """The VM is ours under this *token*; *entry* is what is known of it, b"" where nothing is."""

    token: int
    entry: bytes


class Anothers(NamedTuple):
    """The VM is that of the dom0 called *by*."""

    by: str


class News(NamedTuple):
    """How a VM is: *result* for everybody, *entry* for the next owner (b"": there shall be none; None: it is no news)."""

    result: bytes
    entry: bytes | None


class Claims:
    """Of the host called *dom0*."""

    def __init__(self, etcd: Etcd, layout: Layout, dom0: str) -> None:
        self._etcd, self._layout, self._dom0 = etcd, layout, dom0

    async def introduce(self, lease: int, value: bytes) -> str:
        """Say under the *lease* that this host is there; why that cannot be, or "". Raise one of `EtcdError`."""
        key = self._layout.dom0(self._dom0)
        answer = await self._etcd.txn([Compare(key, "CREATE", 0)], [Put(key, value, lease)], [Get(key)])
        if answer.succeeded:
            return ""
        there = answer.read[0][0] if answer.read and answer.read[0] else None
        if there is None or there.lease != lease:
            return f"another host is dom0 '{self._dom0}', or was a moment ago; cure: another 'dom0' in its fleet file"
        if there.value != value:
            await self._etcd.txn([Compare(key, "CREATE", there.create_revision)], [Put(key, value, lease)])
        return ""

    async def claim(self, key: str, lease: int) -> Claimed | Anothers:
        """Have the VM, if nobody else has; a claim whose answer was lost is known by its lease. Raise one of `EtcdError`."""
        owner, entry = self._layout.owner(key), self._layout.entry(key)
        value = msgspec.json.encode(Owner(self._dom0))
        answer = await self._etcd.txn(
            [Compare(owner, "CREATE", 0)], [Put(owner, value, lease), Get(entry)], [Get(owner), Get(entry)]
        )
        read = answer.read
        if answer.succeeded and len(read) == 1:
            return Claimed(answer.header.revision, read[0][0].value if read[0] else b"")
        if answer.succeeded or len(read) != 2 or not read[0]:
            raise Garbled("not the answer to what was asked")
        there, known = read
        if there[0].lease == lease:
            return Claimed(there[0].create_revision, known[0].value if known else b"")
        return Anothers(owner_of(there[0].value))

    async def tell(self, key: str, token: int, lease: int, news: News) -> bool:
        """Write how the VM is; False where it is not ours any more. Raise one of `EtcdError`."""
        written = [Put(self._layout.vm(key), news.result, lease), *self._kept(key, news)]
        return (await self._etcd.txn([self._fence(key, token)], written)).succeeded

    async def release(self, key: str, token: int, news: News | None) -> bool:
        """Write for the last time how the VM is, and let go of it; False where it was not ours. Raise one of `EtcdError`."""
        kept = [] if news is None else self._kept(key, news)
        answer = await self._etcd.txn(
            [self._fence(key, token)], [*kept, Delete(self._layout.vm(key)), Delete(self._layout.owner(key))]
        )
        return answer.succeeded

    def _fence(self, key: str, token: int) -> Compare:
        return Compare(self._layout.owner(key), "CREATE", token)

    def _kept(self, key: str, news: News) -> list[Operation]:
        """What outlives our lease."""
        entry = self._layout.entry(key)
        of_entry: list[Operation] = []
        if news.entry is not None:
            of_entry = [Put(entry, news.entry) if news.entry else Delete(entry)]
        return [Put(self._layout.last(key), news.result), *of_entry]


def owner_of(value: bytes) -> str:
    """The name of the dom0 that wrote this."""
    try:
        return printable(msgspec.json.decode(value, type=Owner).dom0, _MAX_NAME)
    except msgspec.DecodeError:
        return "?"
