# SPDX-License-Identifier: Apache-2.0
"""The far ends that the guest's tests talk to: a host behind a pty, a provisioner that only takes notes, a xenstore."""

from __future__ import annotations

import io
import os
import pty
import select
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

import msgspec

from guest_agent.agent import Agent
from guest_agent.failure import ItemError
from guest_agent.identity import Believed, our_key
from guest_agent.log import Log
from guest_agent.notify import Notifier, Readiness
from guest_agent.ours import Ours
from guest_agent.system import System
from pv_channel import CHANNEL_NAME
from pv_channel.greeting import NO_UUID
from pv_channel.messages import (
    Check,
    Facts,
    Hello,
    ItemResult,
    Outcome,
    Ping,
    Planned,
    PlannedItem,
    Pong,
    Progress,
    Provision,
    Report,
    Result,
    Unconfirmed,
)
from pv_channel.noise import KeyPair
from pv_channel.session import FromGuest, Heard, Host, HostEvent, Lost, Refused, Sealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pv_channel.messages import HostMessage
    from pv_channel.trust import Certificate

Event = TypeVar("Event", Sealed, Refused, Heard, FromGuest, Lost)
Said = TypeVar("Said", Pong, Progress, Result, Planned, Unconfirmed, Report)
Found = TypeVar("Found")

#: Generous: other work may share the machine.
SECONDS = 15.0


class Tty:
    """A pty in its first, cooked and echoing state, as hvc is. The slave stays open, as hvc's kernel side does."""

    def __init__(self) -> None:
        self.master, self._slave = pty.openpty()
        self.path = os.ttyname(self._slave)
        self._open = True

    def hang_up(self) -> None:
        """Close both ends: whoever has it open reads EIO from now on."""
        if self._open:
            self._open = False
            os.close(self._slave)
            os.close(self.master)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()


class Dom0:
    """The host's end, driven by hand over *master*."""

    def __init__(
        self,
        master: int,
        *,
        key: KeyPair | None = None,
        channel: str = CHANNEL_NAME,
        uuid: bytes = NO_UUID,
        certificate: Certificate | None = None,
    ) -> None:
        self.key = KeyPair.generate() if key is None else key
        self.master = master
        self.host = Host(channel=channel.encode(), uuid=uuid, key=self.key, random_bytes=os.urandom, certificate=certificate)
        self.events: list[HostEvent] = []
        self.heard = b""

    def greet(self) -> None:
        """Greet once."""
        self.host.greet()
        self.flush()

    def flush(self) -> None:
        """Write what is to be said."""
        data = self.host.data_to_send()
        while data:
            data = data[os.write(self.master, data) :]

    def say(self, message: HostMessage) -> None:
        """Say *message* in the live session."""
        self.host.send(message)
        self.flush()

    def provision(self, document: bytes = b'{"a":1}') -> None:
        """Send a document."""
        self.say(Provision(msgspec.Raw(document)))

    def hear(self, seconds: float = SECONDS) -> None:
        """Take what comes within *seconds*, once."""
        if select.select([self.master], [], [], seconds)[0]:
            data = os.read(self.master, 65536)
            self.heard += data
            self.events += self.host.receive(data)
            self.flush()

    def until(self, kind: type[Event], seconds: float = SECONDS) -> Event:
        """The next event of *kind*, taken from `events`."""
        return self.until_true(lambda: self.taken(kind), kind.__name__, seconds)

    def until_true(self, found: Callable[[], Found | None], what: str, seconds: float = SECONDS) -> Found:
        """What *found* finds, listening meanwhile; fail where it finds nothing in time."""
        deadline = time.monotonic() + seconds
        while (value := found()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {what} within {seconds} s; heard {self.events!r} {self.heard[-300:]!r}")
            self.hear(min(left, 0.2))
        return value

    def taken(self, kind: type[Event]) -> Event | None:
        """Take the first event of *kind* out of `events`."""
        for event in self.events:
            if isinstance(event, kind):
                self.events.remove(event)
                return event
        return None

    def message(self, kind: type[Said], seconds: float = SECONDS) -> Said:
        """The next message of *kind*; others before it are dropped."""

        def found() -> Said | None:
            while (event := self.taken(FromGuest)) is not None:
                if isinstance(event.message, kind):
                    return event.message
            return None

        return self.until_true(found, kind.__name__, seconds)

    def open(self) -> None:
        """Greet until the guest answers, then say a first word, so that it knows."""
        deadline = time.monotonic() + SECONDS
        sealed = None
        while sealed is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"no answer; heard {self.events!r} {self.heard[-300:]!r}")
            self.greet()
            self.hear(0.3)
            sealed = self.taken(Sealed)
        self.say(Ping(1))


