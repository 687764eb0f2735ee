# SPDX-License-Identifier: Apache-2.0
"""The agent over a real pty whose master side is driven by the host's end of the protocol."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from guest_agent.identity import Believed
from guest_agent.system import System
from pv_channel.greeting import Refusal
from pv_channel.messages import Outcome, Ping, Pong, Progress, Result
from pv_channel.noise import KeyPair
from pv_channel.session import Lost, Refused, Sealed
from pv_channel.transport import GUEST_IN_FLIGHT_BYTES
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, fingerprint, format_key, sign
from tests.guest.channel_ends import Dom0, FakeProvisioner, RunningAgent, Tty

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = "org.example.other.1"
TOP = Path(__file__).parent.parent.parent


@pytest.fixture
def tty() -> Iterator[Tty]:
    """A cooked pty."""
    with Tty() as made:
        yield made


@pytest.fixture(autouse=True)
def no_agent_outlives_its_test() -> Iterator[None]:
    """One whose test failed would open the next test's tty, which has the same number."""
    yield
    while RunningAgent.started:
        RunningAgent.started.pop().stop_looking()


def pin(root: Path, *lines: str) -> None:
    """Write the template's trusted keys."""
    path = root / "etc/pv-guest-agent/trusted_keys"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def test_a_greeting_that_was_queued_before_the_agent_opened_is_answered(tty: Tty, tmp_path: Path) -> None:
    dom0 = Dom0(tty.master)
    dom0.greet()
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    dom0.until(Sealed)  # and not greeted again
    agent.stop(tty)


def test_of_many_queued_greetings_one_is_answered(tty: Tty, tmp_path: Path) -> None:
    dom0 = Dom0(tty.master)
    for _ in range(9):  # a cooked tty keeps 4,095 bytes
        dom0.greet()
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    dom0.until(Sealed)
    dom0.hear(0.3)
    agent.stop(tty)
    assert dom0.heard.count(b"\n< ") == 1


def test_a_document_is_handed_over_and_its_progress_and_result_come_back(tty: Tty, tmp_path: Path) -> None:
    uuid = bytes(range(16))
    dom0 = Dom0(tty.master, uuid=uuid)
    agent = RunningAgent(tmp_path, lambda: [tty.path], uuid=uuid)
    dom0.open()
    dom0.provision(b'{"instance-id":"i-1"}')
    assert dom0.message(Progress).item == "hostname"
    assert dom0.message(Result).outcome is Outcome.APPLIED
    agent.stop(tty)
    assert agent.provisioner.asked == [(b'{"instance-id":"i-1"}', "00010203-0405-0607-0809-0a0b0c0d0e0f")]


def test_progress_arrives_while_the_work_goes_on(tty: Tty, tmp_path: Path) -> None:
    provisioner = FakeProvisioner()
    seen: list[int] = []
    dom0 = Dom0(tty.master)

    def meanwhile() -> None:
        """Runs in the agent's thread: what has reached the host's side by now?"""
        ready, _, _ = select.select([tty.master], [], [], 5)
        seen.append(len(ready))

    provisioner.meanwhile = meanwhile
    agent = RunningAgent(tmp_path, lambda: [tty.path], provisioner=provisioner)
    dom0.open()
    dom0.message(Pong)
    dom0.provision()
    deadline = time.monotonic() + 10
    while len(seen) < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert seen[0] == 1
    dom0.message(Result)
    agent.stop(tty)


def test_a_question_between_two_items_is_answered(tty: Tty, tmp_path: Path) -> None:
    provisioner = FakeProvisioner()
    dom0 = Dom0(tty.master)
    agent = RunningAgent(tmp_path, lambda: [tty.path], provisioner=provisioner)
    dom0.open()
    dom0.message(Pong)
    asked: list[bool] = []

    def meanwhile() -> None:
        if not asked:
            asked.append(True)
            dom0.say(Ping(77))

    provisioner.meanwhile = meanwhile
    dom0.provision()
    assert dom0.message(Pong).n == 77  # before the result, which would have been dropped here
    dom0.message(Result)
    agent.stop(tty)


def test_the_next_greeting_hears_of_the_generation_in_force(tty: Tty, tmp_path: Path) -> None:
    dom0 = Dom0(tty.master)
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    dom0.open()
    dom0.provision()
    dom0.message(Result)
    dom0.host.abandon("a test")
    dom0.greet()
    assert dom0.until(Sealed).hello.generation == 1
    agent.stop(tty)


