# SPDX-License-Identifier: Apache-2.0
"""A guest's conversation on a stage: a stream, a host at its far end, and a clock that is the test's."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, TypeVar

from guest_agent.conversation import Conversation
from guest_agent.identity import Believed, our_key
from guest_agent.log import Log
from guest_agent.notify import Notifier, Readiness
from guest_agent.ours import Ours
from guest_agent.port import PortGone
from guest_agent.system import System
from pv_channel import CHANNEL_NAME, messages
from pv_channel.greeting import NO_UUID
from pv_channel.messages import Pong, Result, Unconfirmed
from pv_channel.noise import KeyPair
from pv_channel.session import FromGuest, Host
from tests.guest.channel_ends import FakeProvisioner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHANNEL = CHANNEL_NAME.encode()
Said = TypeVar("Said", Pong, Result, Unconfirmed, messages.Report, messages.Planned)


class Notes(Notifier):
    """systemd, which wants a sign of life every two seconds."""

    def __init__(self) -> None:
        super().__init__({"WATCHDOG_USEC": "2000000"})
        self.sent: list[str] = []

    def send(self, text: str) -> None:
        """Take note."""
        self.sent.append(text)


class Stage:
    """A conversation over a stream that is this object, a host at its far end, and what happens when."""

    path = "the stage"

    def __init__(self, root: Path) -> None:
        self.now = 1000.0
        self.key = KeyPair.generate()
        self.provisioner = FakeProvisioner()
        self.notes = Notes()
        self.said: list[tuple[float, messages.GuestMessage]] = []
        self.gone = False
        self._events: list[tuple[float, Callable[[], None]]] = []
        log, system = Log(io.StringIO(), {}), System(root)
        readiness = Readiness(self.notes, provisioned=True, wait=10, now=self.now)
        ours = Ours(CHANNEL, None, our_key(system, log), Believed(system), self.provisioner, readiness, log)
        self.restart_host()
        self.conversation = Conversation(self, ours, certain=True, now=lambda: self.now)

    def restart_host(self) -> None:
        """Another host agent with the same key, which greets."""
        self.host = Host(channel=CHANNEL, uuid=NO_UUID, key=self.key, random_bytes=os.urandom)
        self.host.greet()

    def restart_host_with(self, *first: messages.HostMessage) -> None:
        """The same, and what it says first. In one turn: the guest's answer comes while it reads."""
        self.restart_host()
        self.conversation._take(self.host.data_to_send())
        self.conversation._flush()
        for message in first:
            self.host.send(message)

    def open(self, *first: messages.HostMessage) -> None:
        """Have a session, and the host's first words said in it."""
        self.conversation.step(0)
        for message in first:
            self.host.send(message)
        self.conversation.step(0)

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do that then."""
        self._events.append((self.now + seconds, what))

    def say(self, message: messages.HostMessage) -> Callable[[], None]:
        """What says it."""
        return lambda: self.host.send(message)

    def cut(self) -> None:
        """The port goes away."""
        self.gone = True

    def read(self, seconds: float) -> bytes:
        """The stream: what the host says by then."""
        until = self.now + seconds
        data = self.host.data_to_send()
        while not data and self._events and self._events[0][0] <= until:
            at, what = self._events.pop(0)
            self.now = max(self.now, at)
            what()
            data = self.host.data_to_send()
        if not data:
            self.now = until
        if self.gone:
            raise PortGone("the stage: end of file")
        return data

    def write(self, data: bytes) -> None:
        """The stream: what the guest says."""
        for event in self.host.receive(data):
            if isinstance(event, FromGuest):
                self.said.append((self.now - 1000, event.message))

    def all(self, kind: type[Said]) -> list[Said]:
        """What was said of *kind*."""
        return [message for _, message in self.said if isinstance(message, kind)]

    def only(self, kind: type[Said]) -> Said:
        """The one that was said of *kind*."""
        (message,) = self.all(kind)
        return message
