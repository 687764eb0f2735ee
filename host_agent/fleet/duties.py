# SPDX-License-Identifier: Apache-2.0
"""What a fleet's host has to do in etcd, again and again: keep its lease, claim the VMs that are here, tell how they are, let go.

Each duty has its own task; etcd that is away delays them, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from host_agent.errors import HostError
from host_agent.etcd.errors import EtcdError, NoSuchLease
from host_agent.fleet import arrival
from host_agent.fleet.claims import Anothers, Claims
from host_agent.fleet.lease import boottime
from host_agent.fleet.report import Presence
from host_agent.fleet.told import Told
from host_agent.log.happenings import Happening, noted
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from host_agent.etcd.client import Etcd
    from host_agent.fleet.cache import Cache
    from host_agent.fleet.claims import Claimed
    from host_agent.fleet.layout import Layout
    from host_agent.fleet.lease import Lease
    from host_agent.fleet.ownership import Ownership
    from host_agent.fleet.told import Looked

log = logging.getLogger("pv-host-agent")

_Any = TypeVar("_Any")

#: However little happens, it is looked whether there is something to do.
_EVERY_SECONDS: Final = 1.0
#: What happens within this time of the first is told together.
_GATHER_SECONDS: Final = 0.2
#: All VMs are looked at so often, for what other processes write into the ledger.
_EVERYTHING_SECONDS: Final = 60.0
#: VMs that are claimed or told of at once.
_AT_ONCE: Final = 8
#: VMs whose news are read from the ledger in one go: some milliseconds.
_READ_AT_ONCE: Final = 32
#: A lease that etcd did not renew is asked for again after so long.
_LEASE_RETRY_SECONDS: Final = 0.5


class Duties:
    """Of the host called *dom0*, whose ledger is in *state*."""

    def __init__(
        self, dom0: str, state: Path, etcd: Etcd, layout: Layout, cache: Cache, lease: Lease, ownership: Ownership
    ) -> None:
        self._dom0, self._state, self._etcd, self._cache = dom0, state, etcd, cache
        self._lease, self._ownership = lease, ownership
        self._claims, self._told = Claims(etcd, layout, dom0), Told(state, dom0, time.time)
        #: Called, in the loop, when the service may find something by looking.
        self.changed: Callable[[], None] = _nobody
        #: Why this host has no lease, or cannot claim anything, or "".
        self.trouble = ""
        self._troubles: dict[str, str] = {}
        self._dirty: set[str] = set()
        self._handed = 0
        self._introduced: tuple[int, bytes] = (0, b"")
        self._everything_at = 0.0
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Something may be to be done."""
        self._awake.set()

    def noted(self, key: str) -> None:
        """Something of the VM is on record, or will be."""
        self._dirty.add(key)
        self._awake.set()

    def handed(self, revision: int) -> None:
        """The service has taken up all that operators wrote up to *revision*."""
        self._handed = revision

    async def keep_lease(self) -> None:
        """Keep this host's lease until cancelled; have another where it is over."""
        while True:
            try:
                await self._renew()
                self._complain("lease", "")
                wait = self._lease.every
            except HostError as exc:
                self._complain("lease", str(exc))
                wait = _LEASE_RETRY_SECONDS
            await asyncio.sleep(wait)

    async def work(self) -> None:
        """Do what there is to do until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._awake.wait()
            self._awake.clear()
            await asyncio.sleep(_GATHER_SECONDS)
            if self._lease.is_good(boottime()):
                try:
                    await self._do()
                    self._complain("work", "")
                except HostError as exc:
                    self._complain("work", str(exc))

    async def _renew(self) -> None:
        asked = boottime()
        if self._lease.number:
            try:
                lease = await self._etcd.keep_alive(self._lease.number)
            except NoSuchLease:
                self._lease.over()
                self._ownership.lost_all()
        if not self._lease.number:
            asked = boottime()
            lease = await self._etcd.grant(self._lease.seconds)
            self._cache.leases(lease.number)
        was_good = self._lease.is_good(boottime())
        self._lease.renewed(lease.number, lease.seconds, asked, boottime())
        if not was_good:  # what was withheld may be sent
            self.changed()
            self.wake()

    async def _do(self) -> None:
        handed = self._handed
        if not await self._is_introduced(handed=0):
            return
        now = boottime()
        await _each(self._ownership.to_claim(now), self._claim)
        await _each(self._ownership.to_release(), self._release)
        await self._tell_news(now)
        await self._is_introduced(handed)

    async def _is_introduced(self, handed: int) -> bool:
        """Whether the fleet knows that this host is there, and no other has its name."""
        lease = self._lease.number
        if not handed and self._introduced[0] == lease:
            return True
        value = Presence(self._dom0, seen=handed, vms=len(self._ownership.owned())).encode()
        if self._introduced == (lease, value):
            return True
        why = await self._claims.introduce(lease, value)
        self._complain("name", why)
        self._introduced = (0, b"") if why else (lease, value)
        return not why

    async def _claim(self, key: str) -> None:
        lease = self._lease.number
        self._ownership.try_later(key, boottime())
        claim = await self._claims.claim(key, lease)
        if isinstance(claim, Anothers):
            self._is_anothers(key, claim.by)
        else:
            await self._arrive(key, claim, lease)
        self.changed()

    def _is_anothers(self, key: str, by: str) -> None:
        hold = self._ownership.get(key)
        if hold is not None and hold.by != by:
            text = "%s: is here, and dom0 %s provisions it; it is served from here once that lets go of it"
            log.warning(text, _vm(hold.name), by)
        self._ownership.is_anothers(key, by, boottime())
        self._cache.let_go(key)

    async def _arrive(self, key: str, claim: Claimed, lease: int) -> None:
        """It is ours in etcd; it is so for the service once our ledger has what is known of it."""
        hold = self._ownership.get(key)
        try:
            said = await asyncio.to_thread(arrival.take, self._state, key, claim.entry, self._dom0)
        except HostError as exc:
            log.error("%s; it is not served from here", exc)
            self._ownership.refused(key, str(exc), boottime())
            await self._claims.release(key, claim.token, None)
            return
        if said and hold is not None:
            log.info("%s: %s", _vm(hold.name), said)
        if lease != self._lease.number:  # over meanwhile
            return
        self._told.forget(key)
        self._dirty.add(key)
        self._ownership.claimed(key, claim.token, is_news=bool(said))
        self._cache.hold(key)

    async def _release(self, key: str) -> None:
        hold = self._ownership.get(key)
        if hold is None or not hold.token:
            return
        self._told.forget(key)
        looked = self._look([key])
        token = hold.token
        await self._claims.release(key, token, looked[0].news if looked else None)
        if hold.token == token:
            self._ownership.lost(key)
        self._told.forget(key)
        self._cache.let_go(key)

    async def _tell_news(self, now: float) -> None:
        """Tell of what has changed, and now and then of what may have."""
        if now >= self._everything_at:
            self._everything_at = now + _EVERYTHING_SECONDS
            self._dirty |= set(self._ownership.owned())
        keys, self._dirty = [key for key in self._dirty if self._token(key)], set()
        try:
            for start in range(0, len(keys), _READ_AT_ONCE):
                await _each(self._look(keys[start : start + _READ_AT_ONCE]), self._tell)
                await asyncio.sleep(0)
        except EtcdError:
            self._dirty |= set(keys)
            raise

    async def _tell(self, looked: Looked) -> None:
        token = self._token(looked.key)
        if not token:
            return
        if await self._claims.tell(looked.key, token, self._lease.number, looked.news):
            self._told.was_told(looked)
        elif self._token(looked.key) == token:
            self._ownership.lost(looked.key)
            self.wake()

    def _look(self, keys: Sequence[str]) -> list[Looked]:
        try:
            return self._told.look(keys)
        except HostError as exc:  # which the service complains of as well
            log.debug("the fleet is not told of %d VMs: %s", len(keys), exc)
            return []

    def _token(self, key: str) -> int:
        hold = self._ownership.get(key)
        return 0 if hold is None else hold.token

    def _complain(self, duty: str, text: str) -> None:
        """Say what stands in the way of a *duty*, once, and when nothing does any more."""
        self._troubles[duty] = text
        trouble = next(filter(None, self._troubles.values()), "")
        if trouble and trouble != self.trouble:
            what_of_it = "VMs are served on, but no new generation is sent once this host's lease is over"
            log.error("%s; %s", trouble, what_of_it, extra=noted(Happening.FLEET))
        elif self.trouble and not trouble:
            log.info("etcd answers again: this host's part in the fleet goes on")
        self.trouble = trouble


async def _each(many: Sequence[_Any], work: Callable[[_Any], Awaitable[None]]) -> None:
    """Do *work* with each of *many*, some at once; raise the first error once those that have begun have ended."""
    for start in range(0, len(many), _AT_ONCE):
        done = await asyncio.gather(*map(work, many[start : start + _AT_ONCE]), return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result


def _nobody() -> None:
    """Nobody wants to know yet."""


def _vm(name: str) -> str:
    return printable(name, 100)
