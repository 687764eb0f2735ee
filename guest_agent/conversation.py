# SPDX-License-Identifier: Apache-2.0
"""One open port's worth of talk with the host: bytes to the session, what it means to the provisioner, the answer back."""

from __future__ import annotations

import os
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.identity import Believed
from guest_agent.log import Log
from guest_agent.notify import Readiness
from guest_agent.port import PortGone
from pv_channel.errors import NotAuthenticated, PeerError
from pv_channel.events import FromHost, Lost, Opened, Refused, WrongChannel
from pv_channel.greeting import Refusal, uuid_text
from pv_channel.guest import Guest
from pv_channel.messages import Ping, Pong, Progress, Provision, Result
from pv_channel.noise import KeyPair
from pv_channel.states import State
from pv_channel.text import printable
from pv_channel.trust import Verdict, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pv_channel.events import GuestEvent
    from pv_channel.messages import GuestMessage, Hello

    class Stream(Protocol):
        """What a conversation needs of a port."""

        path: str

        def read(self, seconds: float) -> bytes:
            """What is there, after at most *seconds*; raise `PortGone`."""

        def write(self, data: bytes) -> None:
            """Write all of it; raise `PortGone`."""

    class Provisions(Protocol):
        """What a conversation needs of a `provision.Provisioner`."""

        @property
        def provisioned(self) -> bool:
            """Whether a generation is in force."""

        def hello(self) -> Hello:
            """What the next handshake says of this guest."""

        def provision(self, raw: bytes, vm_uuid: str | None, progress: Callable[[int, str], None]) -> Result:
            """Become what *raw* says; never raises."""


#: Answers that wait for a host which asks and never acknowledges; past this it gets no more of them.
MAX_UNSENT: Final = 64 * 1024
#: A host greets every few seconds. Where somebody talks for this long and no host greets, the talk is another application's.
STRANGERS_SECONDS: Final = 20.0
#: Pinned keys that a refusal names in the log; a fleet may have pinned more.
_NAMED_KEYS: Final = 3
_LIVE: Final = (State.SEALED, State.RENEWING)


class WrongTty(Exception):  # noqa: N818 -- it says what the tty is
    """A host greets for another channel on this tty, and nobody has proven it to be ours."""


class StartOver(Exception):  # noqa: N818 -- it says what to do
    """The stream cannot go on as it is: close the port, open it again, shake hands again."""


class Ours(msgspec.Struct, frozen=True):
    """What this guest brings into every conversation."""

    channel: bytes
    uuid: bytes | None
    key: KeyPair
    believed: Believed
    provisioner: Provisions
    readiness: Readiness
    log: Log

    def guest(self) -> Guest:
        """The guest's end of a new stream."""
        return Guest(
            channel=self.channel,
            uuid=self.uuid,
            key=self.key,
            trust=self.believed.trust,
            hello=self.provisioner.hello(),
            random_bytes=os.urandom,
        )


class Conversation:
    """What is said on one open port. *certain*: the operator named the tty, so no greeting can show it to be another's."""

    def __init__(self, port: Stream, ours: Ours, *, certain: bool) -> None:
        self._port, self._ours, self._certain = port, ours, certain
        self._guest = ours.guest()
        self._asked: deque[Provision] = deque()
        self._gone: PortGone | None = None
        self._greeted = False
        self._since_result: int | None = None
        self._strangers_until = monotonic() + STRANGERS_SECONDS
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
        data = self._port.read(seconds)
        if data:
            self._take(data)
            self._flush()
            self._mind_strangers()
        while self._asked:
            self._provision(self._asked.popleft())

    def _take(self, data: bytes) -> None:
        events = self._guest.receive(data)
        self._greeted |= bool(events) or self._guest.state is not State.SILENT
        for event in events:
            self._met(event)

    def _mind_strangers(self) -> None:
        talk = self._guest.counters.garbage + self._guest.overlong
        if talk and not self._certain and not self._greeted and monotonic() > self._strangers_until:
            raise WrongTty(f"{self._port.path}: somebody talks there, and no host greets")

    def _met(self, event: GuestEvent) -> None:
        match event:
            case FromHost(message=Ping(n=n)):
                self.heard = monotonic()
                self._say(Pong(n))
            case FromHost(message=Provision() as asked):
                self.heard = monotonic()
                self._asked.append(asked)
            case Opened():
                self._opened(event)
            case Refused():
                self._refused(event)
            case WrongChannel(channel=channel):
                self._wrong_channel(channel)
            case Lost(reason=reason):
                self._ours.log.note(f"the session is over: {printable(reason)}; waiting to be greeted")

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
        signer = ""
        if opened.verdict is Verdict.CERTIFIED and opened.certificate is not None:
            signer = f" '{printable(opened.certificate.label)}' by authority {fingerprint(opened.certificate.authority)}"
        log.note(f"in session with host {shown} ({opened.verdict.value}{signer})")
        log.forget("refused")
        self.heard = monotonic()
        self._ours.readiness.host_spoke(self.heard)

    def _refused(self, refused: Refused) -> None:
        log = self._ours.log
        match refused.refusal:
            case Refusal.HOST_KEY:
                trust = self._guest.trust
                pinned = sorted(trust.host_keys | trust.authorities)
                names = ", ".join(fingerprint(key) for key in pinned[:_NAMED_KEYS]) + (", …" if pinned[_NAMED_KEYS:] else "")
                text = f"refused the host key {fingerprint(refused.detail)}: this guest believes {names}"
            case Refusal.UUID:
                ours = "none" if self._ours.uuid is None else uuid_text(self._ours.uuid)
                text = f"refused a greeting that is meant for another VM; this one is {ours}"
            case _:
                text = "the host speaks in a session that this agent does not have; told it to greet again"
        log.once("refused", (refused.refusal, refused.detail), text)

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
        uuid = None if self._ours.uuid is None else uuid_text(self._ours.uuid)
        self._gone = None
        result = self._ours.provisioner.provision(bytes(asked.document), uuid, self._progress)
        self._guest.hello = self._ours.provisioner.hello()
        self.heard, self.result, self._since_result = monotonic(), result, None
        self._ours.log.note(f"generation {result.generation}: {result.outcome.value} {printable(result.detail)}".rstrip())
        if self._gone is not None:
            raise self._gone
        self._say(result)
        self._flush()
        self._ours.readiness.answered(f"generation {result.generation} {result.outcome.value}")

    def _progress(self, generation: int, item: str) -> None:
        """Between two items: tell the host, hear what it asks. Never raises: the work goes on without a host."""
        self._ours.readiness.check(monotonic(), working=True)
        if self._gone is not None:
            return
        try:
            self._say(Progress(generation, item))
            self._flush()
            if not self._asked:  # one document at a time: what comes later waits in the tty
                self._take(self._port.read(0))
                self._flush()
        except PortGone as exc:
            self._gone = exc
        except (StartOver, WrongTty) as exc:
            self._gone = PortGone(str(exc))
