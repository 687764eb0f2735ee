# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent push`, run as its main function, against a fake QEMU with a fake guest behind it."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.__main__ import main
from pv_channel.messages import (
    Check,
    ItemResult,
    Outcome,
    Plan,
    Planned,
    PlannedItem,
    Provision,
    Reject,
    Report,
    Result,
    Unconfirmed,
)
from pv_channel.noise import KeyPair
from pv_channel.trust import Trust
from tests.host.fakes import FakeGuest, FakePty, FakeQemu

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.messages import HostMessage
    from pv_channel.session import Guest

UUID = bytes(range(16))
UUID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"
DOCUMENT = "instance-id: i-1\nlocal-hostname: web1\n"


class Dom0:
    """A directory with a document, a state and a socket, and the command run on them."""

    def __init__(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.work, self._capsys = work, capsys
        self.socket = work / "vm1.sock"
        self.document = work / "doc.yaml"
        self.document.write_text(DOCUMENT)
        self.err = ""
        self.out = ""

    def run(self, *arguments: str) -> int:
        """The exit status; output in *out* and *err*."""
        status = main(list(arguments))
        self.out, self.err = self._capsys.readouterr()
        return status

    def push(self, *arguments: str, timeout: float = 20) -> int:
        """Push the document to the socket."""
        where = () if "--pty" in arguments else ("--socket", str(self.socket))
        state = ("--state", str(self.work / "state"))
        return self.run("push", *where, *state, "--timeout", str(timeout), *arguments, str(self.document))

    def push_json(self, *arguments: str, timeout: float = 20) -> tuple[int, dict[str, Any]]:
        """The same with ``--json``."""
        status = self.push("--json", *arguments, timeout=timeout)
        return status, json.loads(self.out)


@pytest.fixture
def dom0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Dom0:
    return Dom0(tmp_path, capsys)


def test_progress_goes_to_stderr_and_the_table_to_stdout(dom0: Dom0) -> None:
    with FakeQemu(dom0.socket, FakeGuest()):
        assert dom0.push() == 0
    assert dom0.out.splitlines()[0].split() == ["ITEM", "OUTCOME"]
    assert "hostname" in dom0.out
    assert "applied" in dom0.out
    for said in ("made this host's key", "connected", "greeting", "sealed with the guest's key SHA256:", "sending generation 1"):
        assert said in dom0.err


def test_json_is_one_object_with_the_items_and_the_host_keys(dom0: Dom0) -> None:
    with FakeQemu(dom0.socket, FakeGuest()):
        status, result = dom0.push_json()
    assert status == 0
    assert {key: result[key] for key in ("vm", "outcome", "generation", "error", "instance-id")} == {
        "vm": "vm1", "outcome": "applied", "generation": 1, "error": "", "instance-id": "i-1",
    }  # fmt: skip
    assert result["items"] == [{"item": "hostname", "outcome": "applied", "reason": "", "detail": "", "log": []}]
    assert result["host-keys"] == ["ssh-ed25519 AAAA host"]


def test_a_second_push_of_the_same_sends_nothing(dom0: Dom0) -> None:
    guest = FakeGuest()
    with FakeQemu(dom0.socket, guest):
        assert dom0.push() == 0
        status, result = dom0.push_json()
    assert (status, result["outcome"], len(guest.applied)) == (0, "unchanged", 1)


def test_an_item_that_failed_is_exit_1_with_its_log_made_printable(dom0: Dom0) -> None:
    guest = FakeGuest()

    def fail(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            end.send(guest.result(message, Outcome.ROLLED_BACK))

    guest.answer = fail
    with FakeQemu(dom0.socket, guest):
        assert dom0.push() == 1
    assert "\x1b" not in dom0.out + dom0.err
    assert "| line \\x1b[31mone" in dom0.out
    assert "hostname: command-failed" in dom0.err


def test_a_qemu_that_accepts_and_never_answers_ends_at_the_deadline_with_what_to_look_at(dom0: Dom0) -> None:
    with FakeQemu(dom0.socket, None):
        status, result = dom0.push_json(timeout=0.6)
    assert (status, result["outcome"]) == (1, "timeout")
    assert "nothing came at all" in result["error"]
    assert "xl before 4.18.5" in result["error"]


def test_no_socket_at_all_is_waited_for_and_named(dom0: Dom0) -> None:
    status, result = dom0.push_json(timeout=0.3)
    assert (status, result["outcome"]) == (1, "timeout")
    assert str(dom0.socket) in result["error"]
    assert "no such socket" in result["error"]


def test_a_socket_that_appears_later_is_found(dom0: Dom0) -> None:
    appears = FakeQemu(dom0.socket, FakeGuest())
    timer = threading.Timer(0.5, appears.__enter__)
    timer.start()
    try:
        assert dom0.push() == 0
    finally:
        timer.join()
        appears.__exit__()


def test_a_file_a_dead_qemu_left_is_told_as_such(dom0: Dom0) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(dom0.socket))
    assert dom0.push(timeout=0.3) == 1
    assert "nobody listens" in dom0.err


def test_a_path_that_is_no_socket_fails_at_once(dom0: Dom0) -> None:
    dom0.socket.write_text("")
    assert dom0.push(timeout=20) == 1
    assert "not a socket" in dom0.err


def test_a_guest_that_is_another_vm_names_the_uuid_to_use(dom0: Dom0) -> None:
    guest = FakeGuest(uuid=UUID)
    with FakeQemu(dom0.socket, guest):
        status, result = dom0.push_json()
        assert (status, result["outcome"]) == (1, "refused")
        assert f"--uuid {UUID_TEXT}" in result["error"]
        assert dom0.push("--uuid", UUID_TEXT) == 0


def test_a_guest_that_trusts_another_host_gets_nothing(dom0: Dom0) -> None:
    guest = FakeGuest(trust=Trust(frozenset({KeyPair.generate().public})))
    with FakeQemu(dom0.socket, guest):
        status, result = dom0.push_json()
    assert (status, result["outcome"], guest.applied) == (1, "refused", [])


def test_a_signed_host_key_is_believed_by_a_guest_that_trusts_the_authority(dom0: Dom0) -> None:
    from pv_channel.trust import Verdict, parse_trusted

    state = ("--state", str(dom0.work / "state"))
    assert dom0.run("keys", "init", *state) == 0
    assert dom0.run("keys", "authority", *state) == 0
    trust = parse_trusted(dom0.out)
    authority = dom0.work / "state" / "authority.key"
    assert dom0.run("keys", "request", "--authority", str(authority.with_suffix(".pub")), *state) == 0
    (dom0.work / "request").write_text(dom0.out)
    assert dom0.run("keys", "sign", str(dom0.work / "request"), "--authority", str(authority), "--label", "dom0-a") == 0
    (dom0.work / "certificate").write_text(dom0.out)
    assert dom0.run("keys", "install", str(dom0.work / "certificate"), *state) == 0
    guest = FakeGuest(trust=trust)
    with FakeQemu(dom0.socket, guest):
        assert dom0.push() == 0
    assert guest.opened[0].verdict is Verdict.CERTIFIED
    assert guest.opened[0].certificate is not None
    assert guest.opened[0].certificate.label == "dom0-a"


def test_a_changed_key_stops_a_push_until_forget_key(dom0: Dom0) -> None:
    with FakeQemu(dom0.socket, FakeGuest()):
        assert dom0.push() == 0
    other = FakeGuest()
    with FakeQemu(dom0.socket, other):
        status, result = dom0.push_json()
        assert (status, result["outcome"], other.applied) == (1, "key-changed", [])
        assert "forget-key vm1" in result["error"]
        assert dom0.run("forget-key", "vm1", "--state", str(dom0.work / "state")) == 0
        assert "forgot SHA256:" in dom0.out
        assert dom0.push() == 0


def test_a_bad_document_is_refused_before_anything_is_connected(dom0: Dom0) -> None:
    dom0.document.write_text("instance-id: i-1\nlocal-hostname: 'web1; reboot'\n")
    with FakeQemu(dom0.socket, FakeGuest()) as qemu:
        assert dom0.push() == 1
        assert qemu.accepted == 0
    assert f"{dom0.document}:2:17: local-hostname: " in dom0.err


def test_two_uuids_that_disagree_are_refused(dom0: Dom0) -> None:
    dom0.document.write_text(DOCUMENT + f"uuid: {UUID_TEXT}\n")
    assert dom0.push("--uuid", UUID_TEXT.replace("0f", "1f")) == 1
    assert "was asked for" in dom0.err


def test_anothers_channel_is_not_claimed(dom0: Dom0) -> None:
    assert dom0.push("--channel", "org.qemu.guest_agent.0") == 1
    assert "belongs to another application" in dom0.err
    assert dom0.push("--channel", "no spaces") == 1


def test_wrong_usage_is_exit_2(dom0: Dom0, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("push --socket x --pty y z", "nonsense", "push --socket x --timeout -1 y", "push --timeout soon", "keys"):
        with pytest.raises(SystemExit) as caught:
            main(words.split())
        assert caught.value.code == 2
    capsys.readouterr()


def test_a_pty_serves_as_well_as_a_socket(dom0: Dom0) -> None:
    with FakePty(FakeGuest()) as terminal:
        os.write(terminal.controller, b"what the guest wrote before anybody came\n")
        assert dom0.push("--pty", terminal.path) == 0


def test_what_is_no_terminal_is_told_as_such(dom0: Dom0) -> None:
    assert dom0.push("--pty", str(dom0.document)) == 1
    assert "not a terminal" in dom0.err


def test_the_private_key_is_in_no_output(dom0: Dom0) -> None:
    with FakeQemu(dom0.socket, FakeGuest()):
        assert dom0.push() == 0
    secret = (dom0.work / "state" / "host.key").read_text().split()[1]
    assert secret not in dom0.out + dom0.err


def lasting(guest: FakeGuest, *later: ItemResult) -> None:
    """Have the guest's user-data be under way when it answers, and tell *later* what became of it."""

    def answer(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            guest.apply(message)
            items = [ItemResult("hostname", Outcome.APPLIED), ItemResult("user-data", Outcome.PENDING)]
            end.send(Result(1, Outcome.APPLIED, items))
            if later:
                end.send(Report(1, list(later)))
        guest.pong(message, end)

    guest.answer = answer


DONE = ItemResult("user-data", Outcome.APPLIED)
FAILED = ItemResult("user-data", Outcome.FAILED, "command-failed", "part 1 ended with status 3")


def test_a_push_waits_for_what_is_under_way(dom0: Dom0) -> None:
    guest = FakeGuest()
    lasting(guest, DONE)
    with FakeQemu(dom0.socket, guest):
        status, result = dom0.push_json()
    assert (status, result["outcome"], result["error"]) == (0, "applied", "")
    assert {item["item"]: item["outcome"] for item in result["items"]} == {"hostname": "applied", "user-data": "applied"}
    assert "waiting for user-data" in dom0.err


def test_what_fails_later_is_exit_1_and_a_degraded_vm(dom0: Dom0) -> None:
    guest = FakeGuest()
    lasting(guest, FAILED)
    with FakeQemu(dom0.socket, guest):
        assert dom0.push() == 1
    assert "generation 1: degraded: user-data: command-failed: part 1 ended with status 3" in dom0.err
    assert "command-failed" in dom0.out
    assert dom0.run("status", "--state", str(dom0.work / "state")) == 0
    assert [word in dom0.out for word in ("degraded", "applied", "user-data: command-failed")] == [True] * 3


def test_a_push_that_shall_not_wait_ends_with_the_answer(dom0: Dom0) -> None:
    guest = FakeGuest()
    lasting(guest)
    with FakeQemu(dom0.socket, guest):
        status, result = dom0.push_json("--no-wait")
    assert (status, result["outcome"]) == (0, "applied")
    assert "under way: user-data" in dom0.err
    assert dom0.run("status", "--state", str(dom0.work / "state")) == 0
    assert "user-data: pending" in dom0.out


def test_what_is_under_way_for_longer_than_the_timeout_is_told_as_such(dom0: Dom0) -> None:
    guest = FakeGuest()
    lasting(guest)
    with FakeQemu(dom0.socket, guest):
        status, result = dom0.push_json(timeout=1.5)
    assert (status, result["outcome"]) == (1, "timeout")
    assert "under way after 1.5 s: user-data" in result["error"]
    assert [item["outcome"] for item in result["items"]] == ["applied", "pending"]


def test_a_second_push_waits_for_what_is_under_way_since_the_first(dom0: Dom0) -> None:
    guest = FakeGuest()
    lasting(guest)
    with FakeQemu(dom0.socket, guest):
        assert dom0.push("--no-wait") == 0

        def report(message: HostMessage, end: Guest) -> None:
            end.send(Report(1, [ItemResult("user-data", Outcome.PENDING)]))
            guest.pong(message, end)
            end.send(Report(1, [DONE]))

        guest.answer = report
        status, result = dom0.push_json()
    assert (status, result["outcome"], len(guest.applied)) == (0, "unchanged", 1)
    assert [item["outcome"] for item in result["items"]] == ["applied"]


def plans(guest: FakeGuest, planned: Planned) -> None:
    """Have the guest answer plans with that, and nothing else."""

    def answer(message: HostMessage, end: Guest) -> None:
        assert not isinstance(message, Provision)
        if isinstance(message, Plan):
            end.send(planned)
        guest.pong(message, end)

    guest.answer = answer


def test_a_dry_run_prints_the_plan_and_records_nothing(dom0: Dom0) -> None:
    guest = FakeGuest()
    plans(guest, Planned(1, [PlannedItem("hostname", detail="web1", steps=["write /etc/hostname", "  +web1\x1b"])]))
    with FakeQemu(dom0.socket, guest):
        assert dom0.push("--dry-run") == 0
        assert dom0.out == "hostname (web1)\n  write /etc/hostname\n    +web1\\x1b\n"
        status, result = dom0.push_json("--dry-run")
        assert (status, result["outcome"], result["generation"], result["changes"]) == (0, "planned", 1, True)
        assert result["items"][0]["steps"][0] == "write /etc/hostname"
        guest.answer = guest.comply
        assert dom0.push() == 0
    assert [document.generation for document in guest.applied] == [1]


@pytest.mark.parametrize(
    ("planned", "outcome", "error"),
    [
        (Planned(0, reason="bad-document", path="users", detail="no"), "refused", "refused: users: bad-document: no"),
        (Planned(1, [PlannedItem("network", "conflict", "x")]), "failed", "network: cannot be: conflict: x"),
    ],
)
def test_a_dry_run_of_what_cannot_be_is_exit_1(dom0: Dom0, planned: Planned, outcome: str, error: str) -> None:
    guest = FakeGuest()
    plans(guest, planned)
    with FakeQemu(dom0.socket, guest):
        status, result = dom0.push_json("--dry-run")
    assert (status, result["outcome"], result["error"]) == (1, outcome, error)


def test_a_push_tells_that_the_network_has_changed_and_what_was_decided(dom0: Dom0) -> None:
    guest = FakeGuest()

    def answer(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            end.send(Unconfirmed(1, 30, [Check("gateway", good=False, detail="gateway 10.0.0.1 does not answer on eth0")]))
        elif isinstance(message, Reject):
            end.send(Result(1, Outcome.FAILED, [ItemResult("network", Outcome.FAILED, "rejected", message.detail)]))

    guest.answer = answer
    with FakeQemu(dom0.socket, guest):
        assert dom0.push() == 1
    assert "the network has changed; waiting for what the guest itself sees" in dom0.err
    assert "the changed network is rejected: gateway 10.0.0.1 does not answer on eth0" in dom0.err
    assert "network: rejected: gateway 10.0.0.1" in dom0.err
    assert dom0.run("status", "--state", str(dom0.work / "state"), "vm1") == 0
    assert "the changed network is rejected" in dom0.out
