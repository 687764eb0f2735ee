# SPDX-License-Identifier: Apache-2.0
"""A conversation, told the time and the bytes by the test, with a fake guest at the other end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent.talk.notices import What
from pv_channel.greeting import NO_UUID, Refusal
from pv_channel.line import GUEST_SPEAKS, finish, header
from pv_channel.messages import Facts, Hello, Outcome, Ping, Pong, Progress, Provision, Result
from pv_channel.noise import KeyPair
from pv_channel.trust import Trust
from tests.host.fakes import PLAIN, FakeGuest
from tests.host.talk import OTHER, TIMING, UUID, Talk, wanted

if TYPE_CHECKING:

    from pv_channel.messages import HostMessage
    from pv_channel.session import Guest

FACTS = Facts(kernel="6.1.0-56-amd64")


def test_a_guest_is_met_pinned_and_provisioned(talk: Talk) -> None:
    talk.begin()
    talk.run()
    assert talk.kinds() == [What.GREETING, What.MET, What.SENDING, What.SETTLED]
    assert talk.guest.applied[0].local_hostname == "web1"
    vm = talk.vm()
    assert (vm["state"], vm["outcome"], vm["generation-applied"]) == ("ready", "applied", 1)
    assert vm["items"][0]["item"] == "hostname"
    assert vm["host-keys"] == ["ssh-ed25519 AAAA host"]


def test_what_the_guest_has_is_not_sent_again(talk: Talk) -> None:
    talk.begin()
    talk.run()
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert len(talk.guest.applied) == 1
    assert talk.guest.pinged == 1
    settlement = talk.notices[-1].settlement
    assert settlement is not None
    assert (settlement.outcome, settlement.generation) == ("unchanged", 1)
    assert talk.vm()["outcome"] == "applied"


def test_a_ledger_that_was_lost_counts_on_from_the_guest(talk: Talk) -> None:
    talk.guest.hello = Hello("0.1.0", 7, "i-1", "0" * 32)
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert talk.guest.applied[0].generation == 8


def test_an_explicit_generation_is_used_as_it_is(talk: Talk) -> None:
    talk.begin(wanted({**PLAIN, "generation": 41}))
    talk.run()
    assert talk.guest.applied[0].generation == 41


def test_a_stream_that_ends_in_the_middle_is_taken_up_under_the_same_generation(talk: Talk) -> None:
    talk.guest.answer = lambda message, end: None
    talk.begin()
    talk.run()
    talk.guest.answer = talk.guest.comply
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert [document.generation for document in talk.guest.applied] == [1]


def test_a_result_that_was_lost_is_asked_for_again_and_nothing_is_applied_twice(talk: Talk) -> None:
    def apply_in_silence(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            talk.guest.apply(message)

    talk.guest.answer = apply_in_silence
    talk.begin()
    talk.run()
    assert talk.vm()["state"] == "provisioning"
    talk.guest.answer = talk.guest.comply
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert [document.generation for document in talk.guest.applied] == [1]
    vm = talk.vm()
    assert (vm["state"], vm["generation-applied"], vm["outcome"]) == ("ready", 1, "unchanged")
    assert [item["item"] for item in vm["items"]] == ["hostname"]
    assert vm["host-keys"] == ["ssh-ed25519 AAAA host"]
    talk.guest.restart()
    talk.begin()
    talk.run()
    assert talk.kinds().count(What.SENDING) == 2


def test_a_new_document_goes_out_over_the_live_session(talk: Talk) -> None:
    conversation = talk.begin()
    talk.run()
    conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.run()
    assert [document.generation for document in talk.guest.applied] == [1, 2]
    assert talk.kinds().count(What.MET) == 1


def test_a_new_document_waits_for_the_result_of_the_one_before(talk: Talk) -> None:
    seen: list[Provision] = []

    def take(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            seen.append(message)

    talk.guest.answer = take
    conversation = talk.begin()
    talk.run()
    conversation.want(wanted({**PLAIN, "local-hostname": "web2"}), talk.now)
    talk.run()
    assert len(seen) == 1
    talk.guest.answer = talk.guest.comply
    talk.guest.end.send(talk.guest.result(seen[0]))
    talk.conversation.receive(talk.guest.end.data_to_send(), talk.now)
    talk.run()
    assert [document.local_hostname for document in talk.guest.applied] == ["web2"]


def test_greetings_come_at_growing_intervals(talk: Talk) -> None:
    talk.begin()
    at = []
    for _ in range(7):
        assert talk.tick()
        at.append(talk.now - 1000.0)
        talk.now = talk.conversation.next_deadline
    assert at == [0, 0.25, 0.75, 1.75, 3.75, 8.75, 13.75]


def test_no_greeting_joins_one_that_lies_unread(talk: Talk) -> None:
    talk.begin()
    assert talk.tick()
    talk.backlog = 1
    for _ in range(50):
        talk.now = talk.conversation.next_deadline
        assert not talk.tick()
    talk.backlog = 0
    talk.now = talk.conversation.next_deadline
    assert talk.tick()


def stale() -> bytes:
    return finish(header(GUEST_SPEAKS, b"AAAAAAAA", b"BBBBBBBB", 5, 0), b"x" * 30)


def test_a_stale_line_brings_the_next_greeting_forward_but_not_more_than_ten_a_second(talk: Talk) -> None:
    talk.begin()
    for _ in range(6):
        talk.tick()
        talk.now = talk.conversation.next_deadline
    greetings = 0
    began = talk.now
    while talk.now < began + 2:
        talk.conversation.receive(stale(), talk.now)
        greetings += talk.tick().startswith(b"\n")  # a bare acknowledgement starts with its direction
        talk.now += 0.01
    assert 15 <= greetings <= 21


def test_a_changed_key_gets_nothing_until_it_is_forgotten(talk: Talk) -> None:
    talk.begin()
    talk.run()
    impostor = FakeGuest(uuid=UUID)
    rightful, talk.guest = talk.guest, impostor
    talk.begin(wanted({**PLAIN, "local-hostname": "web2"}))
    talk.run()
    assert talk.kinds()[-1] is What.KEY_CHANGED
    assert impostor.opened == []
    assert talk.notices[-1].text.count("SHA256:") == 2
    assert talk.vm()["state"] == "key-changed"
    # Not even the right key ends it: an operator has to look.
    talk.guest = rightful
    rightful.restart()
    talk.begin(wanted({**PLAIN, "local-hostname": "web2"}))
    talk.run()
    assert talk.kinds()[-1] is What.KEY_CHANGED
    assert talk.ledger.forget_key("00010203-0405-0607-0809-0a0b0c0d0e0f")
    talk.pass_time(TIMING.after_refusal + 1)
    assert talk.kinds()[-1] is What.SETTLED
    assert talk.vm()["state"] == "ready"


def test_a_quarrel_is_not_hidden_by_the_next_greeting(talk: Talk) -> None:
    talk.begin()
    talk.run()
    talk.guest = FakeGuest(uuid=UUID)
    for _ in range(3):
        talk.begin()
        talk.run()
        talk.guest.restart()
        assert talk.vm()["state"] == "key-changed"


def test_a_key_under_two_uuids_gets_nothing_under_the_second(talk: Talk) -> None:
    talk.begin()
    talk.run()
    clone = FakeGuest(key=talk.guest.key, uuid=OTHER)
    talk.guest = clone
    talk.begin(wanted(uuid=OTHER, name="web2"))
    talk.run()
    assert talk.kinds()[-1] is What.KEY_SHARED
    assert clone.opened == []
    assert talk.vm("web2")["state"] == "key-shared"
    assert talk.vm()["state"] == "ready"
    # A key of its own does not end it by itself; an operator's word does.
    clone.key = KeyPair.generate()
    clone.restart()
    talk.begin(wanted(uuid=OTHER, name="web2"))
    talk.run()
    assert talk.kinds()[-1] is What.KEY_SHARED
    talk.ledger.forget_key(talk.vm("web2")["key"])
    clone.restart()
    talk.begin(wanted(uuid=OTHER, name="web2"))
    talk.run()
    assert talk.kinds()[-1] is What.SETTLED


def test_a_vm_first_known_by_name_and_then_by_uuid_is_one_vm(talk: Talk) -> None:
    talk.guest = FakeGuest()
    talk.begin(wanted(uuid=NO_UUID))
    talk.run()
    talk.guest.restart()
    talk.begin(wanted(uuid=UUID))
    talk.run()
    assert talk.kinds()[-1] is What.SETTLED
    assert len(talk.guest.applied) == 1
    assert talk.vm()["items"][0]["outcome"] == "applied"
    talk.guest.restart()
    talk.begin(wanted(uuid=NO_UUID))
    talk.run()
    assert talk.kinds()[-1] is What.SETTLED


def test_a_guest_that_is_another_vm_is_named_with_its_uuid(talk: Talk) -> None:
    talk.begin(wanted(uuid=OTHER))
    talk.run()
    assert talk.kinds()[-1] is What.REFUSED
    assert talk.notices[-1].refusal is Refusal.UUID
    assert "--uuid 00010203-0405-0607-0809-0a0b0c0d0e0f" in talk.notices[-1].text
    assert talk.conversation.next_deadline == talk.now + TIMING.after_refusal


def test_a_guest_that_believes_another_host_gets_nothing(talk: Talk) -> None:
    talk.guest = FakeGuest(uuid=UUID, trust=Trust(frozenset({KeyPair.generate().public})))
    talk.begin()
    talk.run()
    assert talk.kinds()[-1] is What.REFUSED
    assert "trusted_keys" in talk.notices[-1].text
    assert talk.vm()["state"] == "refused"


def test_a_guest_that_takes_the_document_and_says_nothing_is_greeted_again(talk: Talk) -> None:
    talk.guest.answer = lambda message, end: None
    talk.begin()
    talk.run()
    talk.now += TIMING.result - 1
    talk.tick()
    assert What.LOST not in talk.kinds()
    talk.now += 1
    talk.tick()
    assert talk.kinds()[-1] is What.LOST
    talk.guest.answer = talk.guest.comply
    talk.pass_time(TIMING.greeting_every + 1)
    assert talk.kinds()[-1] is What.SETTLED


def test_an_agent_that_died_of_a_document_and_runs_again_is_met_again_long_before_a_result_is_due(talk: Talk) -> None:
    talk.guest.answer = lambda message, end: None
    talk.begin()
    talk.run()
    talk.guest.restart()
    talk.guest.answer = talk.guest.comply
    talk.pass_time(TIMING.while_working + 1)
    assert talk.kinds()[-1] is What.SETTLED
    assert [document.generation for document in talk.guest.applied] == [1]


def test_a_guest_that_works_is_asked_now_and_then_and_answers_when_it_can(talk: Talk) -> None:
    held: list[HostMessage] = []
    talk.guest.answer = lambda message, end: held.append(message)
    talk.begin()
    talk.run()
    talk.pass_time(TIMING.while_working * 3)
    assert [type(message) for message in held] == [Provision, Ping, Ping, Ping]
    document, *questions = held
    assert isinstance(document, Provision)
    talk.guest.end.send(talk.guest.result(document))
    for number, question in enumerate(questions):
        assert isinstance(question, Ping)
        talk.guest.end.send(Pong(question.n, FACTS) if number == 0 else Pong(question.n))
    talk.guest.answer = talk.guest.comply
    talk.conversation.receive(talk.guest.end.data_to_send(), talk.now)
    assert talk.vm()["facts"]["kernel"] == FACTS.kernel
    talk.pass_time(TIMING.first_ping + TIMING.pong + 1)
    assert What.LOST not in talk.kinds()
    assert talk.guest.pinged == 1


def test_a_guest_whose_qemu_does_not_read_is_not_asked_while_it_works(talk: Talk) -> None:
    held: list[HostMessage] = []
    talk.guest.answer = lambda message, end: held.append(message)
    talk.begin()
    talk.run()
    talk.backlog = 1
    talk.pass_time(TIMING.while_working * 3)
    assert [type(message) for message in held] == [Provision]


def test_progress_extends_the_wait_but_not_for_ever(talk: Talk) -> None:
    talk.guest.answer = lambda message, end: None
    talk.begin()
    talk.run()
    began = talk.now
    while What.LOST not in talk.kinds():
        assert talk.now <= began + TIMING.result_at_most
        talk.now += TIMING.result - 1
        talk.guest.end.send(Progress(1, "network"))
        talk.conversation.receive(talk.guest.end.data_to_send(), talk.now)
        talk.tick()
    assert talk.now > began + TIMING.result * 2


def test_a_live_guest_is_asked_now_and_then_and_a_silent_one_is_given_up(talk: Talk) -> None:
    talk.begin()
    talk.run()
    talk.pass_time(TIMING.ping_every * 3 + 1)
    assert talk.guest.pinged == 3
    talk.guest.answer = lambda message, end: None
    talk.pass_time(TIMING.ping_every + TIMING.pong)
    assert talk.kinds()[-1] in (What.LOST, What.GREETING, What.MET)
    assert What.LOST in talk.kinds()


def test_answers_that_nobody_asked_for_change_nothing(talk: Talk) -> None:
    talk.begin()
    talk.run()
    before, count = talk.vm(), len(talk.notices)
    for message in (Result(1, Outcome.FAILED), Result(9, Outcome.APPLIED), Progress(1, "hostname")):
        talk.guest.end.send(message)
    talk.conversation.receive(talk.guest.end.data_to_send(), talk.now)
    assert len(talk.notices) == count
    after = talk.vm()
    assert {k: v for k, v in after.items() if k != "last-heard"} == {k: v for k, v in before.items() if k != "last-heard"}


def test_a_result_of_another_generation_is_not_taken_for_the_answer(talk: Talk) -> None:
    def lie(message: HostMessage, end: Guest) -> None:
        end.send(Result(99, Outcome.APPLIED))

    talk.guest.answer = lie
    talk.begin()
    talk.run()
    assert What.SETTLED not in talk.kinds()


def test_a_failed_item_is_kept_with_its_reason_and_log(talk: Talk) -> None:
    def fail(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            end.send(talk.guest.result(message, Outcome.ROLLED_BACK))

    talk.guest.answer = fail
    talk.begin()
    talk.run()
    vm = talk.vm()
    assert (vm["outcome"], vm["generation-applied"]) == ("rolled-back", 0)
    assert vm["items"][0]["reason"] == "command-failed"
    assert vm["items"][0]["log"] == ["line \\x1b[31mone", "line two"]


def test_a_session_that_is_sealed_and_lost_in_one_read_raises_nothing(talk: Talk) -> None:
    talk.begin()
    answer = talk.guest.receive(talk.tick())
    ids = answer.split()[1:3]
    bad = finish(header(GUEST_SPEAKS, ids[0], ids[1], 1, 0), b"y" * 40)
    talk.conversation.receive(answer + bad, talk.now)
    assert talk.kinds()[-1] is What.LOST
    assert talk.guest.applied == []
    talk.guest.restart()
    talk.pass_time(TIMING.greeting_every)
    assert talk.kinds()[-1] is What.SETTLED


def test_garbage_in_front_of_and_between_the_lines_does_no_harm(talk: Talk) -> None:
    talk.begin()
    talk.conversation.receive(b"login: AT\r\nATI1\r\n" + bytes(range(256)) + b"\n", talk.now)
    answer = talk.guest.receive(talk.tick())
    for byte in b"< ........ nonsense\n" + answer:
        talk.conversation.receive(bytes((byte,)), talk.now)
    talk.run()
    assert talk.kinds()[-1] is What.SETTLED


def test_the_ledger_says_what_is_sent_before_it_is_sent(talk: Talk) -> None:
    talk.begin()
    talk.conversation.receive(talk.guest.receive(talk.tick()), talk.now)
    vm = talk.vm()  # nothing has been taken from data_to_send yet
    assert (vm["state"], vm["generation-wanted"]) == ("provisioning", 1)
    assert vm["guest-key"]


def test_ping_numbers_are_answered_only_once(talk: Talk) -> None:
    talk.begin()
    talk.run()
    talk.pass_time(TIMING.first_ping)
    asked: list[Ping] = []
    talk.guest.answer = lambda message, end: asked.append(message) if isinstance(message, Ping) else None
    talk.pass_time(TIMING.ping_every)
    assert [ping.n for ping in asked] == [2]


def test_a_guest_cannot_have_us_greet_it_again_and_again(talk: Talk) -> None:
    """Each line of an earlier session is a reason to greet now rather than later, but not for ever."""
    conversation = talk.begin()
    stale = finish(header(GUEST_SPEAKS, b"A" * 8, b"B" * 8, 5, 0), b"")
    greetings, seconds = 0, 300
    for _ in range(10 * seconds):
        talk.now += 0.1
        greetings += talk.tick().count(b"\n> ")
        conversation.receive(stale, talk.now)
    by_itself = seconds / TIMING.greeting_every
    assert by_itself < greetings <= 40 + seconds / 5 + by_itself
