# SPDX-License-Identifier: Apache-2.0
"""One conversation with one guest: greet until answered, judge its key, deliver, ask now and then whether it is there.

It is told bytes and the time, and never asks for either; `host_agent.talk.drive` is what tells it. What it writes to the ledger
must be committed before what it has to send is sent.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from host_agent.ledger.standing import Moment, State
from host_agent.log.allowance import Allowance
from host_agent.talk.asleep import Asleep, pack, unpack
from host_agent.talk.delivery import Delivery
from host_agent.talk.generation import InForce
from host_agent.talk.judgement import judge, refusal_text
from host_agent.talk.machine import Machine
from host_agent.talk.notices import Notice, What
from host_agent.talk.tally import Tally
from host_agent.talk.timing import DEFAULT, Timing
from host_agent.who import SERVICE
from pv_channel.errors import PeerError
from pv_channel.messages import Ping, Pong
from pv_channel.session import FromGuest, Heard, Host, Lost, Refused, Sealed
from pv_channel.states import State as End
from pv_channel.text import printable
from pv_channel.trust import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.documents.document_file import Wanted
    from host_agent.keys import Identity
    from host_agent.ledger.known import Known
    from host_agent.ledger.ledger import Ledger
    from host_agent.talk.confirmation import Asked, Verdict
    from pv_channel.messages import GuestMessage, Hello
    from pv_channel.session import HostEvent


#: So many greetings at once on account of what a guest does, and then one in so many seconds. A handshake costs us as much as
#: a hundred other lines: a guest may restart, but not spin.
SOON: Final = Allowance(32, 5.0)


def _never() -> str:
    """Why no generation may be sent: whatever is wanted may."""
    return ""


class Conversation:
    """The host's part over one byte stream. What takes *now* may change `next_deadline` and what there is to send."""

    __slots__ = (
        "_asked_from", "_asking_whether_in_force", "_delivery", "_dry_run", "_greeted_at", "_greetings", "_has_greeted",
        "_hurried", "_key", "_ledger", "_machine", "_next_count", "_ping_open", "_pings", "_tally", "_tell", "_timing",
        "_wanted", "_who", "end", "next_deadline", "was_sealed",
    )  # fmt: skip

    def __init__(
        self,
        wanted: Wanted,
        channel: bytes,
        identity: Identity,
        ledger: Ledger,
        tell: Callable[[Notice], None],
        *,
        now: float,
        timing: Timing = DEFAULT,
        who: str = SERVICE,
        dry_run: bool = False,
        withheld: Callable[[], str] = _never,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.end = Host(
            channel=channel, uuid=wanted.uuid, key=identity.key, certificate=identity.certificate, random_bytes=random_bytes
        )
        self.next_deadline = now
        self.was_sealed = False
        self._wanted, self._ledger, self._tell, self._timing = wanted, ledger, tell, timing
        self._key = wanted.key
        self._greetings = 0
        self._has_greeted = False
        self._hurried = 0.0
        self._greeted_at = now - timing.between_greetings
        self._dry_run = dry_run
        self._who = who
        self._delivery = Delivery(wanted, ledger, tell, self.end, timing, who=who, dry_run=dry_run, withheld=withheld)
        self._machine = Machine(self._key, ledger, tell)
        self._tally = Tally(self.end)
        self._next_count = now + timing.ping_every
        self._pings = 0
        self._ping_open = False
        #: The number of the first question to a guest that works which is not answered, or 0.
        self._asked_from = 0
        self._asking_whether_in_force = False

    def want(self, wanted: Wanted, now: float) -> None:
        """The guest should become *wanted* from now on: now if it can be said now, else as soon as it can."""
        self._wanted = self._delivery.wanted = wanted
        if self.end.state is End.SEALED and not self._delivery.under_way:
            self._deliver(now)

    def again(self, now: float) -> None:
        """If an operator wants all of it applied again, do that: now if it can be said now, else as soon as it can."""
        if not self._dry_run and not self._delivery.is_withheld and self._ledger.wants_reprovisioning(self._key):
            self._delivery.again()
            if self.end.state is End.SEALED and not self._delivery.under_way:
                self._deliver(now)

    def be(self, identity: Identity, now: float) -> None:
        """This host is *identity* from now on. A live session goes on as it is; a guest that has not answered is greeted anew."""
        self.end.be(identity.key, identity.certificate)
        if self.end.state is not End.SEALED:
            self.next_deadline = min(self.next_deadline, max(now, self._greeted_at + self._timing.between_greetings))

    def to_look_at(self) -> Asked | None:
        """What dom0 has to look at before the guest's network may stay, once; `decided` is to be told what was seen."""
        return self._delivery.to_look_at()

    def decided(self, verdict: Verdict) -> None:
        """This was seen. A guest that does not wait for it any more is told nothing."""
        self._delivery.decided(verdict)

    def receive(self, data: bytes, now: float) -> None:
        """Take what came from the stream. All of it has happened to the end already: a session sealed here may be over again."""
        for event in self.end.receive(data):
            self._take(event, now)

    def tick(self, now: float, backlog: int) -> None:
        """Do what is due. *backlog* is how many bytes of ours the other end of the stream has not read yet."""
        if now < self.next_deadline:
            return
        if self.end.state is not End.SEALED:
            self._greet(now, backlog)
        elif self._delivery.under_way:
            if now >= self._delivery.deadline:
                self._lost(self.end.abandon("the guest took the document and gave no result in time").reason, now)
            else:
                self._ask_meanwhile(now, backlog)
        elif self._ping_open:
            self._lost(self.end.abandon("the guest did not answer in time whether it is there").reason, now)
        else:
            self._ping(now)

    def data_to_send(self) -> bytes:
        """What to write to the stream now; first commit the ledger."""
        try:
            said = self.end.data_to_send()
        except PeerError as exc:  # a session's sequence numbers are used up
            self._lost(self.end.abandon(str(exc)).reason, self._greeted_at)
            return b""
        self.end.rest()
        return said

    def asleep(self) -> bytes | None:
        """What another conversation goes on from that is made `awake`, while nothing is asked of the guest; else None."""
        if self._ping_open or self._asked_from or self._dry_run:
            return None
        end, delivery = self.end.asleep(), self._delivery.asleep()
        if end is None or delivery is None:
            return None
        self._wanted.rest()
        return pack(
            Asleep(
                end, delivery, self.next_deadline, self._greeted_at, self._hurried, self._next_count, self._pings,
                self._tally.last, self._machine.told,
            )
        )  # fmt: skip

    def awake(self, packed: bytes) -> None:
        """Go on from where the one stood that *packed* itself."""
        state = unpack(packed)
        self.end.awake(state.end)
        self._delivery.awake(state.delivery)
        self.next_deadline, self._greeted_at, self._hurried = state.next_deadline, state.greeted_at, state.hurried
        self._next_count, self._pings = state.next_count, state.pings
        self._tally.last, self._machine.told = state.counted, state.told
        self.was_sealed = self._has_greeted = True

    def leave(self) -> None:
        """End the session, if there is one, because we go: what there is to send then acknowledges what the guest said."""
        if self.end.state is End.SEALED:
            self.end.abandon("leaving")

    def over(self, why: str) -> None:
        """The stream is over, because of *why*."""
        self._count()
        if self._has_greeted:
            self._moment(Moment.LOST, why)

    def _greet(self, now: float, backlog: int) -> None:
        """Greet, unless the last greeting still lies unread: a guest that was off must not find hours of them."""
        if backlog == 0:
            self.end.greet()
            self._greeted_at = now
            if self._greetings == 0:
                self._has_greeted = True
                self._moment(Moment.GREETING)
                self._stand(State.GREETING, "the guest has not answered yet")
                self._tell(Notice(What.GREETING, "greeting the guest"))
        if now >= self._next_count:
            self._next_count = now + self._timing.ping_every
            self._count()
        self._greet_later(now)

    def _greet_later(self, now: float) -> None:
        steps = self._timing.first_greetings
        self.next_deadline = now + (steps[self._greetings] if self._greetings < len(steps) else self._timing.greeting_every)
        self._greetings += 1

    def _greet_soon(self, now: float) -> bool:
        """Greet at once; False, and nothing changes, where the guest has brought that about too often."""
        hurried = SOON.take(self._hurried, now)
        if hurried is None:
            return False
        self._hurried, self.next_deadline = hurried, self._soonest
        return True

    @property
    def _soonest(self) -> float:
        return self._greeted_at + self._timing.between_greetings

    def _take(self, event: HostEvent, now: float) -> None:
        match event:
            case FromGuest(message):
                self._ledger.heard(self._key)
                self._hear(message, now)
            case Sealed(guest_key, hello):
                if self.end.state is not End.SEALED:
                    return  # and what ended it follows
                self._meet(guest_key, hello, now)
            case Heard():
                if self.end.state is not End.SEALED and self.next_deadline > self._soonest:
                    self._greet_soon(now)
            case Refused(refusal, detail):
                self._refused(Refused(refusal, detail), now)
            case Lost(reason):
                self._lost(reason, now)

    def _meet(self, guest_key: bytes, hello: Hello, now: float) -> None:
        """A guest proved that it holds *guest_key*; nothing of the document leaves unless that is the right one."""
        wanted = self._wanted
        meeting = self._ledger.meet(self._key, wanted.name, guest_key, counts=not self._dry_run)
        judgement = judge(self._key, guest_key, meeting)
        if judgement.blocked is not None:
            if meeting.known.rival_key is None:  # a guest can have the same said again and again
                self._ledger.audit(self._key, self._who, judgement.text)
            self._ledger.block(self._key, judgement.blocked.value, judgement.rival_key, judgement.text)
            self.end.abandon(judgement.text)
            self.next_deadline = now + self._timing.after_refusal
            self._tell(Notice(judgement.blocked, judgement.text))
            return
        shown = fingerprint(guest_key)
        if judgement.pin:
            self._ledger.pin(self._key, guest_key)
            self._ledger.audit(self._key, self._who, f"pinned the guest's key {shown}: {_how(meeting.known)}")
        self.was_sealed = True
        how = _how(meeting.known) if judgement.pin else "as pinned"
        self._moment(Moment.SEALED, how)
        agent = printable(hello.agent, 32)
        text = f"sealed with the guest's key {shown}, {how}; its agent is {agent}"
        self._tell(Notice(What.MET, text, is_first=judgement.pin))
        self._delivery.begin(InForce(hello.instance_id, hello.generation, hello.digest), meeting.known, agent)
        self._deliver(now)

    def _deliver(self, now: float) -> None:
        """Send the document, or where the guest has it already ask for a sign of life: the host speaks first in a session."""
        self._asking_whether_in_force = not self._delivery.send(now)
        if self._asking_whether_in_force:
            self._ping(now)
        else:
            self._ping_open = False
            self._look_later(now)

    def _look_later(self, now: float) -> None:
        """The guest works on what it was sent: next comes a question whether it is there, or the end of our patience."""
        self.next_deadline = min(now + self._timing.while_working, self._delivery.deadline)

    def _ask_meanwhile(self, now: float, backlog: int) -> None:
        """Ask a guest that works, which answers when it can: an agent that died of it and runs again says so at once."""
        if backlog == 0:
            self._pings += 1
            self._asked_from = self._asked_from or self._pings
            self.end.send(Ping(self._pings))
        self._look_later(now)

    def _ping(self, now: float) -> None:
        self._pings += 1
        self._ping_open = True
        self.end.send(Ping(self._pings))
        self.next_deadline = now + self._timing.pong

    def _hear(self, message: GuestMessage, now: float) -> None:
        if isinstance(message, Pong):
            if message.n == self._pings and self._ping_open:
                self._is_there(message, now)
            elif 0 < self._asked_from <= message.n <= self._pings:
                self._asked_from = 0 if message.n == self._pings else message.n + 1
                self._heartbeat(message, now)
        elif self._delivery.hear(message, now):
            self._greetings = 0
            self.next_deadline = now + self._timing.first_ping
            self._count()
            if self._delivery.has_more and self.end.state is End.SEALED:
                self._deliver(now)
        elif self._delivery.under_way:
            self._look_later(now)

    def _is_there(self, pong: Pong, now: float) -> None:
        """The guest is there, and says what it is where that is news."""
        self._ping_open = False
        self.next_deadline = now + self._timing.ping_every
        self._heartbeat(pong, now)
        if self._asking_whether_in_force:
            self._asking_whether_in_force = False
            self._greetings = 0
            self.next_deadline = now + self._timing.first_ping
            self._delivery.still_there()

    def _heartbeat(self, pong: Pong, now: float) -> None:
        """A guest said that it is there, and perhaps what it is; on record, unless this is only to see what would be."""
        if not self._dry_run:
            self._count()
            self._ledger.heartbeat(self._key)
            if pong.facts is not msgspec.UNSET:
                self._machine.hear(pong.facts, now)

    def _refused(self, refused: Refused, now: float) -> None:
        text = refusal_text(refused, self._wanted)
        self._stand(State.REFUSED, text)
        self.next_deadline = now + self._timing.after_refusal
        self._tell(Notice(What.REFUSED, text, refusal=refused.refusal))

    def _lost(self, reason: str, now: float) -> None:
        """The session is over: greet again at once, unless the guest has had that too often; then in slower and slower steps."""
        self._delivery.over()
        self._ping_open, self._asked_from = False, 0
        text = f"the session ended: {printable(reason, 200)}"
        self._stand(State.GREETING, text)
        self._moment(Moment.LOST, printable(reason, 200))
        self._tell(Notice(What.LOST, text))
        if not self._greet_soon(now):
            self._greet_later(now)

    def _count(self) -> None:
        """Put on record how many lines were dropped since the last time."""
        counted = self._tally.growth()
        if counted is not None and not self._dry_run:
            self._ledger.counted(self._key, counted)

    def _moment(self, what: str, detail: str = "") -> None:
        """On record, unless this is only to see what would be."""
        if not self._dry_run:
            self._ledger.moment(self._key, what, detail)

    def _stand(self, state: str, text: str) -> None:
        """On record, unless this is only to see what would be."""
        if not self._dry_run:
            self._ledger.stand(self._key, state, text)


def _how(known: Known) -> str:
    """How a guest is met whose key is not on record."""
    return "met again after the ledger was lost, and pinned anew" if known.lost else "met for the first time, and pinned"
