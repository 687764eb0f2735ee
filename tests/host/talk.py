# SPDX-License-Identifier: Apache-2.0
"""A host's conversation with a fake guest, told the time and the bytes by the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from host_agent.documents.document_file import Wanted
from host_agent.keys import Identity
from host_agent.talk.conversation import Conversation
from host_agent.talk.timing import Timing
from host_agent.views.status import View
from pv_channel.document import from_values
from pv_channel.noise import KeyPair
from tests.host.fakes import CHANNEL, PLAIN

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.ledger.ledger import Ledger
    from host_agent.talk.notices import Notice, What
    from tests.host.fakes import FakeGuest

UUID = bytes(range(16))
OTHER = bytes(range(16, 32))
TIMING = Timing()


def wanted(values: dict[str, Any] | None = None, uuid: bytes = UUID, name: str = "web1") -> Wanted:
    document = from_values(values or PLAIN)
    return Wanted(name, uuid, document, document.digest())


class Talk:
    """A ledger, a guest, and conversations between the two under a clock that only the test moves."""

    def __init__(self, ledger: Ledger, state: Path, guest: FakeGuest) -> None:
        self.ledger, self.state, self.guest = ledger, state, guest
        self.identity = Identity(KeyPair.generate())
        self.now = 1000.0
        self.notices: list[Notice] = []
        self.sent: list[bytes] = []
        self.backlog = 0

    def begin(self, what: Wanted | None = None, *, dry_run: bool = False) -> Conversation:
        """Connect anew."""
        what = what or wanted()
        if not dry_run:
            self.ledger.want(what.key, what.name, None, what.digest)
        self.conversation = Conversation(
            what, CHANNEL, self.identity, self.ledger, self.notices.append, now=self.now, timing=TIMING, dry_run=dry_run
        )
        return self.conversation

    def tick(self) -> bytes:
        """Let the host do what is due; what it has to send."""
        self.conversation.tick(self.now, self.backlog)
        self.ledger.commit()
        return self.conversation.data_to_send()

    def run(self) -> None:
        """Carry bytes to and fro until both are silent."""
        data = self.tick()
        while data:
            answer = self.guest.receive(data)
            if answer:
                self.conversation.receive(answer, self.now)
            data = self.tick()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, deadline by deadline, with a guest that hears everything."""
        until = self.now + seconds
        while self.conversation.next_deadline <= until:
            self.now = max(self.now, self.conversation.next_deadline)
            self.run()
        self.now = until

    def kinds(self) -> list[What]:
        return [notice.what for notice in self.notices]

    def vm(self, key: str = "00010203-0405-0607-0809-0a0b0c0d0e0f") -> dict[str, Any]:
        self.ledger.commit()
        view = View(self.state)
        try:
            found = view.one(key)
        finally:
            view.close()
        assert found is not None
        return found
