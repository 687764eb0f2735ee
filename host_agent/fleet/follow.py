# SPDX-License-Identifier: Apache-2.0
"""Follow what operators write in etcd: all of it once, then each change, through lost connections and compactions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from host_agent.documents.text_file import MAX_FILE_BYTES
from host_agent.etcd.errors import Compacted, EtcdError, Silent
from host_agent.fleet.cache import Text
from host_agent.talk.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Iterable

    from host_agent.etcd.client import Etcd
    from host_agent.etcd.wire import KeyValue
    from host_agent.fleet.layout import Layout


class Reader(Protocol):
    """Whoever is told, in the loop."""

    def are(self, texts: dict[str, Text], revision: int) -> None:
        """These are all that there are at *revision*."""

    def became(self, changes: dict[str, Text | None], revision: int) -> None:
        """Some were written or (None) removed, up to *revision*."""

    def is_away(self, why: str) -> None:
        """Nothing is known of what operators write now, because of *why*; "" where that is over."""


class Follow:
    """Tell *reader* of what stands in *etcd* where *layout* says."""

    def __init__(self, etcd: Etcd, layout: Layout, reader: Reader) -> None:
        self._etcd, self._layout, self._reader = etcd, layout, reader
        self._next: list[int] = []

    async def run(self) -> None:
        """Follow until cancelled."""
        backoff = Backoff()
        while True:
            try:
                if not self._next:
                    await self._read_all()
                await self._watch(backoff)
            except Silent:
                continue
            except Compacted:
                self._next = []
            except EtcdError as exc:
                self._reader.is_away(str(exc))
                await asyncio.sleep(backoff.next())

    async def _read_all(self) -> None:
        texts: dict[str, Text] = {}
        revision = 0
        for part in self._layout.written:
            found = await self._etcd.read(part, revision)
            revision = found.revision
            texts.update({name: text for name, text in self._texts(found.kvs).items() if text is not None})
        self._reader.are(texts, revision)
        self._next = [revision + 1] * len(self._layout.written)

    async def _watch(self, backoff: Backoff) -> None:
        """Until something ends it."""
        async for heard in self._etcd.watch(self._layout.written, self._next):
            backoff.reset()
            self._reader.is_away("")
            if heard.events:
                self._reader.became(self._texts(event.kv for event in heard.events), heard.revision)
                self._next[heard.part] = max(self._next[heard.part], heard.revision + 1)
            elif heard.revision < self._next[heard.part] - 1:
                raise Compacted("etcd's data are older than before, as after they were restored")

    def _texts(self, kvs: Iterable[KeyValue]) -> dict[str, Text | None]:
        """What was written, by its name; what can be no document of ours is passed over, and so is what of one is too long."""
        found: dict[str, Text | None] = {}
        for kv in kvs:
            name = self._layout.name(kv.key)
            if name is not None:
                is_there = kv.create_revision > 0
                found[name] = Text(kv.mod_revision, kv.value[: MAX_FILE_BYTES + 1]) if is_there else None
        return found