def test_a_hung_up_tty_is_opened_again_and_greeted_anew(tmp_path: Path) -> None:
    with Tty() as first, Tty() as second:
        paths = [first.path]
        agent = RunningAgent(tmp_path, lambda: list(paths))
        dom0 = Dom0(first.master)
        dom0.open()
        paths[0] = second.path
        first.hang_up()
        again = Dom0(second.master, key=dom0.key)
        again.open()
        again.provision()
        assert again.message(Result).outcome is Outcome.APPLIED
        log = agent.stop(second)
    assert "looking for the channel again" in log


def test_a_channel_that_has_another_tty_than_predicted_is_found_without_a_word_on_those_that_have_nobody(tmp_path: Path) -> None:
    with Tty() as ours:
        absent = [str(tmp_path / f"hvc{slot}") for slot in range(1, 4)]
        agent = RunningAgent(tmp_path, lambda: [*absent, ours.path], certain=False)
        Dom0(ours.master).open()
        log = agent.stop(ours)
    assert f"{absent[0]}: No such file or directory; looking for the channel elsewhere" in log
    assert not any(path in log for path in absent[1:])


def test_an_agent_whose_channel_was_unplugged_ends_well_when_it_is_told_to(tmp_path: Path) -> None:
    with Tty() as gone:
        command = [sys.executable, "-m", "guest_agent", "run", "--tty", gone.path, "--root", str(tmp_path)]
        with subprocess.Popen(command, cwd=TOP, stderr=subprocess.PIPE, text=True) as agent:
            assert agent.stderr is not None
            dom0 = Dom0(gone.master)
            dom0.open()
            gone.hang_up()
            said = ""
            while "looking for the channel" not in said:
                line = agent.stderr.readline()
                assert line, said
                said += line
            agent.terminate()
            said += agent.stderr.read()
            assert agent.wait(60) == 0, said
    assert "Traceback" not in said


def test_a_tty_that_is_another_channels_is_left_and_the_next_one_tried(tmp_path: Path) -> None:
    with Tty() as theirs, Tty() as ours:
        agent = RunningAgent(tmp_path, lambda: [theirs.path, ours.path], certain=False)
        stranger = Dom0(theirs.master, channel=OTHER)
        stranger.greet()
        dom0 = Dom0(ours.master)
        dom0.open()
        stranger.hear(0.1)
        assert b"<" not in stranger.heard  # nothing was answered
        log = agent.stop(theirs, ours)
    assert OTHER in log


def test_a_greeting_for_another_channel_drives_nobody_off_a_tty_that_is_proven(tmp_path: Path) -> None:
    with Tty() as ours, Tty() as other:
        agent = RunningAgent(tmp_path, lambda: [ours.path, other.path], certain=False)
        dom0 = Dom0(ours.master)
        dom0.open()
        dom0.message(Pong)
        Dom0(ours.master, channel=OTHER).greet()
        dom0.say(Ping(2))
        assert dom0.message(Pong).n == 2
        agent.stop(ours, other)


def test_a_named_tty_is_kept_whoever_greets_on_it_and_that_is_said_once(tty: Tty, tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, lambda: [tty.path], certain=True)
    for _ in range(3):
        Dom0(tty.master, channel=OTHER).greet()
        time.sleep(0.05)
    dom0 = Dom0(tty.master)
    dom0.open()
    assert agent.stop(tty).count(OTHER) == 1


def test_where_nothing_is_pinned_the_first_host_is_pinned_before_anything_is_done(tty: Tty, tmp_path: Path) -> None:
    dom0 = Dom0(tty.master)
    provisioner = FakeProvisioner()
    pinned: list[bool] = []
    provisioner.meanwhile = lambda: pinned.append(dom0.key.public in Believed(System(tmp_path)).trust.host_keys)
    agent = RunningAgent(tmp_path, lambda: [tty.path], provisioner=provisioner)
    dom0.open()
    dom0.provision()
    dom0.message(Result)
    agent.stop(tty)
    assert pinned == [True, True]


def test_after_the_first_host_another_is_refused_and_that_is_logged_once_with_both_fingerprints(tty: Tty, tmp_path: Path) -> None:
    first, other = Dom0(tty.master), Dom0(tty.master)
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    first.open()
    first.message(Pong)
    for _ in range(3):
        other.greet()
        assert other.until(Refused).refusal is Refusal.HOST_KEY
        other.host.abandon("a fresh greeting")
    log = agent.stop(tty)
    refusals = [line for line in log.splitlines() if "refused the host key" in line]
    assert len(refusals) == 1
    assert fingerprint(other.key.public) in refusals[0]
    assert fingerprint(first.key.public) in refusals[0]


