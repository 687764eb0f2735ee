# SPDX-License-Identifier: Apache-2.0
"""Which domains run and where their channels are, found in xenstore and followed through creation, migration and death."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.channels.device_models import owned, with_owners
from host_agent.channels.toolstack import consoles_of, domids, look_at
from host_agent.talk.backoff import Backoff
from host_agent.xenstore.client import PATHS, Client
from host_agent.xenstore.errors import XenstoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from host_agent.channels.endpoint import Domain, Endpoint
    from host_agent.channels.toolstack import Console, Found

log = logging.getLogger("pv-host-agent")

#: A domain comes in dozens of writes: what is told within this time of the first is looked at once.
SETTLE_SECONDS: Final = 0.05
#: However well watches work, everything is looked at so often.
EVERYTHING_SECONDS: Final = 60.0
#: Domains that are looked at at once; a look is a dozen requests.
_AT_ONCE: Final = 8

_LISTS: Final = ("@introduceDomain", "@releaseDomain")
#: libxl's own notes on each domain, and QEMU's word that it is up: its terminals are open then.
_TREES: Final = ("/libxl", "/local/domain/0/device-model")
_ABOUT: Final = re.compile(r"/libxl/([0-9]{1,5})(?:/.*)?|/local/domain/0/device-model/([0-9]{1,5})/state", re.ASCII)


class Discovery:
    """What runs on this host. The two mappings are replaced whole and never changed, and outlive a lost xenstored.

    *changed* is called, in the loop, when one of them or *trouble* is another than before.
    """

    def __init__(self, changed: Callable[[], None], *, paths: Sequence[Path] = PATHS) -> None:
        self._changed, self._paths = changed, paths
        #: By domain and console: every channel of every running guest, whoever serves it.
        self.endpoints: dict[tuple[int, str], Endpoint] = {}
        #: Every running guest, with channels or without.
        self.domains: dict[int, Domain] = {}
        #: "" while the mappings follow xenstore; else why they do not, for the operator.
        self.trouble = "xenstore was not looked at yet"
        #: Set once everything was looked at for the first time, or xenstore turned out not to be there.
        self.first_look = asyncio.Event()
        self._found: dict[int, Found] = {}

    async def run(self) -> None:
        """Follow xenstore until cancelled; where the daemon is not there, or not any more, try again and again."""
        backoff = Backoff()
        while True:
            try:
                async with await Client.connect(self._paths) as store:
                    await self._follow(store, backoff)
            except XenstoreError as exc:
                self._lose(str(exc))
            await asyncio.sleep(backoff.next())

    async def _follow(self, store: Client, backoff: Backoff) -> None:
        now = asyncio.get_running_loop().time
        for path in (*_LISTS, *_TREES):
            await store.watch(path, path)
        told: AbstractSet[int] | None = None
        while True:
            if told is None:
                everything_at = now() + EVERYTHING_SECONDS
            await self._look(store, told)
            backoff.reset()
            told = await _told(store, everything_at)

    async def _look(self, store: Client, told: AbstractSet[int] | None) -> None:
        """Look at the domains *told* of (None: at all), at new ones, and at whoever shares a uuid with one that is gone."""
        listed = set(await domids(store))
        uuids = {found.domain.uuid for domid, found in self._found.items() if domid not in listed}
        heirs = {domid for domid, found in self._found.items() if found.domain.uuid in uuids}  # a migration has renamed them
        wanted = listed if told is None else listed & (told | heirs | (listed - self._found.keys()))
        kept = {domid: found for domid, found in self._found.items() if domid in listed - wanted}
        new = await _look_at_all(store, wanted)
        # What is news to a target is to its stubdomain, too.
        stubdomains = {domid for domid in kept if any(found.domain.stubdomain == domid for found in new.values())}
        new |= await _look_at_all(store, stubdomains)
        self._tell_odd(new)
        self._found = dict(sorted((kept | new).items()))
        self._publish()

    def _publish(self) -> None:
        found = with_owners(self._found)
        domains = {domid: each.domain for domid, each in found.items()}
        endpoints = {(domid, id_): endpoint for domid, each in found.items() for id_, endpoint in each.endpoints.items()}
        if self.trouble or (domains, endpoints) != (self.domains, self.endpoints):
            if self.trouble:
                log.info("xenstore is followed: running guests: %d, channels: %d", len(domains), len(endpoints))
            self.domains, self.endpoints, self.trouble = domains, endpoints, ""
            self._changed()
        self.first_look.set()

    def _tell_odd(self, new: dict[int, Found]) -> None:
        """Each oddity once, for as long as it lasts."""
        for domid, found in new.items():
            before = self._found.get(domid)
            for sentence in sorted(found.odd if before is None else found.odd - before.odd):
                log.warning("xenstore: %s", sentence)

    def _lose(self, why: str) -> None:
        if why != self.trouble:
            log.warning("%s", why)
            self.trouble = why
            self._changed()
        self.first_look.set()


async def _told(store: Client, everything_at: float) -> AbstractSet[int] | None:
    """Wait for something that is about domains: which ones to look at, or None for all of them."""
    try:
        async with asyncio.timeout_at(everything_at):
            while True:
                await store.wait_for_events()
                await asyncio.sleep(SETTLE_SECONDS)
                events, missed = store.take_events()
                if missed:
                    return None
                paths = {event.path for event in events}
                about = {int(match[1] or match[2]) for match in map(_ABOUT.fullmatch, paths) if match}
                if about or not paths.isdisjoint(_LISTS):
                    return about
    except TimeoutError:
        return None


async def _look_at_all(store: Client, wanted: Iterable[int]) -> dict[int, Found]:
    """Those of *wanted* that run."""
    found: dict[int, Found] = {}
    for some in _in_turns(sorted(wanted)):
        looks = await asyncio.gather(*(look_at(store, domid) for domid in some))
        found |= {domid: look for domid, look in zip(some, looks, strict=True) if look is not None}
    return found


def _in_turns(wanted: list[int]) -> Iterator[list[int]]:
    return (wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE))


class Survey(NamedTuple):
    """One look at everything: the running guests, and every console of theirs."""

    domains: list[Domain]
    consoles: list[Console]


async def survey(paths: Sequence[Path] = PATHS) -> Survey:
    """What runs now and has which consoles; raise `HostError` where there is no xenstore."""
    async with await Client.connect(paths) as store:
        found = await _look_at_all(store, await domids(store))
        consoles: list[Console] = []
        for some in _in_turns(list(found)):
            for each in await asyncio.gather(*(consoles_of(store, domid) for domid in some)):
                consoles += each
    domains = {domid: each.domain for domid, each in found.items()}
    return Survey(list(domains.values()), [owned(console, domains) for console in consoles])
