# SPDX-License-Identifier: Apache-2.0
"""One VM that is served: connect, converse, and begin again, for as long as there is a document for it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.answer import why
from host_agent.backoff import Backoff
from host_agent.conversation import Conversation
from host_agent.drive import Batch, Drive
from host_agent.errors import LedgerTrouble, Unreachable, shown
from host_agent.notices import What
from host_agent.peer import SQUATTED
from host_agent.place import News, Place
from host_agent.silence import Silence
from host_agent.standing import Moment, State
from host_agent.teller import Teller
from host_agent.whereabouts import Nowhere
from host_agent.who import SERVICE
from pv_channel.messages import Outcome
from pv_channel.states import State as End
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.document_file import Wanted
    from host_agent.endpoint import Endpoint
    from host_agent.keys import Identity
    from host_agent.ledger import Ledger
    from host_agent.notices import Notice, Settlement
    from host_agent.timing import Timing

#: What may come again and again without anything having changed, and is said once.
_LEVEL: Final = {
    What.LOST: logging.WARNING, What.REFUSED: logging.WARNING, What.KEY_CHANGED: logging.ERROR, What.KEY_SHARED: logging.ERROR,
}  # fmt: skip


class Dom0(NamedTuple):
    """What all VMs of this host share."""

    channel: bytes
    identity: Identity
    ledger: Ledger
    batch: Batch
    timing: Timing


class Served:
    """The VM that *wanted* names."""

    def __init__(self, dom0: Dom0, wanted: Wanted) -> None:
        self.wanted = wanted
        self._dom0, self._clock = dom0, asyncio.get_running_loop().time
        self._place = Place(dom0.timing.missing)
        self._drive: Drive | None = None
        self._silence: Silence | None = None
        self._wake = asyncio.Event()
        self._stands = ""
        self.teller = Teller(wanted.name, self._record, self._clock)

    def want(self, wanted: Wanted) -> None:
        """The VM should become *wanted* from now on."""
        self.wanted = wanted
        self.teller.again()
        if self._drive is not None:
            self._drive.want(wanted)

    def found(self, where: Endpoint | Nowhere) -> None:
        """The VM's channel is there now, or nowhere."""
        now, was_nowhere = self._clock(), isinstance(self._place.where, Nowhere)
        news = self._place.found(where, now)
        if isinstance(where, Nowhere):
            if news is News.GONE:
                self._write(lambda ledger: ledger.gone(self.wanted.key))
            if self._drive is None:
                self._stand(State.UNREACHABLE, where.why, logging.WARNING if where.wrong else logging.INFO)
        elif news is News.SEEN:
            self._seen(where)
        if news in (News.SEEN, News.MISSING) or (was_nowhere and not isinstance(where, Nowhere)):
            self._wake.set()
        if self._drive is not None:
            self._look_at_stream(self._drive, now)

    def forget(self) -> None:
        """The VM is not served any more."""
        self._place.forget()

    async def serve(self) -> None:
        """Serve until cancelled. Only a fault of ours comes out as another exception."""
        backoff = Backoff()
        while True:
            self._wake.clear()
            where = self._place.where
            if isinstance(where, Nowhere):
                await self._wake.wait()
                continue
            try:
                if await self._converse(where):
                    backoff.reset()
            except Unreachable as exc:
                self._unreachable(exc)
            except LedgerTrouble as exc:
                self._stand(State.UNREACHABLE, str(exc), logging.ERROR)
            await self._wait(backoff.next())

    async def _converse(self, where: Endpoint) -> bool:
        """One stream from its beginning to its end; whether the guest answered on it."""
        descriptor, put_back = self._place.open(where, self._clock())
        if put_back:
            self._tell_put_back()
        self._write(lambda ledger: ledger.moment(self.wanted.key, Moment.CONNECTED, shown(where.path)))
        self._silence = Silence(where.path, self._dom0.timing, self._clock())
        drive = Drive(descriptor, self._dom0.batch, self._begin)
        self._drive = drive
        try:
            reason = await drive.closed
        finally:
            self._drive = None
            drive.leave("no longer served")
        self._stand(State.UNREACHABLE, reason, logging.INFO)
        return drive.conversation.was_sealed

    def _look_at_stream(self, drive: Drive, now: float) -> None:
        """See that the stream is the one to have, and whether anybody answers on it."""
        if self._place.mend(now):
            self._tell_put_back()
        live = drive.conversation.end.state is End.SEALED
        stale = self._place.stale(now, live=live)
        if stale:
            drive.leave(stale)
        elif self._silence is not None and not live:
            stands = self._silence.look(drive.backlog(), drive.conversation.end, now)
            if stands is not None:
                self._stand(*stands, logging.INFO)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _begin(self, now: float) -> Conversation:
        dom0 = self._dom0
        return Conversation(
            self.wanted, dom0.channel, dom0.identity, dom0.ledger, self._hear, now=now, timing=dom0.timing
        )

    def _hear(self, notice: Notice) -> None:
        self._stands = ""
        if self._silence is not None and notice.what is not What.GREETING:
            self._silence.heard(self._clock(), over=notice.what is What.LOST)
        if notice.settlement is not None:
            self.teller.tell(*_of_settlement(notice.text, notice.settlement))
        elif notice.reported is not None:
            failed = any(item.outcome is Outcome.FAILED for item in notice.reported)
            self.teller.tell(logging.WARNING if failed else logging.INFO, notice.text)
        elif notice.what in (What.UNCONFIRMED, What.CONFIRMED, What.REJECTED):
            self.teller.tell(logging.WARNING if notice.what is What.REJECTED else logging.INFO, notice.text)
        elif notice.what in (What.MET, What.SENDING):
            self.teller.again()
            self.teller.tell(logging.INFO, notice.text)
        elif notice.what in _LEVEL:
            self.teller.tell_once(_LEVEL[notice.what], notice.text)

    def _seen(self, where: Endpoint) -> None:
        """Its channel is there, and is another one than the one before: what was said of that one is news if it comes again."""
        self.teller.again()
        domid = None if where.domain is None else where.domain.domid
        self._write(lambda ledger: ledger.seen(self.wanted.key, domid, shown(where.path)))

    def _unreachable(self, exc: Unreachable) -> None:
        squatted = exc.word == SQUATTED
        if squatted and self._stands != str(exc):
            self._write(lambda ledger: ledger.audit(self.wanted.key, SERVICE, str(exc)))
        self._stand(State.UNREACHABLE, str(exc), logging.ERROR if squatted else logging.INFO)

    def _tell_put_back(self) -> None:
        self.teller.tell(logging.WARNING, "its socket was removed, as a dying QEMU of an earlier life does; it was put back")

    def _stand(self, state: str, detail: str, level: int) -> None:
        """Nobody answers, because of *detail*; on record where that is news."""
        self.teller.tell_once(level, detail)
        if self._stands != detail:
            self._stands = detail
            self._write(lambda ledger: ledger.stand(self.wanted.key, state, detail))

    def _record(self, text: str) -> None:
        self._write(lambda ledger: ledger.event(self.wanted.key, text))

    def _write(self, record: Callable[[Ledger], None]) -> None:
        self._dom0.batch.write(record)


def _of_settlement(text: str, settlement: Settlement) -> tuple[int, str]:
    under_way = f"; under way: {', '.join(printable(item, 40) for item in settlement.pending)}" if settlement.pending else ""
    if settlement.good:
        return logging.INFO, text + under_way
    return logging.WARNING, f"{text}: {why(settlement)}"
