# SPDX-License-Identifier: Apache-2.0
"""A VM's place in the ledger as state that travels by D-Bus: prepared beforehand, and loaded when it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError
from host_agent.ledger import entry as ledger_entry
from host_agent.ledger import travel as ledger_travel
from host_agent.ledger.schema import FILE_NAME
from host_agent.ledger.travel import Manner, NotMet
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: The snapshot is this much behind the ledger at most, and a little.
REFRESH_SECONDS: Final = 1.0


class LedgerState:
    """Of the VM that is called *vm*, in the ledger in *directory*; where it is *incoming*, there may be none before it comes."""

    def __init__(self, directory: Path, vm: str, who: str, tell: Callable[[str], None], *, incoming: bool) -> None:
        self._directory, self._vm, self._who, self._tell, self._incoming = directory, vm, who, tell, incoming
        self._snapshot: bytes | None = None
        self._seen: object = None
        self._trouble = ""

    async def prepare(self) -> None:
        """Have the VM's entry at hand, as it is now; raise `HostError` where there is none and none is to come."""
        seen = self._signature()
        try:
            entry = await asyncio.to_thread(ledger_travel.export, self._directory, self._vm)
            self._snapshot = ledger_entry.encode(entry)
        except NotMet:
            if not self._incoming or self._snapshot is not None:
                raise
        self._seen = seen

    async def keep_prepared(self) -> None:
        """Have it at hand as it is now, for ever; trouble with the ledger is told once, and what was at hand stays."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            if self._signature() == self._seen:
                continue
            try:
                await self.prepare()
                self._trouble = ""
            except HostError as exc:
                if str(exc) != self._trouble:
                    self._trouble = str(exc)
                    self._tell(f"{exc}; what was known before is what travels")

    def save(self) -> bytes:
        """What is at hand; raise `HostError` where nothing is."""
        if self._snapshot is None:
            raise HostError(f"{printable(self._vm)}: its state has not come yet, so there is none to save")
        return self._snapshot

    async def load(self, state: bytes) -> None:
        """The ledger has this entry from now on, if it is this VM's; raise `HostError`, and then nothing has changed."""
        if not self._incoming:
            raise HostError(f"{printable(self._vm)}: no state is expected to come here; cure: state helper --incoming")
        entry = ledger_entry.decode(state)
        manner = Manner(self._who, as_document=False)
        loaded = await asyncio.to_thread(ledger_travel.load, self._directory, entry, self._vm, manner)
        if loaded.taken:
            self._snapshot = state
        self._seen = None  # and from the ledger itself, in a moment
        self._tell(loaded.text)

    def _signature(self) -> object:
        """Another one when the ledger was written to; it is asked of the directory, not of the ledger."""
        return [_stamp(self._directory / name) for name in (FILE_NAME, f"{FILE_NAME}-wal")]


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