def test_of_two_hosts_that_greet_at_once_only_the_first_to_prove_itself_is_served(tty: Tty, tmp_path: Path) -> None:
    """The second was answered before the first was pinned: what it sends then must not be acted on."""
    first, second = Dom0(tty.master), Dom0(tty.master)
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    first.greet()
    first.until(Sealed)
    # In one read: the first host's first sealed line, which pins it, and the second's greeting, which is judged before that.
    first.host.send(Ping(1))
    second.host.greet()
    os.write(tty.master, first.host.data_to_send() + second.host.data_to_send())
    second.until(Sealed)
    second.provision()
    time.sleep(0.3)
    assert agent.provisioner.asked == []
    assert Believed(System(tmp_path)).trust.host_keys == {first.key.public}
    log = agent.stop(tty)
    assert "another key was pinned meanwhile" in log


def test_a_first_host_that_cannot_be_pinned_is_not_served(tty: Tty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    agent = RunningAgent(tmp_path, lambda: [tty.path])
    monkeypatch.setattr("guest_agent.identity.files.replace", full)
    dom0 = Dom0(tty.master)
    dom0.greet()
    dom0.until(Sealed)
    dom0.provision()
    time.sleep(0.3)
    assert agent.provisioner.asked == []
    assert "cannot be pinned" in agent.stop(tty)


def test_a_pinned_host_is_served_and_nothing_more_is_pinned(tty: Tty, tmp_path: Path) -> None:
    dom0 = Dom0(tty.master)
    pin(tmp_path, format_key(HOST_KEY_TYPE, dom0.key.public))
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    dom0.open()
    dom0.message(Pong)
    assert "(pinned)" in agent.stop(tty)
    assert not (tmp_path / "var/lib/pv-guest-agent/trusted_keys").exists()


def test_a_host_that_a_pinned_authority_signed_is_served_and_one_of_another_authority_is_not(tty: Tty, tmp_path: Path) -> None:
    private = bytes(range(32))
    key, other_key = KeyPair.generate(), KeyPair.generate()
    certificate = sign(private, key.public, issued=1, label="dom0-a")
    wrong = sign(bytes(32), other_key.public, issued=1, label="dom0-b")
    pin(tmp_path, format_key(AUTHORITY_TYPE, certificate.authority, "the fleet"))
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    stranger = Dom0(tty.master, key=other_key, certificate=wrong)
    stranger.greet()
    assert stranger.until(Refused).refusal is Refusal.HOST_KEY
    dom0 = Dom0(tty.master, key=key, certificate=certificate)
    dom0.open()
    dom0.message(Pong)
    assert "'dom0-a' by authority" in agent.stop(tty)


def test_a_greeting_for_another_vm_is_refused_and_the_document_never_arrives(tty: Tty, tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, lambda: [tty.path], uuid=bytes([1]) * 16)
    dom0 = Dom0(tty.master, uuid=bytes([2]) * 16)
    dom0.greet()
    refused = dom0.until(Refused)
    assert (refused.refusal, refused.detail) == (Refusal.UUID, bytes([1]) * 16)
    assert "meant for another VM" in agent.stop(tty)


def test_an_agent_that_is_killed_and_started_again_is_greeted_again(tty: Tty, tmp_path: Path) -> None:
    """A restarted agent has no session; the host's next line tells it so, and the two shake hands again."""
    code = (
        "import sys, time; from pathlib import Path; from tests.guest.channel_ends import RunningAgent\n"
        "RunningAgent(Path(sys.argv[1]), lambda: [sys.argv[2]]); time.sleep(60)"
    )
    dom0 = Dom0(tty.master)
    processes = []
    try:
        for turn in (1, 2):
            processes.append(subprocess.Popen([sys.executable, "-c", code, str(tmp_path), tty.path], cwd=TOP))
            if turn == 2:
                dom0.say(Ping(2))
                assert "does not have the session" in dom0.until(Lost).reason
            dom0.open()
            dom0.message(Pong)
            processes[-1].kill()
            processes[-1].wait()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_its_own_echo_login_prompts_and_modem_commands_are_passed_over(tty: Tty, tmp_path: Path) -> None:
    os.write(tty.master, b"AT+CGMI\r\nATZ\r\n\r\nDebian GNU/Linux 12 dom0 hvc0\r\n\r\nlogin: ")
    dom0 = Dom0(tty.master)
    dom0.greet()
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    dom0.until(Sealed)
    os.write(tty.master, b"\nPassword: \n[ATTACHED]\n" + dom0.heard[-400:] + b"\n")
    dom0.say(Ping(3))
    assert dom0.message(Pong).n == 3
    agent.stop(tty)


def test_after_a_megabyte_of_noise_a_session_still_starts(tty: Tty, tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    for _ in range(256):
        os.write(tty.master, os.urandom(4096))
    dom0 = Dom0(tty.master)
    dom0.open()
    dom0.message(Pong)
    agent.stop(tty)


def test_where_strangers_talk_and_no_host_greets_the_next_tty_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guest_agent.conversation.STRANGERS_SECONDS", 0.1)
    with Tty() as theirs, Tty() as ours:
        agent = RunningAgent(tmp_path, lambda: [theirs.path, ours.path], certain=False)
        time.sleep(0.3)
        os.write(theirs.master, b"somebody's own words\n")
        Dom0(ours.master).open()
        assert "somebody talks there" in agent.stop(theirs, ours)


def test_where_it_is_silent_the_agent_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guest_agent.conversation.STRANGERS_SECONDS", 0.05)
    with Tty() as ours, Tty() as other:
        agent = RunningAgent(tmp_path, lambda: [ours.path, other.path], certain=False)
        time.sleep(0.3)
        Dom0(ours.master).open()
        agent.stop(ours, other)


def test_a_host_that_asks_and_never_reads_is_left_unanswered_before_the_ring_is_full(tty: Tty, tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, lambda: [tty.path])
    dom0 = Dom0(tty.master)
    dom0.open()
    dom0.message(Pong)
    for number in range(200):
        dom0.say(Ping(number))
    time.sleep(0.5)
    assert len(os.read(tty.master, 65536)) <= GUEST_IN_FLIGHT_BYTES
    agent.stop(tty)


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.APPLIED, 0), (Outcome.UNCHANGED, 0), (Outcome.FAILED, 1), (Outcome.REFUSED, 1)]
)
def test_once_ends_with_what_became_of_the_document(tty: Tty, tmp_path: Path, outcome: Outcome, status: int) -> None:
    agent = RunningAgent(tmp_path, lambda: [tty.path], provisioner=FakeProvisioner(outcome), once=True)
    dom0 = Dom0(tty.master)
    dom0.open()
    dom0.provision()
    assert dom0.message(Result).outcome is outcome
    dom0.say(Ping(9))  # carries the acknowledgement
    assert agent.wait(4) == status


