# SPDX-License-Identifier: Apache-2.0
"""This host's part in a fleet, as the service sees it: documents of VMs that are here and this host's own, and what is withheld.

Everything that waits for etcd is in `fleet.duties`; nothing here does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.documents.inventory import SLICE_SECONDS, Changes
from host_agent.errors import BadFile
from host_agent.fleet.documents import Documents, Signature
from host_agent.fleet.duties import Duties
from host_agent.fleet.follow import Follow
from host_agent.fleet.layout import Layout
from host_agent.fleet.lease import Lease, boottime
from host_agent.fleet.ownership import Ownership
from host_agent.log.happenings import Happening, noted
from host_agent.membership import Health
from host_agent.supervision import supervise
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from host_agent.channels.whereabouts import Whereabouts
    from host_agent.etcd.client import Etcd
    from host_agent.fleet.cache import Cache, Text
    from host_agent.fleet.config import Fleet
    from host_agent.fleet.ownership import Hold

log = logging.getLogger("pv-host-agent")

_GONE: Final = "it is not on this host any more"


class _Told(NamedTuple):
    """What the service was last told of a VM: what it was made of, and an error, if that is what it was."""

    key: str
    arrivals: int
    of: tuple[Signature, int, int]
    error: str = ""


class Member:
    """The host that *fleet* calls dom0, with its ledger in *state* and its memory in *cache*. It asks *etcd*, and closes it."""

    def __init__(self, fleet: Fleet, state: Path, cache: Cache, etcd: Etcd) -> None:
        self.said = fleet.said
        self._cache, self._etcd = cache, etcd
        self._layout = Layout(fleet.prefix)
        self._documents = Documents(fleet.prefix, cache.texts())
        self._lease = Lease(fleet.lease, cache.lease())
        self._ownership = Ownership(cache.held(), boottime())
        self._duties = Duties(fleet.dom0, state, etcd, self._layout, cache, self._lease, self._ownership)
        self._told: dict[str, _Told] = {}
        self._revision = 0
        self._trouble = ""

    @property
    def health(self) -> Health:
        """How this host stands in its fleet."""
        answers = not self._duties.trouble and not self._trouble
        here, owned = self._ownership.serving(), self._ownership.owned()
        return Health(answers, self._lease.is_good(boottime()), len(here.keys() | owned), len(owned))

    def follow(self, changed: Callable[[], None]) -> list[asyncio.Task[None]]:
        """Begin to follow etcd, and call *changed* on changes; the tasks to cancel in the end."""
        self._changed = self._duties.changed = changed
        works = (
            (Follow(self._etcd, self._layout, self).run, "the fleet's documents", "they are followed"),
            (self._duties.keep_lease, "this host's lease", "it is kept"),
            (self._duties.work, "this host's VMs in the fleet", "they are seen to"),
        )
        return [asyncio.create_task(supervise(work, of, again)) for work, of, again in works]

    async def close(self) -> None:
        """End every connection, and let go of the cache."""
        await self._etcd.close()
        self._cache.close()

    def look(self, here: Whereabouts) -> Changes:
        """What has changed for the VMs that are *here* and this host's."""
        more = self._documents.read_some()
        self._see(here)
        changes = Changes([], [], [], self._documents.faults(), more=more)
        left: list[tuple[str, str]] = []
        self._leave(changes, left)
        more = self._tell(changes) or more
        if not more:
            self._duties.handed(self._revision)
        self._duties.wake()
        return changes._replace(more=more, left=left)

    def begin_anew(self) -> None:
        """Tell of everything once more."""
        self._told.clear()

    def withheld(self, key: str) -> str:
        """Why no generation may be sent to the VM now: it is not this host's for certain."""
        hold = self._ownership.get(key)
        if hold is None or not hold.token or not self._lease.is_good(boottime()):
            because = self._duties.trouble or self._trouble or "it has to be claimed again"
            return f"withheld: another host could be about to provision it, for this host's lease is over ({because})"
        return ""

    def noted(self, key: str) -> None:
        """Something of the VM is on record, or will be: the fleet is told."""
        self._duties.noted(key)

    def are(self, texts: dict[str, Text], revision: int) -> None:
        """Operators have written these and no others."""
        changes = self._documents.replace(texts)
        if changes:
            self._cache.change(changes)
        self._took(revision)

    def became(self, changes: dict[str, Text | None], revision: int) -> None:
        """Operators have written or removed these."""
        self._documents.change(changes)
        self._cache.change(changes)
        self._took(revision)

    def is_away(self, why: str) -> None:
        """Nothing is known of what operators write."""
        if why and why != self._trouble:
            log.error("%s; the documents that were last seen stay in force", why, extra=noted(Happening.FLEET))
        elif self._trouble and not why:
            log.info("etcd answers again: the fleet's documents are followed")
        self._trouble = why

    def _took(self, revision: int) -> None:
        self._revision = max(self._revision, revision)
        self._changed()

    def _see(self, here: Whereabouts) -> None:
        """See which VMs with documents are here."""
        for key in self._ownership.see(self._documents.here(here), boottime()):
            self._cache.let_go(key)

    def _leave(self, changes: Changes, left: list[tuple[str, str]]) -> None:
        """Have those not served any more that have no document, or are not this host's."""
        serving = self._ownership.serving()
        for name, told in list(self._told.items()):
            hold = serving.get(told.key)
            if not self._documents.has(name):
                self._ownership.drop(told.key)
                changes.removed.append(name)
            elif hold is None or told.key != self._documents.key(name):
                left.append((name, self._why(told.key)))
            elif told.arrivals != hold.arrivals:
                left.append((name, "what another host knew of it has come; it is met anew"))
            else:
                continue
            del self._told[name]

    def _why(self, key: str) -> str:
        """Why the VM is not served from here."""
        hold = self._ownership.get(key)
        if hold is None:
            return _GONE
        return hold.refusal or (f"dom0 {printable(hold.by, 100)} provisions it" if hold.by else _GONE)

    def _tell(self, changes: Changes) -> bool:
        """Tell what is to become of this host's VMs, for as long as one look may take; whether there is more."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SLICE_SECONDS
        for key, hold in self._ownership.serving().items():
            if not self._documents.has(hold.name) or self._documents.key(hold.name) != key:
                continue
            of = self._signature(hold)
            told = self._told.get(hold.name)
            if told is not None and told.of == of:
                continue
            if loop.time() >= end:
                return True
            self._told[hold.name] = self._tell_one(key, hold, told, changes)
        return False

    def _tell_one(self, key: str, hold: Hold, told: _Told | None, changes: Changes) -> _Told:
        error = ""
        try:
            changes.wanted.append(self._documents.wanted(hold.name))
        except BadFile as exc:
            error = str(exc)
            if told is None or told.error != error:
                changes.errors.append((hold.name, error))
                changes.complaints.append(f"{error}; what was in force stays")
        self._duties.noted(key)
        return _Told(key, hold.arrivals, self._signature(hold), error)

    def _signature(self, hold: Hold) -> tuple[Signature, int, int]:
        """Changes with the document, and whenever what was withheld may be sent."""
        return self._documents.signature(hold.name), hold.claims, self._lease.spells
