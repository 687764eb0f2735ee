# SPDX-License-Identifier: Apache-2.0
"""What a conversation puts on record beside its result: who did what, what was dropped, signs of life, what the machine is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from host_agent.__main__ import main
from host_agent.ledger.schema import AUDITS_KEPT
from host_agent.talk.confirmation import Verdict
from host_agent.talk.machine import BURST
from host_agent.talk.notices import What
from host_agent.views.status import View
from host_agent.who import SERVICE
from pv_channel.messages import Confirm, Facts, Hello, ItemResult, Outcome, Ping, Pong, Provision, Result, Unconfirmed
from pv_channel.noise import KeyPair
from tests.host.fakes import PLAIN, FakeGuest
from tests.host.talk import TIMING, UUID, Talk, wanted

if TYPE_CHECKING:
    import pytest

    from pv_channel.messages import HostMessage
    from pv_channel.session import Guest

KEY = "00010203-0405-0607-0809-0a0b0c0d0e0f"
TCP = {"check": "tcp", "tcp": "192.0.2.10:22", "within": 60}
MACHINE = Facts("Debian GNU/Linux 12", "6.1.0-56-amd64", "web1", "b" * 36, ["10.0.0.5/24"], ["ssh-ed25519 AAAA host"])


def trail(talk: Talk) -> list[tuple[str, str]]:
    """The audit trail: who, and what."""
    talk.ledger.commit()
    with View(talk.state) as view:
        rows = view.each("SELECT who, what FROM audit ORDER BY at, slot")
        return [(row["who"], row["what"]) for row in rows]


def events(talk: Talk) -> list[str]:
    return [notice.text for notice in talk.notices if notice.what is What.FACTS]


def test_a_first_contact_and_what_was_sent_are_on_the_trail_with_who_did_it(talk: Talk) -> None:
    what = wanted()
    talk.begin(what)
    talk.run()
    pinned, sent = trail(talk)
    assert (pinned[0], sent[0]) == (SERVICE, SERVICE)
    assert pinned[1].startswith("pinned the guest's key SHA256:")
    assert sent[1] == f"sent generation 1 of i-1, document {what.digest[:12]}"


def test_what_a_guest_can_bring_about_again_and_again_is_on_the_trail_once(talk: Talk) -> None:
    def fail(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            end.send(talk.guest.result(message, Outcome.FAILED))

    for number in range(10):
        talk.guest.answer = fail
        talk.guest.hello = Hello("0.1.0", number * 100, "i-1", "0" * 32)  # so that the next has a higher number
        talk.guest.restart()
        talk.begin()
        talk.run()
    assert [what.split()[0] for _, what in trail(talk)] == ["pinned", "sent"]
    for _ in range(10):
        talk.guest = FakeGuest(uuid=UUID, key=KeyPair.generate())
        talk.begin()
        talk.run()
    assert talk.vm()["state"] == "key-changed"
    assert len(trail(talk)) == 3
    assert "the guest's key changed" in trail(talk)[-1][1]


def test_a_word_on_a_changed_network_is_on_the_trail_once_for_each_document(talk: Talk) -> None:
    def waits(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            end.send(Unconfirmed(1, 30))
        elif isinstance(message, Confirm):
            end.send(Result(1, Outcome.FAILED, [ItemResult("network", Outcome.FAILED, "io-error")]))

    talk.guest.answer = waits
    for _ in range(5):
        talk.guest.restart()
        talk.begin(wanted({**PLAIN, "confirm": TCP}))
        talk.run()
        talk.conversation.decided(Verdict(1, good=True, text="it answers"))
        talk.run()
    words = [what for _, what in trail(talk) if "confirmed" in what]
    assert words == [f"confirmed the changed network of i-1, document {wanted().digest[:12]}"]


def test_an_operator_s_own_changes_are_each_on_the_trail_and_push_out_older_ones(talk: Talk) -> None:
    talk.begin()
    talk.run()
    for number in range(AUDITS_KEPT):
        talk.conversation.want(wanted({**PLAIN, "local-hostname": f"web{number}"}), talk.now)
        talk.run()
    assert len(trail(talk)) == AUDITS_KEPT
    assert all(what.startswith("sent generation ") for _, what in trail(talk))


def test_dropped_lines_are_counted_by_reason_and_only_what_is_new(talk: Talk) -> None:
    talk.begin()
    greeting = talk.tick()
    talk.conversation.receive(b"login: \nATI1\n" + b"x" * 5000 + b"\n" + greeting, talk.now)
    talk.conversation.receive(talk.guest.receive(greeting), talk.now)
    talk.run()
    vm = talk.vm()
    assert (vm["dropped"], vm["echoed"], vm["stale"]) == (3, 1, 0)
    talk.pass_time(TIMING.ping_every * 3)
    assert talk.vm()["dropped"] == 3
    talk.conversation.receive(b"more\n", talk.now)
    talk.conversation.over("done")
    assert talk.vm()["dropped"] == 4


def test_lines_on_a_stream_where_no_guest_answers_are_counted_now_and_then(talk: Talk) -> None:
    talk.begin()
    until = talk.now + TIMING.ping_every * 2
    while talk.now < until:
        talk.now = talk.conversation.next_deadline
        talk.conversation.receive(talk.tick(), talk.now)
    assert talk.vm()["echoed"] > TIMING.ping_every / TIMING.greeting_every


@dataclass
class Says:
    """A guest that is what a test says."""

    guest: FakeGuest
    machine: Facts | None = MACHINE
    asked: list[int] = field(default_factory=list)

    def answer(self, message: HostMessage, end: Guest) -> None:
        if isinstance(message, Ping):
            self.asked.append(message.n)
            end.send(Pong(message.n) if self.machine is None else Pong(message.n, self.machine))
        else:
            self.guest.comply(message, end)


def says(talk: Talk) -> Says:
    made = Says(talk.guest)
    talk.guest.answer = made.answer
    return made


def test_soon_after_its_answer_a_guest_is_asked_what_it_is_now(talk: Talk) -> None:
    guest = says(talk)
    talk.begin()
    talk.run()
    assert guest.asked == []
    talk.pass_time(TIMING.first_ping)
    assert guest.asked == [1]
    assert talk.vm()["facts"]["addresses"] == ["10.0.0.5/24"]
    talk.pass_time(TIMING.ping_every - 1)
    assert guest.asked == [1]


def test_what_is_news_is_told_once(talk: Talk) -> None:
    guest = says(talk)
    talk.begin()
    talk.run()
    talk.pass_time(TIMING.ping_every * 3)
    all_of_it = (
        "the guest says: it has booted, it runs Debian GNU/Linux 12, its kernel is 6.1.0-56-amd64, its name is web1,"
        " its addresses are 10.0.0.5/24"
    )
    assert events(talk) == [all_of_it]
    guest.machine = Facts("Debian GNU/Linux 12", "6.1.0-56-amd64", "web1", "b" * 36, ["10.0.0.5/24", "fd00::5/64"])
    talk.pass_time(TIMING.ping_every * 3)
    assert events(talk)[1:] == ["the guest says: its addresses are 10.0.0.5/24 fd00::5/64"]
    assert talk.vm()["host-keys"] == ["ssh-ed25519 AAAA host"]


def test_a_guest_that_is_another_at_every_question_fills_nothing(talk: Talk) -> None:
    guest = says(talk)
    talk.begin()
    talk.run()
    began = talk.now
    for number in range(200):
        guest.machine = Facts(hostname=f"\x1b[2Jweb{number}" * 4, addresses=[f"{number}.\x1b"] * 64)
        talk.pass_time(TIMING.ping_every)
    assert len(events(talk)) <= BURST + (talk.now - began) / 900 + 1
    assert all(text.isascii() and text.isprintable() and len(text) < 500 for text in events(talk))
    assert talk.vm()["facts"]["hostname"].startswith("\\x1b[2Jweb199")


def test_what_nobody_asked_for_is_not_heard(talk: Talk) -> None:
    says(talk)
    talk.begin()
    talk.run()
    talk.guest.end.send(Pong(7, MACHINE))
    talk.conversation.receive(talk.guest.end.data_to_send(), talk.now)
    assert talk.vm()["facts"].get("hostname", "") == ""


def test_keys_that_a_guest_made_after_its_answer_are_known(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    """As cloud-init does, to which a document was handed."""
    made_later = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    guest = says(talk)
    guest.machine = None
    guest.guest.result = lambda message, outcome=Outcome.APPLIED: Result(1, outcome, [])  # type: ignore[method-assign]
    talk.begin()
    talk.run()
    assert talk.vm()["host-keys"] == []
    guest.machine = Facts(host_keys=[made_later])
    talk.pass_time(TIMING.ping_every)
    assert talk.vm()["host-keys"] == [made_later]
    assert events(talk) == ["the guest says: its ssh host keys are others: 1 now"]
    assert main(["known-hosts", "--state", str(talk.state)]) == 0
    assert capsys.readouterr().out == f"web1 {made_later}\n"


def test_a_dry_run_hears_nothing_of_the_machine(talk: Talk) -> None:
    says(talk)
    talk.begin()
    talk.run()
    talk.guest.restart()
    talk.begin(dry_run=True)
    talk.run()
    vm = talk.vm()
    assert (vm["facts"].get("hostname", ""), vm["last-heartbeat"]) == ("", "")


def test_what_is_to_be_applied_again_is_another_generation(talk: Talk) -> None:
    conversation = talk.begin()
    talk.run()
    conversation.again(talk.now)
    talk.run()
    assert len(talk.guest.applied) == 1  # nobody asked for it
    for number in (2, 3):
        talk.ledger.ask_to_reprovision(KEY)
        conversation.again(talk.now)
        talk.run()
        assert [document.generation for document in talk.guest.applied] == list(range(1, number + 1))
        assert talk.ledger.to_reprovision() == []
    assert [what for _, what in trail(talk)][2:] == [
        f"sent generation {number} of i-1, document {wanted().digest[:12]}" for number in (2, 3)
    ]


def test_what_is_asked_for_while_a_guest_is_away_or_at_work_is_done_then(talk: Talk) -> None:
    talk.begin()
    talk.run()
    talk.ledger.ask_to_reprovision(KEY)
    talk.guest.restart()
    conversation = talk.begin()
    talk.run()
    assert [document.generation for document in talk.guest.applied] == [1, 2]
    held: list[Provision] = []
    talk.guest.answer = lambda message, end: held.append(message) if isinstance(message, Provision) else None
    conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.run()
    talk.ledger.ask_to_reprovision(KEY)
    conversation.again(talk.now)
    talk.run()
    assert len(held) == 1
    talk.guest.answer = talk.guest.comply
    talk.guest.comply(held[0], talk.guest.end)
    talk.conversation.receive(talk.guest.end.data_to_send(), talk.now)
    talk.run()
    assert [document.generation for document in talk.guest.applied] == [1, 2, 3, 4]
    assert talk.ledger.to_reprovision() == []


def test_what_was_asked_for_and_got_lost_on_its_way_is_sent_again(talk: Talk) -> None:
    talk.begin()
    talk.run()
    talk.guest.answer = lambda message, end: None
    talk.ledger.ask_to_reprovision(KEY)
    talk.conversation.again(talk.now)
    talk.run()
    talk.guest.answer = talk.guest.comply
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert [document.generation for document in talk.guest.applied] == [1, 2]


def test_a_document_with_a_number_of_its_own_is_not_applied_again_and_that_is_said(talk: Talk) -> None:
    conversation = talk.begin(wanted({**PLAIN, "generation": 7}))
    talk.run()
    talk.ledger.ask_to_reprovision(KEY)
    for _ in range(3):
        conversation.again(talk.now)
        talk.run()
    assert len(talk.guest.applied) == 1
    assert talk.ledger.to_reprovision() == []
    (told,) = [notice.text for notice in talk.notices if notice.what is What.NOT_AGAIN]
    assert "its document names generation 7, which is in force; cure: " in told
