# SPDX-License-Identifier: Apache-2.0
"""What can be asked of etcd: read, write in transactions, hold a lease, and watch. Every method may raise one of `EtcdError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.etcd import wire
from host_agent.etcd.errors import Away, Garbled, NoSuchLease
from host_agent.etcd.wire import KeyValue, LeaseAnswer, Range, RangeAnswer, TxnAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from host_agent.etcd.gateway import Gateway
    from host_agent.etcd.wire import Compare, Event, Operation

#: Keys of one page; where their values are too long for one answer, fewer.
_PAGE: Final = 256
#: A watch that is silent for so long is begun anew, for its connection may be a dead one.
SILENCE_SECONDS: Final = 30.0
#: A transaction has 128 writes, and a watch that lags is told of a thousand revisions at once.
_MAX_EVENTS: Final = 200_000
#: More than a fleet's documents are, in keys and in bytes.
_MAX_KEYS: Final = 200_000
_MAX_BYTES: Final = 1024 * 1024 * 1024


class Found(NamedTuple):
    """What stood somewhere at *revision*."""

    kvs: list[KeyValue]
    revision: int


class Heard(NamedTuple):
    """What happened in the *part* with that number: all of it up to *revision*."""

    part: int
    events: list[Event]
    revision: int


class Etcd:
    """One cluster, asked over *gateway*, which it closes in the end."""

    def __init__(self, gateway: Gateway, silence: float = SILENCE_SECONDS) -> None:
        self._gateway, self._silence = gateway, silence

    async def close(self) -> None:
        """End every connection."""
        await self._gateway.close()

    async def get(self, key: bytes) -> KeyValue | None:
        """What stands at *key*, if anything does."""
        page = await self._page(Range(key), 1, 0, keys_only=False)
        return page.kvs[0] if page.kvs else None

    async def read(self, part: Range, revision: int = 0, *, keys_only: bool = False) -> Found:
        """All of *part* as it was at *revision*, or is now (0), in the order of the keys."""
        kvs: list[KeyValue] = []
        limit, key, size = _PAGE, part.key, 0
        while True:
            try:
                page = await self._page(Range(key, part.end), limit, revision, keys_only=keys_only)
            except Garbled:
                if limit == 1:
                    raise
                limit //= 4
                continue
            revision = revision or page.header.revision
            kvs += page.kvs
            size += sum(len(kv.value) for kv in page.kvs)
            if len(kvs) > _MAX_KEYS or size > _MAX_BYTES:
                raise Garbled("more keys, or longer values, than a fleet has")
            if not page.more or not page.kvs:
                return Found(kvs, revision)
            key = page.kvs[-1].key + b"\0"

    async def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
    ) -> TxnAnswer:
        """Do *success* where all that is compared is so, else *failure*; all of it or nothing."""
        return await self._gateway.ask("/v3/kv/txn", wire.txn(compare, success, failure), TxnAnswer)

    async def grant(self, seconds: int) -> LeaseAnswer:
        """A lease for about so long."""
        lease = await self._gateway.ask("/v3/lease/grant", wire.lease_request(0, seconds), LeaseAnswer)
        if lease.number <= 0 or lease.seconds <= 0:
            raise Garbled("a lease without a number or without a time")
        return lease

    async def keep_alive(self, number: int) -> LeaseAnswer:
        """The lease begins anew; raise `NoSuchLease` where it is over."""
        kept = await self._gateway.ask("/v3/lease/keepalive", wire.lease_request(number), wire.KeptAlive)
        if kept.result.seconds <= 0:
            raise NoSuchLease("this host's lease is over")
        return kept.result

    async def revoke(self, number: int) -> None:
        """The lease is over, and what was written under it is gone."""
        await self._gateway.ask("/v3/lease/revoke", wire.lease_request(number), wire.Header)

    async def watch(self, parts: Sequence[Range], revisions: Sequence[int]) -> AsyncIterator[Heard]:
        """What happens in each of *parts* from its revision on, until an error ends it.

        First, without events, that it is watched, with the revision that etcd has.
        Raise `Compacted` where etcd does not know all of that any more, `Away` for what trying again may help.
        """
        requests = (wire.watch_request(part, number + 1, revisions[number]) for number, part in enumerate(parts))
        async with self._gateway.lines("/v3/watch", b"".join(requests), self._silence) as lines:
            partial: dict[int, list[Event]] = {}
            async for line in lines:
                if line.strip():
                    heard = _heard(line, len(parts), partial)
                    if heard is not None:
                        yield heard

    async def _page(self, part: Range, limit: int, revision: int, *, keys_only: bool) -> RangeAnswer:
        request = wire.range_request(part, limit, revision, keys_only=keys_only)
        return await self._gateway.ask("/v3/kv/range", request, RangeAnswer)


def _heard(line: bytes, parts: int, partial: dict[int, list[Event]]) -> Heard | None:
    """What a line says that is whole with it; *partial* keeps what is not. Raise what ends the watches."""
    answer = wire.watch_line(line)
    if answer is None:
        raise Away("etcd has no leader, or is too slow")
    if isinstance(answer, Exception):
        raise answer
    if answer.canceled:
        raise wire.canceled(answer)
    number = answer.watch_id - 1
    if not 0 <= number < parts:
        raise Garbled("an answer to a watch that there is not")
    if answer.created:
        return Heard(number, [], answer.header.revision)
    events = partial.pop(number, []) + answer.events
    if len(events) > _MAX_EVENTS:
        raise Garbled("more at once than can have happened")
    if answer.fragment:
        partial[number] = events
        return None
    return Heard(number, events, max((event.kv.mod_revision for event in events), default=0))
