# SPDX-License-Identifier: Apache-2.0
"""One VM that is served: connect, converse, and begin again, for as long as there is a document for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.channels.descriptors import NO_DESCRIPTORS
from host_agent.channels.endpoint import domid_of
from host_agent.channels.peer import SQUATTED
from host_agent.channels.place import News, Place
from host_agent.channels.whereabouts import Nowhere
from host_agent.errors import LedgerTrouble, Unreachable, shown
from host_agent.ledger.standing import Moment, State
from host_agent.log.happenings import Happening, noted
from host_agent.log.teller import Teller
from host_agent.log.telling import telling
from host_agent.supervision import RESTART_SECONDS
from host_agent.talk.backoff import Backoff
from host_agent.talk.conversation import Conversation
from host_agent.talk.drive import Batch, Drive
from host_agent.talk.notices import What
from host_agent.talk.silence import Silence
from host_agent.who import SERVICE
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.channels.endpoint import Endpoint
    from host_agent.documents.document_file import Wanted
    from host_agent.keys import Identity
    from host_agent.ledger.ledger import Ledger
    from host_agent.membership import Membership
    from host_agent.talk.notices import Notice
    from host_agent.talk.timing import Timing


log = logging.getLogger("pv-host-agent")

#: What an operator has to do something about.
_LEVELS: Final = {SQUATTED: logging.ERROR, NO_DESCRIPTORS: logging.ERROR}


class Dom0(NamedTuple):
    """What all VMs of this host share."""

    channel: bytes
    #: Who this host is now: its key may be read again.
    identity: Callable[[], Identity]
    ledger: Ledger
    batch: Batch
    timing: Timing
    #: With whom this host shares its VMs.
    membership: Membership


class Served:
    """The VM that *wanted* names. It has no task: `found` and the clock say when there is something to do."""

    __slots__ = (
        "_backoff", "_clock", "_dom0", "_drive", "_hurries", "_is_left", "_place", "_silence", "_slot", "_stands", "teller",
        "wanted",
    )  # fmt: skip

    def __init__(self, dom0: Dom0, wanted: Wanted) -> None:
        self.wanted = wanted
        self._dom0, self._clock = dom0, dom0.batch.clock
        self._place = Place(dom0.timing.missing, dom0.timing.nowhere)
        self._drive: Drive | None = None
        self._silence: Silence | None = None
        self._backoff: Backoff | None = None
        self._slot = 0
        self._hurries = self._is_left = False
        self._stands = ""
        self.teller = Teller(wanted.name, self._record, self._clock)
        self._about(None)

    def want(self, wanted: Wanted) -> None:
        """The VM should become *wanted* from now on."""
        self.wanted = wanted
        self.teller.again()
        if self._drive is not None:
            self._drive.want(wanted)

    def again(self) -> None:
        """An operator wants all of it applied again; a guest that is away has that when it comes."""
        if self._drive is not None:
            self._drive.again()

    def be(self, identity: Identity) -> None:
        """This host is *identity* from now on."""
        if self._drive is not None:
            self._drive.be(identity)

    def found(self, where: Endpoint | Nowhere) -> None:
        """The VM's channel is there now, or nowhere."""
        if self._drive is not None and self._drive.is_live and self._place.is_as_before(where):
            return  # as with ten thousand VMs in each second
        now, was_nowhere = self._clock(), isinstance(self._place.where, Nowhere)
        news = self._place.found(where, now)
        if isinstance(where, Nowhere):
            if news is News.GONE:
                self._about(None)
                self._write(lambda ledger: ledger.gone(self.wanted.key))
            if self._drive is None and (not where.wrong or self._place.is_nowhere(now)):
                self._stand(State.UNREACHABLE, where.why, logging.WARNING if where.wrong else logging.INFO)
        elif news is News.SEEN:
            self._seen(where)
        elif news is News.WHOSE:
            self._about(domid_of(where))
            self._write(lambda ledger: ledger.belongs(self.wanted.key, domid_of(where)))
        if news in (News.SEEN, News.MISSING) or (was_nowhere and not isinstance(where, Nowhere)):
            self._hurry(now)
        if self._drive is not None:
            self._look_at_stream(self._drive, now)

    def begin_anew(self) -> None:
        """The ledger was begun anew: where the channel is goes on record once more, and its guest has to be met again."""
        where = self._place.where
        if not isinstance(where, Nowhere):
            self._record_place(where)
        if self._drive is not None:
            self._drive.leave("the ledger was begun anew, so the guest has to be met again")

    def leave(self) -> None:
        """Leave the stream, and have no other."""
        self._is_left = True
        self._dom0.batch.wheel.forget(self._slot, self)
        if self._drive is not None:
            self._drive.leave("no longer served")

    def forget(self) -> None:
        """The VM is not served any more."""
        self.leave()
        self._place.forget()

    def wake(self) -> None:
        """Have a stream, if there is none and it is known where. A fault of ours in that is this VM's alone."""
        where = self._place.where
        if self._drive is not None or self._is_left or isinstance(where, Nowhere):
            return
        self._hurries = False
        try:
            self._connect(where)
        except Unreachable as exc:
            self._unreachable(exc)
            self._try_again()
        except Exception as exc:  # noqa: BLE001 -- of ten thousand VMs; it is said, and tried again
            self._faulty(exc)

    def _hurry(self, now: float) -> None:
        """What has changed is worth an attempt now, or as soon as the present stream is over."""
        self._hurries = True
        if self._drive is None:
            self._wake_at(now)

    def _wake_at(self, when: float) -> None:
        wheel = self._dom0.batch.wheel
        wheel.forget(self._slot, self)
        self._slot = wheel.wake_at(when, self)

    def _try_again(self) -> None:
        """A little later than the last time, or now."""
        self._backoff = self._backoff or Backoff()
        wait = self._backoff.next()
        self._wake_at(self._clock() + (0 if self._hurries else wait))

    def _faulty(self, exc: Exception) -> None:
        name = printable(self.wanted.name)
        again = "%s: a fault in pv-host-agent; this VM is served again in %g s"
        log.error(again, name, RESTART_SECONDS, exc_info=exc, extra=noted(Happening.FAULT, vm=name))
        self._wake_at(self._clock() + RESTART_SECONDS)

    def _connect(self, where: Endpoint) -> None:
        """Begin a stream; raise `Unreachable`."""
        descriptor, put_back = self._place.open(where, self._clock())
        if self._place.is_first_met(where):
            self._seen(where)
        if put_back:
            self._tell_put_back()
        self._write(lambda ledger: ledger.moment(self.wanted.key, Moment.CONNECTED, shown(where.path)))
        self._silence = self._begin_silence()
        self._drive = Drive(descriptor, self._dom0.batch, self)
        self._drive.begin()

    def _begin_silence(self) -> Silence | None:
        """From now on nobody answers, until somebody does."""
        where = self._place.where
        return None if isinstance(where, Nowhere) else Silence(where.path, self._dom0.timing, self._clock())

    def over(self, why: str | Exception) -> None:
        """The stream is over: have another, sooner where a guest has answered on this one."""
        drive, self._drive = self._drive, None
        if self._is_left:
            return
        if isinstance(why, LedgerTrouble):
            self._stand(State.UNREACHABLE, str(why), logging.DEBUG)  # it is every VM's: the service says it once
        elif isinstance(why, Exception):
            self._faulty(why)
            return
        else:
            self._stand(State.UNREACHABLE, why, logging.INFO)
            if drive is not None and drive.conversation.was_sealed:
                self._backoff = None
        self._try_again()

    def _look_at_stream(self, drive: Drive, now: float) -> None:
        """See that the stream is the one to have, and whether anybody answers on it."""
        if self._place.mend(now):
            self._tell_put_back()
        live = drive.is_live
        stale = self._place.stale(now, live=live)
        if stale:
            drive.leave(stale)
        elif self._silence is not None and not live:
            stands = self._silence.look(drive.backlog(), drive.conversation.end, now)
            if stands is not None:
                self._stand(*stands, logging.INFO, Happening.SILENT)

    def begin(self, now: float) -> Conversation:
        """A conversation with its guest."""
        dom0 = self._dom0
        return Conversation(
            self.wanted, dom0.channel, dom0.identity(), dom0.ledger, self._hear, now=now, timing=dom0.timing,
            withheld=self._withheld,
        )  # fmt: skip

    def _withheld(self) -> str:
        return self._dom0.membership.withheld(self.wanted.key)

    def _hear(self, notice: Notice) -> None:
        self._dom0.membership.noted(self.wanted.key)
        self._stands = ""
        self._dom0.batch.counts.heard(notice)
        if notice.what is What.LOST:
            self._silence = self._begin_silence()
        elif notice.what is not What.GREETING:
            self._silence = None
        self.teller.hear(telling(notice, self.wanted))

    def _seen(self, where: Endpoint) -> None:
        """Its channel is there, and is another one than the one before: what was said of that one is news if it comes again."""
        self.teller.again()
        self._about(domid_of(where))
        self.teller.tell(logging.INFO, f"its channel is at {shown(where.path)}", Happening.SEEN)
        self._record_place(where)

    def _record_place(self, where: Endpoint) -> None:
        self._write(lambda ledger: ledger.seen(self.wanted.key, domid_of(where), shown(where.path)))

    def _unreachable(self, exc: Unreachable) -> None:
        self._dom0.batch.counts.unreachable[exc.word] += 1
        squatted = exc.word == SQUATTED
        if squatted and self._stands != str(exc):
            self._write(lambda ledger: ledger.audit(self.wanted.key, SERVICE, str(exc)))
        happening = Happening.SQUATTED if squatted else Happening.UNREACHABLE
        self._stand(State.UNREACHABLE, str(exc), _LEVELS.get(exc.word, logging.INFO), happening)

    def _tell_put_back(self) -> None:
        self.teller.tell(logging.WARNING, "its socket was removed, as a dying QEMU of an earlier life does; it was put back")

    def _about(self, domid: int | None) -> None:
        """What the journal is told of the VM with every line."""
        wanted = self.wanted
        self.teller.about |= {"uuid": "" if wanted.key == wanted.name else wanted.key, "domid": domid}

    def _stand(self, state: str, detail: str, level: int, happening: Happening = Happening.UNREACHABLE) -> None:
        """Nobody answers, because of *detail*; on record where that is news."""
        self.teller.tell_once(level, detail, happening)
        if self._stands != detail:
            self._stands = detail
            self._write(lambda ledger: ledger.stand(self.wanted.key, state, detail))

    def _record(self, text: str) -> None:
        self._write(lambda ledger: ledger.event(self.wanted.key, text))

    def _write(self, record: Callable[[Ledger], None]) -> None:
        self._dom0.membership.noted(self.wanted.key)
        self._dom0.batch.write(record)
