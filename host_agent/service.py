# SPDX-License-Identifier: Apache-2.0
"""Serve every VM that has a document: each is told when its document or its socket changes."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from host_agent.errors import BadFile, LedgerTrouble
from host_agent.ledger.set_aside import mend
from host_agent.ledger.standing import State
from host_agent.log import announce
from host_agent.log.happenings import Happening, noted
from host_agent.membership import Alone
from host_agent.pulse import Pulse
from host_agent.sd_notify import Notifier
from host_agent.served import Dom0, Served
from host_agent.summary import Summary
from host_agent.supervision import supervise
from host_agent.talk.drive import Batch
from host_agent.talk.timing import DEFAULT, Timing
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from pathlib import Path

    from host_agent.channels.sources import Sources
    from host_agent.channels.whereabouts import Whereabouts
    from host_agent.documents.document_file import Wanted
    from host_agent.errors import LedgerDamaged
    from host_agent.keys import Identity
    from host_agent.ledger.ledger import Ledger
    from host_agent.membership import Membership

    Beside = tuple[str, Callable[[Dom0], Awaitable[None]]]

log = logging.getLogger("pv-host-agent")

#: So many VMs are told in one turn of the loop where their channels are.
_TOLD_AT_ONCE: Final = 500
_REMOVED: Final = "the document was removed"


class Service:
    """The VMs of this host. The directory *documents* has what each should become, *sources* where its channel is.

    *identify* reads who this host is, now and when it is told to reload; it raises `BadFile` where it cannot. What is
    *beside* it, each with the name that a fault in it is said of, goes on as long as the service does, told what all VMs share.
    Where there is a *membership* in a fleet, that has the documents.
    """

    def __init__(
        self,
        documents: Path,
        sources: Sources,
        channel: bytes,
        identify: Callable[[], Identity],
        ledger: Ledger,
        timing: Timing = DEFAULT,
        beside: Sequence[Beside] = (),
        membership: Membership | None = None,
    ) -> None:
        self._membership, self._sources = membership or Alone(documents), sources
        self._channel, self._ledger, self._timing = channel, ledger, timing
        self._identify, self._identity = identify, identify()
        self._served: dict[str, Served] = {}
        self._untold: dict[str, Served] = {}
        self._keys: dict[str, str] = {}
        self._complaint = ""
        self._is_more = False
        self._stands = Summary(ledger)
        self._beside = beside

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. SIGHUP reads everything again; a change in xenstore looks at the channels at once."""
        loop = asyncio.get_running_loop()
        self._clock, self._began, self._looked = loop.time, loop.time(), -inf
        batch = Batch(self._ledger, loop)
        self._dom0 = Dom0(self._channel, lambda: self._identity, self._ledger, batch, self._timing, self._membership)
        self._pulse = Pulse(Notifier(), self._dom0.batch, self._summary, loop.time)
        self._stop, self._reload, self._news = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _set, self._stop, self._news)
        loop.add_signal_handler(signal.SIGHUP, _set, self._reload, self._news)
        following = self._sources.follow(self._news.set) + self._membership.follow(self._news.set)
        following += [asyncio.create_task(supervise(partial(work, self._dom0), of, "it is begun")) for of, work in self._beside]
        await _first(self._sources.first_look(), self._stop.wait(), within=self._timing.first_survey)
        await self._look_at_all()
        announce.started(
            len(self._served), self._channel, self._membership.said, self._sources.said, self._ledger.path, self._identity
        )
        self._pulse.ready()
        while await self._is_due():
            if self._reload.is_set():
                await self._read_again()
            else:
                await self._look()
            self._pulse.beat()
        self._pulse.stopping()
        await self._stop_all(following)

    async def _is_due(self) -> bool:
        """Wait until there is something to look at, or it is time to; False where it is time to stop."""
        await _wait(self._news, 0 if self._is_more else min(self._timing.look_every, self._pulse.every))
        await _wait(self._stop, self._timing.between_looks)
        self._news.clear()
        return not self._stop.is_set()

    async def _look_at_all(self) -> None:
        """Look, and go on where there is more than one look takes."""
        await self._look()
        while self._is_more and not self._stop.is_set():
            await asyncio.sleep(0)
            await self._look()
            self._pulse.beat()

    async def _read_again(self) -> None:
        """Read the documents and this host's key again; a key that cannot be used leaves the one before it in force."""
        self._reload.clear()
        self._pulse.reloading()
        before, self._identity = self._identity, self._identity_read_again()
        if not self._identity.same_as(before):
            for served in self._served.values():
                served.be(self._identity)
        await self._look_at_all()
        announce.reloaded(len(self._served), before, self._identity)
        self._pulse.ready()

    def _identity_read_again(self) -> Identity:
        try:
            return self._identify()
        except BadFile as exc:
            announce.key_not_taken(exc, self._identity)
            return self._identity

    async def _stop_all(self, following: list[asyncio.Task[None]]) -> None:
        began, served = self._clock(), len(self._served)
        for each in self._served.values():
            each.leave()
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        self._dom0.batch.close()
        now = self._clock()
        announce.stopped(served, now - began, now - self._began)

    def _summary(self) -> str:
        return self._stands.line(self._keys)

    async def _look(self) -> None:
        """See what changed. Of what cannot be read, which is complained of once, everything stays as it was."""
        if self._dom0.batch.damage is not None:
            self._mend_ledger(self._dom0.batch.damage)
        if not self._is_more or self._clock() - self._looked >= self._timing.look_every:
            self._whereabouts, self._looked = self._sources.look(), self._clock()
            self._untold |= self._served
        self._complain(self._look_at_documents(self._whereabouts) or self._sources.complaint)
        await self._tell_where(self._whereabouts)
        self._record(self._reprovision)

    async def _tell_where(self, whereabouts: Whereabouts) -> None:
        """Tell those who do not know yet where their channel is, so many in a turn: ten thousand take a tenth of a second."""
        untold, self._untold = self._untold, {}
        for number, served in enumerate(untold.values(), 1):
            served.found(whereabouts.of(served.wanted))
            if number % _TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _reprovision(self, ledger: Ledger) -> None:
        """Tell those of whom an operator wants that all be applied again."""
        for key in ledger.to_reprovision():
            if key in self._keys:
                self._served[self._keys[key]].again()

    def _mend_ledger(self, damage: LedgerDamaged) -> None:
        """See to a ledger that is damaged; a new one gets what we know. Until that succeeds nothing is sent."""
        try:
            is_anew, said = mend(self._ledger, damage)
        except LedgerTrouble as exc:
            self._complain(str(exc))
            return
        self._dom0.batch.damage = None
        log.error("%s", said, extra=noted(Happening.LEDGER_SET_ASIDE))
        if is_anew:
            self._membership.begin_anew()  # whose next looks put all documents on record
            for served in self._served.values():
                self._want_on_record(served.wanted)
                served.begin_anew()

    def _look_at_documents(self, whereabouts: Whereabouts) -> str:
        """Why the documents could not be looked at, or ""."""
        try:
            changes = self._membership.look(whereabouts)
        except BadFile as exc:
            self._is_more = False
            return str(exc)
        self._is_more = changes.more
        for name in changes.removed:
            self._remove(name, _REMOVED)
        for name, why in changes.left:
            self._remove(name, why)
        for text in changes.complaints:
            log.error("%s", text, extra=noted(Happening.DOCUMENT_BAD))
        for name, error in changes.errors:
            self._put_aside(name, error)
        for wanted in changes.wanted:
            self._want(wanted)
        return ""

    def _want(self, wanted: Wanted) -> None:
        holder = self._keys.get(wanted.key, wanted.name)
        if holder != wanted.name:
            self._refuse(wanted.name, f"{wanted.name}: {wanted.key} has a document already, {holder}'s; cure: remove one")
            return
        served = self._served.get(wanted.name)
        if served is not None and served.wanted.key != wanted.key:
            self._remove(wanted.name, _REMOVED)
            served = None
        self._want_on_record(wanted)
        if served is None:
            self._start(wanted)
        else:
            served.want(wanted)

    def _want_on_record(self, wanted: Wanted) -> None:
        self._record(lambda ledger: ledger.want(wanted.key, wanted.name, wanted.generation, wanted.digest))

    def _start(self, wanted: Wanted) -> None:
        served = Served(self._dom0, wanted)
        self._served[wanted.name], self._keys[wanted.key] = served, wanted.name
        self._untold[wanted.name] = served
        # What an earlier service saw is not true any more: whoever waits for the VM waits for what this one sees.
        self._record(lambda ledger: ledger.stand(wanted.key, State.UNREACHABLE, "the service has begun to look for its channel"))

    def _refuse(self, name: str, error: str) -> None:
        """The same, and say so."""
        log.error("%s", error, extra=noted(Happening.DOCUMENT_BAD, vm=printable(name, 100)))
        self._put_aside(name, error)

    def _put_aside(self, name: str, error: str) -> None:
        """A document cannot be used; the one before it, if any, stays in force."""
        served = self._served.get(name)
        key = name if served is None else served.wanted.key
        self._record(lambda ledger: ledger.document_error(key, name, error))

    def _remove(self, name: str, why: str) -> None:
        """There is no document any more, or not for this host: the VM is left as it is, and alone."""
        served = self._served.pop(name, None)
        self._untold.pop(name, None)
        if served is None:
            self._record(lambda ledger: ledger.stand(name, State.REMOVED, why))
            return
        log.info("%s: %s; the VM is left as it is", printable(name, 100), why)
        del self._keys[served.wanted.key]
        served.forget()
        key = served.wanted.key
        self._record(lambda ledger: ledger.stand(key, State.REMOVED, why))

    def _record(self, record: Callable[[Ledger], None]) -> None:
        self._dom0.batch.write(record)

    def _complain(self, text: str) -> None:
        if text and text != self._complaint:
            log.error("%s; what was read before stays in force", text)
        self._complaint = text


def _set(*events: asyncio.Event) -> None:
    for event in events:
        event.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until *event* or for so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _first(*waits: Coroutine[Any, Any, object], within: float) -> None:
    """Wait *within* seconds until one of *waits* is over."""
    tasks = [asyncio.create_task(each) for each in waits]
    await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
