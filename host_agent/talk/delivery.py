# SPDX-License-Identifier: Apache-2.0
"""One document on its way to one guest: sent, worked on, confirmed, answered, and reported on; or only asked for its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from host_agent.documents.host_names import called
from host_agent.ledger.known import Known
from host_agent.ledger.standing import Moment, State
from host_agent.talk.answer import item_text
from host_agent.talk.asleep import DeliveryAsleep
from host_agent.talk.confirmation import Asked, asked, at_once, waits_for
from host_agent.talk.generation import InForce, is_in_force, is_settled, to_send
from host_agent.talk.notices import Notice, Settlement, What
from pv_channel.messages import (
    MAX_CONFIRM_SECONDS,
    Outcome,
    Plan,
    Planned,
    Progress,
    Provision,
    Reject,
    Report,
    Result,
    Unconfirmed,
)
from pv_channel.states import State as End

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.documents.document_file import Wanted
    from host_agent.ledger.ledger import Ledger
    from host_agent.talk.confirmation import Verdict
    from host_agent.talk.timing import Timing
    from pv_channel.host import Host
    from pv_channel.messages import GuestMessage, HostMessage, ItemResult

_IN_FORCE: Final = (Outcome.APPLIED, Outcome.UNCHANGED)
#: Enough of a digest to tell documents apart by eye.
_SHOWN_DIGEST: Final = 12


_UNKNOWN: Final = Known()
_NOTHING: Final = InForce("", 0, "")


class _Sent(NamedTuple):
    """A document that is under way. *give_up* is when its guest has had time enough, *at_most* the latest that that can be."""

    wanted: Wanted
    generation: int
    give_up: float
    at_most: float


class Delivery:
    """What the guest of one stream is told and asked about its document. `deadline` is of use while something is `under_way`."""

    __slots__ = (
        "_agent", "_asked", "_asked_about", "_dry_run", "_end", "_guest", "_key", "_known", "_last", "_ledger",
        "_reported", "_sent", "_tell", "_timing", "_to_look_at", "_who", "_withheld", "_working_on", "deadline",
        "is_withheld", "wanted",
    )  # fmt: skip

    def __init__(
        self, wanted: Wanted, ledger: Ledger, tell: Callable[[Notice], None], end: Host, timing: Timing,
        *, who: str, dry_run: bool, withheld: Callable[[], str],
    ) -> None:  # fmt: skip
        self.wanted = wanted
        self._key = wanted.key
        self.deadline = 0.0
        self._ledger, self._tell, self._end, self._timing, self._dry_run = ledger, tell, end, timing, dry_run
        self._who = who
        self._withheld = withheld
        #: Whether something is to be sent that may not be now.
        self.is_withheld = False
        self._last = wanted
        self._agent = ""
        self._known = _UNKNOWN
        self._guest = _NOTHING
        self._sent: _Sent | None = None
        self._working_on = ""
        self._asked: Asked | None = None
        self._asked_about: tuple[bool, ...] = ()
        self._to_look_at: Asked | None = None
        self._reported: dict[str, ItemResult] | None = None

    @property
    def under_way(self) -> bool:
        """Whether an answer is waited for."""
        return self._sent is not None

    @property
    def has_more(self) -> bool:
        """Whether the guest is to become something else than what it was last sent, or that once more."""
        return self._sent is None and (self._last is not self.wanted or self._known.reprovision)

    def begin(self, guest: InForce, known: Known, agent: str) -> None:
        """A session has begun with a guest that has *guest* in force."""
        self.over()
        self._guest, self._known, self._agent = guest, known, agent

    def asleep(self) -> DeliveryAsleep | None:
        """What it goes on from, where nothing is on its way and nothing else is wanted; else None."""
        if self._sent or self._to_look_at or self._reported or self._last is not self.wanted:
            return None
        guest = None if self._guest == _sent_last(self._known) else self._guest
        return DeliveryAsleep(self._agent, self._known, guest, self.is_withheld, self._asked_about)

    def awake(self, state: DeliveryAsleep) -> None:
        """Go on from *state*."""
        self._agent, self._known, self._guest = state.agent, state.known, state.guest or _sent_last(state.known)
        self.is_withheld, self._asked_about = state.is_withheld, state.asked_about

    def over(self) -> None:
        """The session is over, and with it all that was said in it."""
        self._sent = self._asked = None
        self._asked_about = ()
        self._reported = None

    def again(self) -> None:
        """An operator wants it all applied again, as another generation: by the next `send`."""
        self._known = self._known._replace(reprovision=True)

    def send(self, now: float) -> bool:
        """Send the document, or ask what it would take; False where nothing is sent: the guest has it, or it is withheld."""
        self._last = wanted = self.wanted
        self.is_withheld = False
        if self._dry_run:
            if is_in_force(wanted, self._guest):
                return False
        else:
            self._refuse_to_renumber()
            if is_settled(wanted, self._guest, self._known):
                self._ledger.in_force(self._key, self._guest.instance_id, self._guest.generation, wanted.digest, self._agent)
                self._ledger.is_called(self._key, called(wanted.document))
                return False
            why = self._withheld()
            if why:
                self._withhold(why)
                return False
        self._send(wanted, to_send(wanted, self._guest, self._known), now)
        return True

    def _withhold(self, why: str) -> None:
        """What is wanted stays wanted; whoever withholds it says when it may be sent."""
        self.is_withheld = True
        self._ledger.stand(self._key, State.PROVISIONING, why)
        self._tell(Notice(What.WITHHELD, why))

    def _refuse_to_renumber(self) -> None:
        """A number that the operator gave is not ours to change, and without a new one the guest applies nothing again."""
        number = self.wanted.generation
        if self._known.reprovision and number is not None and is_in_force(self.wanted, self._guest):
            self._known = self._known._replace(reprovision=False)
            self._ledger.done_with_reprovisioning(self._key)
            text = (
                f"it is not applied again: its document names generation {number}, which is in force; cure: give the document"
                " a higher generation, or none"
            )
            self._tell(Notice(What.NOT_AGAIN, text, generation=number))

    def _send(self, wanted: Wanted, generation: int, now: float) -> None:
        raw = msgspec.Raw(wanted.document.at_generation(generation).encode())
        give_up = now + self._timing.result_at_most
        self._sent = _Sent(wanted, generation, give_up, give_up + MAX_CONFIRM_SECONDS)
        self._asked_about = tuple(about for about in self._asked_about if not about)
        self._reported = None
        self._working_on = ""
        self.deadline = now + self._timing.result
        name = f"generation {generation} of {wanted.instance_id}"
        if self._dry_run:
            self._say(Plan(raw))
            self._tell(Notice(What.SENDING, f"asking what {name} would change, {len(raw)} bytes"))
            return
        if self._is_news(wanted):
            self._ledger.audit(self._key, self._who, f"sent {name}, document {wanted.digest[:_SHOWN_DIGEST]}")
        self._ledger.sending(self._key, wanted.instance_id, generation, wanted.digest)
        self._ledger.moment(self._key, Moment.SENT, name)
        self._known = self._known._replace(
            instance_id=wanted.instance_id, generation_sent=generation, digest_sent=wanted.digest, reprovision=False
        )
        self._say(Provision(raw))
        self._tell(Notice(What.SENDING, f"sending {name}, {len(raw)} bytes", generation=generation))

    def _is_news(self, wanted: Wanted) -> bool:
        """Whether an operator is why it is sent: a guest can have the same sent again and again, and under any number."""
        known = self._known
        return known.reprovision or (known.instance_id, known.digest_sent) != (wanted.instance_id, wanted.digest)

    def still_there(self) -> None:
        """The guest, to which nothing was sent, has given a sign of life: so it is what it shall be, if nothing was withheld."""
        if self.is_withheld:
            return
        generation = self._guest.generation
        self._moment(Moment.IN_FORCE, f"generation {generation} of {self.wanted.instance_id}")
        text = f"generation {generation} is in force already; nothing {'would be' if self._dry_run else 'was'} sent"
        self._settled(Settlement(generation, None), text)

    def hear(self, message: GuestMessage, now: float) -> bool:
        """Take what the guest said; whether that was the answer."""
        match message:
            case Progress(generation, item):
                if self._sent is not None and generation == self._sent.generation:
                    self.deadline = min(now + self._timing.result, self._sent.give_up)
                    self._works_on(item)
                    self._tell(Notice(What.WORKING, f"working on {item}"))
            case Unconfirmed():
                self._unconfirmed(message, now)
            case Report():
                self._report(message)
            case Result():
                return self._conclude(message)
            case Planned():
                return self._planned(message)
        return False

    def to_look_at(self) -> Asked | None:
        """What dom0 has to look at for the guest, once."""
        question, self._to_look_at = self._to_look_at, None
        return question

    def decided(self, verdict: Verdict) -> None:
        """Tell the guest, if it still waits for that."""
        sent = self._sent
        if sent is None or self._asked is None or self._asked.generation != verdict.generation:
            return
        self._asked = None
        self._say(verdict.message())
        what = What.CONFIRMED if verdict.good else What.REJECTED
        self._moment(Moment.CONFIRMED if verdict.good else Moment.REJECTED, verdict.text)
        document = f"{sent.wanted.instance_id}, document {sent.wanted.digest[:_SHOWN_DIGEST]}"
        self._ledger.audit_once(self._key, self._who, f"{what.value} the changed network of {document}")
        text = f"generation {verdict.generation}: the changed network is {what.value}: {verdict.text}"
        self._tell(Notice(what, text, generation=verdict.generation))

    def _unconfirmed(self, message: Unconfirmed, now: float) -> None:
        sent = self._sent
        if self._dry_run:  # and what waits for a host's word goes before our question
            self.deadline = now + message.seconds + self._timing.result
            return
        is_ours = sent is not None and message.generation == sent.generation
        if is_ours in self._asked_about:  # a guest asks once in a session; more would cost us memory and programs
            return
        self._asked_about += (is_ours,)
        if sent is None or not is_ours:
            self._say(Reject(message.generation, "another document is wanted by now"))
            return
        give_up = min(max(sent.give_up, now + message.seconds + self._timing.result), sent.at_most)
        self._sent = sent._replace(give_up=give_up)
        self.deadline = min(now + message.seconds + self._timing.result, give_up)
        self._asked = question = asked(message, sent.wanted)
        text = f"generation {message.generation}: the network has changed; waiting for {waits_for(question.rule)}"
        self._ledger.stand(self._key, State.PROVISIONING, text)
        self._moment(Moment.UNCONFIRMED, f"waiting for {waits_for(question.rule)}")
        self._tell(Notice(What.UNCONFIRMED, f"{text}, at most {question.seconds:g} s", generation=message.generation))
        verdict = at_once(question, message.checks)
        if verdict is None:
            self._to_look_at = question
        else:
            self.decided(verdict)

    def _report(self, report: Report) -> None:
        """Items of a generation that is in force were under way, or still are."""
        generation = report.generation
        if generation == self._guest.generation:
            self._reported = (self._reported or {}) | {item.item: item for item in report.items}
        if not self._dry_run and self._ledger.report(self._key, generation, report.items):
            text = "; ".join(item_text(item) for item in report.items)
            self._moment(Moment.REPORTED, text)
            self._tell(Notice(What.REPORTED, f"generation {generation}: {text}", reported=report.items, generation=generation))

    def _conclude(self, result: Result) -> bool:
        sent = self._sent
        if sent is None or self._dry_run or result.generation not in (0, sent.generation):
            return False
        good = result.outcome in _IN_FORCE
        self._sent = self._asked = None
        so = called(sent.wanted.document) if good else None
        self._ledger.settle(self._key, sent.generation, result, self._agent, applied=good, called=so)
        self._moment(Moment.ANSWERED, result.outcome.value)
        self._known = self._known._replace(generation_items=sent.generation)
        if good:
            self._guest = InForce(sent.wanted.instance_id, sent.generation, sent.wanted.digest)
        self._settled(Settlement(sent.generation, result), f"generation {sent.generation}: {result.outcome.value}")
        return True

    def _planned(self, planned: Planned) -> bool:
        sent = self._sent
        if sent is None or not self._dry_run or planned.generation not in (0, sent.generation):
            return False
        self._sent = None
        self._tell(Notice(What.PLANNED, f"generation {sent.generation}: planned; nothing was touched", planned=planned))
        return True

    def _works_on(self, item: str) -> None:
        if item != self._working_on:  # which a guest may say again and again
            self._working_on = item
            self._moment(Moment.ITEM, item)

    def _say(self, message: HostMessage) -> None:
        """Say it, if the session that it belongs to is not over again."""
        if self._end.state is End.SEALED:
            self._end.send(message)

    def _moment(self, what: str, detail: str) -> None:
        """On record, unless this is only to see what would be."""
        if not self._dry_run:
            self._ledger.moment(self._key, what, detail)

    def _settled(self, settlement: Settlement, text: str) -> None:
        self._tell(Notice(What.SETTLED, text, settlement.knowing(list((self._reported or {}).values()))))


def _sent_last(known: Known) -> InForce:
    """What a guest has in force that took what it was sent last."""
    return InForce(known.instance_id, known.generation_sent, known.digest_sent)