def test_once_ends_although_nobody_acknowledges(tty: Tty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guest_agent.agent.LAST_WORDS_SECONDS", 0.3)
    agent = RunningAgent(tmp_path, lambda: [tty.path], once=True)
    dom0 = Dom0(tty.master)
    dom0.open()
    dom0.provision()
    assert agent.wait() == 0


def test_once_ends_with_the_documents_outcome_when_the_host_goes_away_first(tmp_path: Path) -> None:
    with Tty() as tty:
        provisioner = FakeProvisioner()
        provisioner.meanwhile = tty.hang_up
        agent = RunningAgent(tmp_path, lambda: [tty.path], provisioner=provisioner, once=True)
        dom0 = Dom0(tty.master)
        dom0.open()
        dom0.message(Pong)
        dom0.provision()
        assert agent.wait() == 0


def test_once_without_a_host_ends_with_1_after_the_wait(tty: Tty, tmp_path: Path) -> None:
    began = time.monotonic()
    agent = RunningAgent(tmp_path, lambda: [tty.path], once=True, wait=0.3)
    assert agent.wait() == 1
    assert time.monotonic() - began < 5
    assert "within 0.3 s" in agent.output.getvalue()


def test_once_without_a_tty_ends_with_1_after_the_wait(tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, lambda: [str(tmp_path / "hvc1")], once=True, wait=0.3)
    assert agent.wait() == 1


def test_once_waits_on_for_a_host_that_speaks(tty: Tty, tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path, lambda: [tty.path], once=True, wait=1.0)
    dom0 = Dom0(tty.master)
    dom0.open()
    for number in range(4):
        time.sleep(0.5)
        dom0.say(Ping(number))
    dom0.provision()
    dom0.message(Result)
    dom0.say(Ping(9))
    assert agent.wait() == 0


def test_a_key_stays_the_same_over_starts(tmp_path: Path) -> None:
    keys = set()
    for _ in range(2):
        with Tty() as tty:
            path = [tty.path]
            agent = RunningAgent(tmp_path, path.copy)
            dom0 = Dom0(tty.master)
            dom0.greet()
            keys.add(dom0.until(Sealed).guest_key)
            agent.stop(tty)
    assert len(keys) == 1
