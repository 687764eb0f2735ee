# SPDX-License-Identifier: Apache-2.0
"""What each VM should become: a directory with a document per VM, over defaults and groups, looked at again and again.

A file that cannot be used never replaces the good one before it, and one that is still being written is left to settle.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.documents.directory import Found, listing
from host_agent.documents.document_file import Wanted, wanted
from host_agent.documents.faults import Faults
from host_agent.documents.layer import own_of
from host_agent.documents.layers import Layers, Unsettled, names
from host_agent.documents.text_file import text_of
from host_agent.errors import BadFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: How long one look may keep the loop from the VMs; reading a document takes a millisecond.
SLICE_SECONDS: Final = 0.02


class Changes(NamedTuple):
    """What a look found that the look before did not.

    *errors* are those of single VMs, which keep what they had; *complaints* are the same for a log: one for each fault, however
    many VMs have it. Where there is *more*, the next look goes on with it. Those that have *left* have documents, and a reason
    why they are not to be served from here.
    """

    wanted: list[Wanted]
    errors: list[tuple[str, str]]
    removed: list[str]
    complaints: list[str]
    more: bool
    left: Sequence[tuple[str, str]] = ()


@dataclass(slots=True)
class _Known:
    """One VM: the file of it that was read last, the layers below it, and what we said of it: a document or an error."""

    read: Found | None = None
    below: tuple[str, ...] = ()
    told: Wanted | str | None = None


class Inventory:
    """The documents in *directory*, ``NAME.yaml``, ``.yml`` or ``.json`` for the VM NAME, over the `Layers` beside it."""

    def __init__(
        self, directory: Path, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.directory = directory
        self._wall, self._clock = wall, clock
        self._layers = Layers(directory)
        self._changed_layers: set[str] = set()
        self._seen: dict[str, Found] = {}
        self._known: dict[str, _Known] = {}
        self._pending: dict[str, Found] = {}
        self._faults = Faults()

    def look(self) -> Changes:
        """What has changed; raise `BadFile` where a directory cannot be read or is not safe: then nothing has changed."""
        removed = self._list() if not self._pending else []
        changes = Changes([], [], removed, [], more=False)
        end = self._clock() + SLICE_SECONDS
        while self._pending:
            name = next(iter(self._pending))
            self._take(name, self._pending.pop(name), changes)
            if self._clock() >= end:
                break
        if not self._pending:
            changes.complaints.extend(self._faults.lines("; what was in force stays"))
            self._faults = Faults()
        return changes._replace(more=bool(self._pending))

    def _list(self) -> list[str]:
        """See which VMs are to be read, because of their own files or of what is below them; the names of those that went."""
        found = listing(self.directory, self._seen)
        now = self._wall()
        self._changed_layers |= self._layers.look(now)
        self._layers.check_places()
        for name, file in found.items():
            if (self._seen.get(name) == file or file.is_old(now)) and self._is_news(name, file):
                self._pending[name] = file
        removed = [name for name in self._seen if name not in found]
        for name in removed:
            self._known.pop(name, None)
        self._seen, self._changed_layers = found, set()
        return removed

    def _is_news(self, name: str, file: Found) -> bool:
        known = self._known.setdefault(name, _Known())
        return known.read != file or not self._changed_layers.isdisjoint(known.below)

    def _take(self, name: str, file: Found, changes: Changes) -> None:
        """Read the file of the VM *name*; one that has changed since it was found is left to the next look."""
        known = self._known[name]
        before, known.read = known.read, None
        result: Wanted | str
        try:
            result = self._wanted(name, file)
        except Unsettled:
            return
        except BadFile as exc:
            result = str(exc)
        if not file.is_still_there():
            return
        known.read = file
        if before == file and known.told == result:
            return
        known.told = result
        if isinstance(result, str):
            changes.errors.append((name, result))
            self._faults.add(result, Path(file.paths[0]))
        else:
            changes.wanted.append(result)

    def _wanted(self, name: str, file: Found) -> Wanted:
        path = file.only(name)
        own = own_of(text_of(path), path)
        self._known[name].below = names(own)
        return wanted(self._layers.stack(own).document(), path, name)
