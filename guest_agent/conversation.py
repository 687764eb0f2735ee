# SPDX-License-Identifier: Apache-2.0
"""One open port's worth of talk with the host: bytes to the session, what it means to the provisioner, the answer back."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from guest_agent.confirming import Waiting
from guest_agent.encounters import of_opened, of_refused
from guest_agent.identity import BadTrust
from guest_agent.port import PortGone
from pv_channel.errors import NotAuthenticated, PeerError
from pv_channel.events import FromHost, Lost, Opened, Refused, WrongChannel
from pv_channel.greeting import uuid_text
from pv_channel.messages import Confirm, Ping, Plan, Pong, Progress, Provision, Reject, Result
from pv_channel.states import State
from pv_channel.text import printable
from pv_channel.trust import Verdict, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from guest_agent.ours import Ours
    from pv_channel.events import GuestEvent
    from pv_channel.messages import Facts, GuestMessage, HostMessage, Unconfirmed

    class Stream(Protocol):
        """What a conversation needs of a port."""

        path: str

        def read(self, seconds: float) -> bytes:
            """What is there, after at most *seconds*; raise `PortGone`."""

        def write(self, data: bytes) -> None:
            """Write all of it; raise `PortGone`."""


#: Answers that wait for a host which asks and never acknowledges; past this it gets no more of them.
MAX_UNSENT: Final = 64 * 1024
#: A host greets every few seconds. Where somebody talks for this long and no host greets, the talk is another application's.
STRANGERS_SECONDS: Final = 20.0
#: Between two looks at what became of items that are under way: scripts, or another agent's work of minutes.
LATE_SECONDS: Final = 3.0
#: Between two looks at what is told of this machine, however often a host asks whether we are there.
FACTS_SECONDS: Final = 2.0
#: While a change of the network waits for the host's word, the watchdog is seen to this often.
_TICK_SECONDS: Final = 1.0
#: How long a host that is believed no more may take to acknowledge its last answer.
_PARTING_SECONDS: Final = 2.0
#: Documents that wait. A host has one under way; one that was restarted now and again has sent a few.
_MAX_ASKED: Final = 4
_LIVE: Final = (State.SEALED, State.RENEWING)


class WrongTty(Exception):  # noqa: N818 -- it says what the tty is
    """A host greets for another channel on this tty, and nobody has proven it to be ours."""


class StartOver(Exception):  # noqa: N818 -- it says what to do
    """The stream cannot go on as it is: close the port, open it again, shake hands again."""


class Conversation:
    """What is said on one open port. *certain*: the operator named the tty, so no greeting can show it to be another's."""

    def __init__(self, port: Stream, ours: Ours, *, certain: bool, now: Callable[[], float] = monotonic) -> None:
        self._port, self._ours, self._certain, self._now = port, ours, certain, now
        self._guest = ours.guest()
        self._asked: deque[Provision | Plan] = deque(maxlen=_MAX_ASKED)
        self._working_on = b""
        self._waiting: Waiting | None = None
        self._gone: PortGone | None = None
        self._greeted = False
        self._since_result: int | None = None
        self._host: Opened | None = None
        self._parting: float | None = None
        self._strangers_until = now() + STRANGERS_SECONDS
        self._next_look = self._next_facts = now()
        self._facts: Facts | None = None
        #: When the host last said something that it signed for, or None.
        self.heard: float | None = None
        #: The last answer to a document.
        self.result: Result | None = None

    @property
    def outstanding(self) -> bool:
        """Whether the last answer to a document is on its way and not yet known to have arrived."""
        if self._guest.state not in _LIVE or self.result is None:
            return False
        return self._since_result is None or self._guest.in_flight > self._since_result

    def step(self, seconds: float) -> None:
        """Wait at most *seconds* for the host, then take and answer what came.

        Raise `PortGone`, `StartOver` or `WrongTty`: this conversation is then over.
        """
        if self._parting is not None:
            seconds = min(seconds, _TICK_SECONDS)
        data = self._port.read(min(seconds, LATE_SECONDS) if self._ours.provisioner.pending else seconds)
        if data:
            self._take(data)
            self._flush()
            self._mind_strangers()
        while self._asked:
            asked = self._asked.popleft()
            if isinstance(asked, Plan):
                self._plan(asked)
            else:
                self._provision(asked)
        self._tell_news()
        if self._parting is not None and (not self.outstanding or self._now() >= self._parting):
            raise StartOver("the host is believed no more")

    def _take(self, data: bytes) -> None:
        events = self._guest.receive(data)
        self._greeted |= bool(events) or self._guest.state is not State.SILENT
        for event in events:
            self._met(event)

    def _mind_strangers(self) -> None:
        talk = self._guest.counters.garbage + self._guest.overlong
        if talk and not self._certain and not self._greeted and self._now() > self._strangers_until:
            raise WrongTty(f"{self._port.path}: somebody talks there, and no host greets")

    def _met(self, event: GuestEvent) -> None:
        match event:
            case FromHost() if self._parting is not None:
                pass  # believed no more: it only gets what it was answered before
            case FromHost(message=message):
                self.heard = self._now()
                self._heed(message)
            case Opened():
                self._opened(event)
            case Refused():
                self._refused(event)
            case WrongChannel(channel=channel):
                self._wrong_channel(channel)
            case Lost(reason=reason):
                self._ours.log.note(f"the session is over: {printable(reason)}; waiting to be greeted")

    def _heed(self, message: HostMessage) -> None:
        match message:
            case Ping(n=n):
                self._say(self._pong(n))
            case Confirm() | Reject():
                if self._waiting is not None:
                    self._waiting.hear(message)
            case Provision() if bytes(message.document) == self._working_on:
                pass  # the host was restarted, and asks for what is under way: one answer is for both
            case Provision() | Plan():
                self._asked.append(message)

    def _pong(self, n: int) -> Pong:
        """The answer to a question, with what has changed of this machine since the session's last."""
        now = self._now()
        if now < self._next_facts:
            return Pong(n)
        self._next_facts = now + FACTS_SECONDS
        known, self._facts = self._facts, self._ours.provisioner.facts()
        return Pong(n) if self._facts == known else Pong(n, self._facts)

    def _opened(self, opened: Opened) -> None:
        log, shown = self._ours.log, fingerprint(opened.host_key)
        if opened.verdict is Verdict.FIRST_USE:
            try:
                self._ours.believed.pin(opened.host_key)
            except NotAuthenticated as exc:
                raise StartOver(str(exc)) from None
            except OSError as exc:
                raise StartOver(f"the first host's key cannot be pinned, so it is not served: {exc}") from None
            self._guest.trust = self._ours.believed.trust
            log.alert(f"nothing was pinned: believing the first host, {shown}, and from now on no other")
        self._host = opened
        if not self._working_on and not self._still_believes(opened):  # another agent of this machine was told so
            return
        log.note(of_opened(opened))
        log.forget("refused")
        self._facts, self._next_facts = None, self._now()
        self.heard = self._now()
        self._ours.readiness.host_spoke(self.heard)
        report = self._ours.provisioner.report()
        if report is not None:
            self._say(report)
        if self._waiting is not None:
            self._say(self._waiting.question(self._now()))

    def _still_believes(self, host: Opened) -> bool:
        """Whether *host* is believed by what the files say now; the session of one that is not is about to end."""
        log, believed = self._ours.log, self._ours.believed
        try:
            self._guest.trust = believed.read_again()
        except (BadTrust, OSError) as exc:
            log.fail(f"{exc}; whom this guest believed before, it believes still")
        try:
            self._guest.trust.judge(host.host_key, host.certificate)
        except NotAuthenticated as exc:
            log.alert(f"the host {fingerprint(host.host_key)} is believed no more: {exc}")
            self._parting = self._now() + _PARTING_SECONDS
            self._asked.clear()
            return False
        return True

    def _refused(self, refused: Refused) -> None:
        text = of_refused(refused, self._guest.trust, self._ours.uuid)
        self._ours.log.once("refused", (refused.refusal, refused.detail), text)

    def _wrong_channel(self, channel: bytes) -> None:
        ours = self._ours.channel.decode("ascii")
        text = f"{self._port.path}: a greeting for the channel {printable(channel)}, not {ours}"
        if not self._certain and self.heard is None:
            raise WrongTty(text)
        self._ours.log.once("channel", channel, text)

    def _say(self, message: GuestMessage) -> None:
        """Say *message* where a session is live and the host takes answers; else nobody waits for it."""
        if self._guest.state in _LIVE and self._guest.unsent < MAX_UNSENT:
            self._guest.send(message)

    def _flush(self) -> None:
        try:
            data = self._guest.data_to_send()
        except PeerError as exc:  # all sequence numbers used
            raise StartOver(str(exc)) from None
        if data:
            self._port.write(data)
        if self._since_result is not None:
            self._since_result += len(data)
        elif self.result is not None and not self._guest.unsent:
            self._since_result = 0

    def _provision(self, asked: Provision) -> None:
        self._gone, self._working_on = None, bytes(asked.document)
        result = self._ours.provisioner.provision(self._working_on, self._uuid(), self._progress, self._confirm)
        self._working_on = b""
        self._guest.hello = self._ours.provisioner.hello()
        self.heard, self.result, self._since_result = self._now(), result, None
        self._ours.log.note(f"generation {result.generation}: {result.outcome.value} {printable(result.detail)}".rstrip())
        if self._gone is not None:
            raise self._gone
        self._say(result)
        self._flush()
        self._ours.readiness.answered(f"generation {result.generation} {result.outcome.value}")
        if self._host is not None:
            self._still_believes(self._host)

    def _plan(self, asked: Plan) -> None:
        self._say(self._ours.provisioner.plan(bytes(asked.document), self._uuid()))
        self._flush()

    def _uuid(self) -> str | None:
        return None if self._ours.uuid is None else uuid_text(self._ours.uuid)

    def _tell_news(self) -> None:
        """Tell the host what became of items that were under way, when it is time to look."""
        now = self._now()
        if not self._ours.provisioner.pending or now < self._next_look:
            return
        self._next_look = now + LATE_SECONDS
        report = self._ours.provisioner.late()
        if report is not None:
            for item in report.items:
                self._ours.log.note(f"generation {report.generation}: {item.item} {item.outcome.value}")
            self._say(report)
            self._flush()

    def _progress(self, generation: int, item: str) -> None:
        """Between two items: tell the host, hear what it asks."""

        def talk() -> None:
            self._say(Progress(generation, item))
            self._flush()
            if not self._asked:  # one document at a time: what comes later waits in the tty
                self._hear(0)

        self._ours.readiness.check(self._now(), working=True)
        self._meanwhile(talk)

    def _confirm(self, asked: Unconfirmed) -> None:
        """Have the host's word on a change of the network; raise `ItemError` where it is no, or does not come in time."""
        self._waiting = waiting = Waiting(asked, self._now())

        def talk() -> None:
            self._say(waiting.question(self._now()))
            self._flush()
            while left := waiting.left(self._now()):
                self._hear(min(left, _TICK_SECONDS))
                self._ours.readiness.check(self._now(), working=True)

        self._ours.log.note(f"generation {asked.generation} changed the network: {asked.seconds} s for the host to confirm it")
        self._ours.readiness.answered(f"generation {asked.generation} waits for the host to confirm the network")
        self._meanwhile(talk)
        self._waiting = None
        refusal = waiting.refusal(self._gone)
        if refusal is not None:
            raise refusal

    def _hear(self, seconds: float) -> None:
        self._take(self._port.read(seconds))
        self._flush()

    def _meanwhile(self, talk: Callable[[], None]) -> None:
        """Talk while a document is worked on. Never raises: work goes on without a host; that the port is gone is told then."""
        if self._gone is None:
            try:
                talk()
            except PortGone as exc:
                self._gone = exc
            except (StartOver, WrongTty) as exc:
                self._gone = PortGone(str(exc))
