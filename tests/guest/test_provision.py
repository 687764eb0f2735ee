# SPDX-License-Identifier: Apache-2.0
"""A document comes into force whole, once, in order, on the right machine; anything else is answered and changes nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from msgspec import UNSET

from guest_agent.provision import Provisioner
from guest_agent.system import System
from pv_channel.document import MAX_GENERATION
from pv_channel.messages import MAX_DOCUMENT_BYTES, Hello, Outcome
from tests.guest.machine import VERSION, Machine, document, everything, key, no_progress, provision, whole

if TYPE_CHECKING:
    from pathlib import Path

UUID = "01234567-89ab-cdef-0123-456789abcdef"
OTHER = "11111111-89ab-cdef-0123-456789abcdef"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_whole_document_is_applied_item_by_item(machine: Machine) -> None:
    worked: list[tuple[int, str]] = []
    result = machine.provisioner().provision(whole(3), None, lambda generation, item: worked.append((generation, item)))
    assert (result.generation, result.outcome, result.reason, result.detail) == (3, Outcome.APPLIED, UNSET, "")
    assert [(item.item, item.outcome, item.detail) for item in result.items] == [
        ("hostname", Outcome.APPLIED, "web1.example.org"),
        ("ssh-keys", Outcome.APPLIED, "root: 1 key, ada: 2 keys"),
        ("network", Outcome.APPLIED, "by systemd-networkd"),
    ]
    assert worked == [(3, "hostname"), (3, "ssh-keys"), (3, "network")]
    assert machine.state_files() == ["state.json"]
    assert (machine.root / "var/lib/pv-guest-agent/state.json").stat().st_mode & 0o7777 == 0o600
    assert (machine.root / "var/lib/pv-guest-agent").stat().st_mode & 0o7777 == 0o700


def test_the_greeting_says_what_is_in_force(machine: Machine) -> None:
    assert machine.provisioner().hello() == Hello(VERSION)
    assert not machine.provisioner().provisioned
    provisioner = machine.provisioner()
    provisioner.provision(whole(3), None, no_progress)
    assert provisioner.hello() == machine.provisioner().hello()
    assert (provisioner.hello().generation, provisioner.hello().instance_id, len(provisioner.hello().digest)) == (3, "i-1", 32)
    assert provisioner.provisioned


def test_the_same_generation_again_writes_nothing_at_all(machine: Machine) -> None:
    provision(machine, whole(3))
    machine.write("etc/hosts", b"edited by a person\n")
    before = everything(machine)
    result = provision(machine, whole(3))
    assert result.outcome is Outcome.UNCHANGED
    assert [(item.item, item.outcome) for item in result.items] == [
        (name, Outcome.UNCHANGED) for name in ("hostname", "ssh-keys", "network")
    ]
    assert everything(machine) == before


def test_a_new_generation_that_says_nothing_new_is_unchanged_and_in_force(machine: Machine) -> None:
    provision(machine, whole(3))
    before = machine.snapshot()
    result = provision(machine, whole(4))
    assert {item.outcome for item in result.items} == {result.outcome} == {Outcome.UNCHANGED}
    assert machine.snapshot() == before
    assert machine.provisioner().hello().generation == 4


def test_what_a_document_does_not_name_is_left_alone(machine: Machine) -> None:
    provision(machine, whole(1))
    before = machine.snapshot()
    assert provision(machine, document(2)).items == []
    assert machine.snapshot() == before
    assert machine.provisioner().hello().generation == 2


@pytest.mark.parametrize(
    ("raw", "uuid", "reason", "path"),
    [
        (b"{", None, "bad-document", ""),
        (b"\xff\xfe", None, "bad-document", ""),
        (b"[" * 100_000, None, "bad-document", ""),
        (bytes(MAX_DOCUMENT_BYTES + 1), None, "bad-document", ""),
        (b'{"instance-id":"i-1"}', None, "no-generation", ""),
        (document(6, uuid=UUID), OTHER, "wrong-vm", "uuid"),
        (document(4), None, "generation-old", "generation"),
        (document(5, local_hostname="web9"), None, "generation-reused", "generation"),
        (document(6, local_hostname="web1; reboot"), None, "bad-document", "local-hostname"),
    ],
)
def test_a_document_that_cannot_be_is_refused_and_nothing_is_touched(
    machine: Machine, raw: bytes, uuid: str | None, reason: str, path: str
) -> None:
    provision(machine, document(5, local_hostname="web5"))
    before = everything(machine)
    result = provision(machine, raw, uuid)
    assert (result.outcome, result.reason, result.path) == (Outcome.REFUSED, reason, path)
    assert result.detail
    assert result.items == []
    assert everything(machine) == before


def test_a_document_for_this_vm_is_taken_whatever_the_case_of_its_uuid(machine: Machine) -> None:
    assert provision(machine, document(1, uuid=UUID.upper()), UUID).outcome is Outcome.UNCHANGED
    assert provision(machine, document(2, uuid=UUID), UUID.upper()).outcome is Outcome.UNCHANGED
    assert provision(machine, document(3, uuid=UUID), None).outcome is Outcome.UNCHANGED


def test_a_new_instance_starts_afresh(machine: Machine) -> None:
    provision(machine, document(9, local_hostname="web1"))
    assert provision(machine, document(1, "i-2", local_hostname="web2")).outcome is Outcome.APPLIED
    assert machine.provisioner().hello().instance_id == "i-2"


def test_one_item_that_cannot_be_planned_keeps_the_others_from_force(machine: Machine) -> None:
    machine.write("etc/passwd", b"ada:x:0\n")
    before = machine.snapshot()
    result = provision(machine, whole())
    assert result.outcome is Outcome.FAILED
    assert [(item.item, item.outcome, item.reason) for item in result.items if item.item != "ssh-keys"] == [
        (name, Outcome.ROLLED_BACK, UNSET) for name in ("hostname", "network")
    ]
    assert (result.items[1].outcome, result.items[1].reason) == (Outcome.FAILED, "no-user")
    assert machine.snapshot() == before
    assert machine.state_files() == []


def test_a_failed_generation_may_be_tried_again(machine: Machine) -> None:
    passwd = (machine.root / "etc/passwd").read_bytes()
    machine.write("etc/passwd")
    provision(machine, whole())
    machine.write("etc/passwd", passwd)
    assert provision(machine, whole()).outcome is Outcome.APPLIED


def test_a_failed_generation_leaves_the_one_before_in_force(machine: Machine) -> None:
    provision(machine, whole(1))
    machine.write("etc/passwd")
    assert provision(machine, whole(2, "web2")).outcome is Outcome.FAILED
    assert machine.provisioner().hello().generation == 1
    assert machine.read("etc/hostname") == "web1\n"


def test_the_host_keys_come_back_and_only_they(machine: Machine) -> None:
    rsa_too_long = b"ssh-rsa " + b"A" * 5000
    machine.write("etc/ssh/ssh_host_ed25519_key.pub", f"{key(7)} root@guest\n".encode())
    machine.write("etc/ssh/ssh_host_rsa_key.pub", rsa_too_long)
    machine.write("etc/ssh/ssh_host_ed25519_key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n")
    machine.write("etc/ssh/ssh_host_odd_key.pub", b'command="id" ' + key(8).encode())
    machine.write("etc/ssh/ssh_host_two_key.pub", f"{key(8)}\n{key(9)}\n".encode())
    (machine.root / "etc/ssh/ssh_host_link_key.pub").symlink_to("ssh_host_ed25519_key")
    raw = document(1, ssh_deletekeys=False, ssh_genkeytypes=[])
    assert provision(machine, raw).host_keys == [f"{key(7)} root@guest"]
    assert provision(machine, raw).host_keys == [f"{key(7)} root@guest"]
    assert provision(machine, b"{").host_keys == []


def test_the_time_that_it_took_is_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    def dawdle(generation: int, item: str) -> None:
        machine.waited += 1.5

    assert machine.provisioner().provision(document(local_hostname="web1"), None, dawdle).milliseconds == 1500


def test_a_state_directory_that_cannot_be_made_is_a_failure_with_its_reason(machine: Machine) -> None:
    machine.write("var")
    before = machine.snapshot()
    result = provision(machine, whole())
    assert (result.outcome, result.reason) == (Outcome.FAILED, "not-a-directory")
    assert machine.provisioner().recover() is None
    assert machine.snapshot() == before


def test_an_empty_root_gets_what_it_can_and_says_what_it_cannot(tmp_path: Path) -> None:
    system = System(tmp_path)
    result = Provisioner(system, VERSION).provision(whole(), None, no_progress)
    reasons = {item.item: item.reason for item in result.items if item.outcome is Outcome.FAILED}
    assert reasons == {"network": "no-manager", "users": "not-supported", "ssh-keys": "no-user"}
    assert Provisioner(system, VERSION).provision(document(local_hostname="web1"), None, no_progress).outcome is Outcome.APPLIED
    assert (tmp_path / "etc/hostname").read_text() == "web1\n"
    assert os.uname().nodename != "web1"


def test_the_largest_generation_is_taken(machine: Machine) -> None:
    assert provision(machine, document(MAX_GENERATION)).generation == MAX_GENERATION