class FakeProvisioner:
    """Takes notes, and answers what it is told to."""

    def __init__(self, outcome: Outcome = Outcome.APPLIED, *, provisioned: bool = False) -> None:
        self.outcome = outcome
        self.provisioned = provisioned
        self.asked: list[tuple[bytes, str | None]] = []
        self.generation = 0
        #: Called between the two items of every document.
        self.meanwhile: Callable[[], None] = lambda: None
        #: For how long the host has to confirm, where it is asked.
        self.unconfirmed = 0
        #: What becomes of the item ``user-data``, once it is known; None where there is none.
        self.user_data: ItemResult | None = None
        self.pending = False
        self.machine = Facts(hostname="template")

    def recover(self) -> str | None:
        """Nothing to recover."""
        return None

    def hello(self) -> Hello:
        """The generation so far."""
        return Hello("fake", generation=self.generation)

    def provision(
        self, raw: bytes, vm_uuid: str | None, progress: Callable[[int, str], None], confirming: Callable[[Unconfirmed], None]
    ) -> Result:
        """Two items, each announced; what is not confirmed is not in force."""
        self.asked.append((raw, vm_uuid))
        generation = self.generation + 1
        for item in ("hostname", "network"):
            progress(generation, item)
            self.meanwhile()
        if self.unconfirmed:
            try:
                confirming(Unconfirmed(generation, self.unconfirmed, [Check("link", good=True, detail="eth0 is up")]))
            except ItemError as exc:
                return Result(generation, Outcome.FAILED, [ItemResult("network", Outcome.FAILED, exc.reason, exc.detail)])
        self.generation, self.provisioned = generation, True
        return Result(self.generation, self.outcome, items=[ItemResult("hostname", self.outcome)])

    def plan(self, raw: bytes, vm_uuid: str | None) -> Planned:
        """One step."""
        return Planned(self.generation + 1, [PlannedItem("hostname", steps=[raw.decode()])])

    def facts(self) -> Facts:
        """As the test says."""
        return self.machine

    def late(self) -> Report | None:
        """What became of ``user-data``, once."""
        if self.user_data is None:
            return None
        self.pending = False
        return self.report()

    def report(self) -> Report | None:
        """The same, for whoever may have missed it."""
        return None if self.user_data is None else Report(max(self.generation, 1), [self.user_data])


class Enough(Exception):  # noqa: N818 -- it says why the agent stops
    """The test has seen enough of an agent that would look for its channel for ever."""


class RunningAgent:
    """An agent in a thread, with a folder as its machine."""

    started: ClassVar[list[RunningAgent]] = []

    def __init__(
        self,
        root: Path,
        ttys: Callable[[], list[str]],
        *,
        provisioner: FakeProvisioner | None = None,
        certain: bool = True,
        once: bool = False,
        wait: float = SECONDS,
        uuid: bytes | None = None,
        notify: str = "",
    ) -> None:
        self.output = io.StringIO()
        self.status: int | BaseException | None = None
        self.provisioner = FakeProvisioner() if provisioner is None else provisioner
        self._stop = False
        log, system = Log(self.output, {}), System(root)
        readiness = Readiness(
            Notifier({"NOTIFY_SOCKET": notify}), provisioned=self.provisioner.provisioned, wait=wait, now=time.monotonic()
        )
        ours = Ours(CHANNEL_NAME.encode(), uuid, our_key(system, log), Believed(system), self.provisioner, readiness, log)
        self.readiness = readiness
        self._agent = Agent(ours, ttys, certain=certain, once=once, wait=wait, sleep=self._sleep)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.started.append(self)

    def stop_looking(self) -> None:
        """It ends when its tty does."""
        self._stop = True

    def _sleep(self, seconds: float) -> None:
        if self._stop:
            raise Enough
        time.sleep(min(seconds, 0.05))

    def _run(self) -> None:
        try:
            self.status = self._agent.run()
        except BaseException as exc:  # noqa: BLE001 -- whatever it is, the test shall see it
            self.status = exc

    def wait(self, seconds: float = SECONDS) -> int:
        """The exit status of an agent that ends by itself."""
        self._thread.join(seconds)
        if isinstance(self.status, BaseException):
            raise self.status
        assert self.status is not None, f"the agent still runs; it said {self.output.getvalue()}"
        return self.status

    def stop(self, *ttys: Tty) -> str:
        """End it by hanging up *ttys*; what it logged. Any other error than having had enough comes out."""
        self._stop = True
        for tty in ttys:
            tty.hang_up()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        if isinstance(self.status, BaseException) and not isinstance(self.status, Enough):
            raise self.status
        return self.output.getvalue()


class FakeXenstore:
    """A xenstored with these nodes behind one end of a socket pair; says *before* each answer whatever a test wants."""

    def __init__(self, nodes: dict[str, bytes], *, before: bytes = b"", silent: bool = False) -> None:
        self._nodes, self._before, self._silent = nodes, before, silent
        self._here, self._there = socket.socketpair()
        self.descriptor = self._there.fileno()
        self._thread = threading.Thread(target=self.serve, args=(self._here.fileno(),), daemon=True)
        self._thread.start()

    def serve(self, descriptor: int) -> None:
        """Answer what is asked on *descriptor* until it ends."""
        while True:
            try:
                asked = os.read(descriptor, 4096)
                if not asked:
                    return
                kind, request, _, length = struct.unpack("=IIII", asked[:16])
                node = asked[16 : 16 + length].rstrip(b"\0").decode()
                if self._silent:
                    continue
                found = self._nodes.get(node)
                reply = (kind, found) if found is not None else (16, b"ENOENT\0")
                os.write(descriptor, self._before + struct.pack("=IIII", reply[0], request, 0, len(reply[1])) + reply[1])
            except OSError:
                return

    def close(self) -> None:
        """End both sides, the thread first: the descriptor that it reads may be another store's a moment after it is closed."""
        self._here.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._here.close()
        self._there.close()
