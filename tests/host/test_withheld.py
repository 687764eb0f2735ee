# SPDX-License-Identifier: Apache-2.0
"""A generation that may not be sent now, for another host could be about to send one: nothing is sent, all else goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from host_agent.ledger.ledger import Ledger
from host_agent.talk.conversation import Conversation
from host_agent.talk.notices import What
from tests.host.fakes import CHANNEL, PLAIN, FakeGuest
from tests.host.talk import TIMING, Talk, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from host_agent.documents.document_file import Wanted
    from pv_channel.messages import HostMessage
    from pv_channel.session import Guest

WHY = "withheld: this host's lease is over"


class Fenced(Talk):
    """A talk in which *why* says why nothing may be sent."""

    why = WHY

    def begin(self, what: Wanted | None = None, *, dry_run: bool = False) -> Conversation:
        """Connect anew."""
        what = what or wanted()
        self.ledger.want(what.key, what.name, None, what.digest)
        self.conversation = Conversation(
            what, CHANNEL, self.identity, self.ledger, self.notices.append, now=self.now, timing=TIMING,
            withheld=lambda: self.why,
        )  # fmt: skip
        return self.conversation


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Fenced]:
    ledger = Ledger.open(tmp_path / "state")
    yield Fenced(ledger, tmp_path / "state", FakeGuest())
    ledger.close()


def test_what_is_withheld_is_said_and_sent_once_as_soon_as_it_may_be(talk: Fenced) -> None:
    conversation = talk.begin()
    talk.run()
    talk.pass_time(200)
    assert talk.guest.applied == []
    assert talk.guest.pinged > 2, "it is asked whether it is there"
    assert talk.kinds().count(What.WITHHELD) == 1
    assert What.SETTLED not in talk.kinds()
    vm = talk.vm()
    assert (vm["verdict"], vm["why"], vm["generation-sent"]) == ("waiting", WHY, 0)
    talk.why = ""
    conversation.want(wanted(), talk.now)
    talk.run()
    talk.pass_time(100)
    assert [document.generation for document in talk.guest.applied] == [1]
    assert talk.vm()["verdict"] == "ready"


def test_what_is_in_force_is_not_withheld(talk: Fenced) -> None:
    talk.why = ""
    talk.begin()
    talk.run()
    talk.why = WHY
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert talk.kinds()[-1] is What.SETTLED
    assert talk.vm()["verdict"] == "ready"


def test_an_answer_is_heard_whatever_is_withheld_by_then(talk: Fenced) -> None:
    talk.why = ""
    conversation = talk.begin()

    def comply_late(message: HostMessage, end: Guest) -> None:
        talk.why = WHY
        talk.guest.comply(message, end)

    talk.guest.answer = comply_late
    talk.run()
    assert talk.vm()["generation-applied"] == 1
    conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.run()
    assert [str(document.local_hostname) for document in talk.guest.applied] == ["web1"]


def test_what_is_to_be_applied_again_waits_too_and_is_not_asked_about_again_and_again(talk: Fenced) -> None:
    talk.why = ""
    conversation = talk.begin()
    talk.run()
    talk.why = WHY
    talk.ledger.ask_to_reprovision(wanted().key)
    for _ in range(5):
        conversation.again(talk.now)
        talk.run()
    assert talk.kinds().count(What.WITHHELD) == 1
    talk.why = ""
    conversation.want(wanted(), talk.now)
    talk.run()
    assert [document.generation for document in talk.guest.applied] == [1, 2]
    assert not talk.ledger.wants_reprovisioning(wanted().key)
