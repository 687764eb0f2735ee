# SPDX-License-Identifier: Apache-2.0
"""Whom documents have a guest believe: what they add and take away, what stays revoked for ever, and who is never left."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
import pytest

from guest_agent.conversation import StartOver
from guest_agent.identity import HOST_TRUST, Believed, pins
from guest_agent.provision import Provisioner
from pv_channel.document import parse
from pv_channel.greeting import Refusal
from pv_channel.messages import ItemResult, Outcome, Ping, Pong, Provision, Result
from pv_channel.noise import KeyPair
from pv_channel.session import Refused
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, REVOKED_TYPE, Trust, fingerprint, format_key, sign
from tests.guest.channel_ends import Dom0, RunningAgent, Tty
from tests.guest.killing import survivors
from tests.guest.machine import VERSION, Machine, document, key, no_progress, provision
from tests.guest.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = "etc/pv-guest-agent/trusted_keys"
FILE = HOST_TRUST.lstrip("/")
FLEET, NEXT, HOST, OTHER = (bytes([n]) * 32 for n in range(1, 5))
#: Every how manieth line of the agent's the kills come at: a prime, so that runs of like lines are met in different places.
STRIDE = 11


def authorities(**keys: bytes) -> dict[str, str]:
    """As a document has them."""
    return {name: format_key(AUTHORITY_TYPE, key) for name, key in keys.items()}


def hosts(**keys: bytes) -> dict[str, str]:
    """As a document has them."""
    return {name: format_key(HOST_KEY_TYPE, key) for name, key in keys.items()}


def revoked(*keys: bytes) -> dict[str, str]:
    """As a document has them."""
    return {fingerprint(key): "stolen" for key in keys}


def fleet(top: Path) -> Machine:
    """A guest whose template pinned the fleet's authority."""
    machine = Machine(top)
    machine.write(TEMPLATE, f"{format_key(AUTHORITY_TYPE, FLEET)}\n".encode())
    return machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return fleet(tmp_path)


def give(machine: Machine, generation: int, **host_trust: dict[str, str]) -> ItemResult:
    """What becomes of the item."""
    (item,) = provision(machine, document(generation, host_trust=host_trust)).items
    assert item.item == "host-trust"
    return item


def test_what_a_document_says_is_believed_besides_the_template_s(machine: Machine) -> None:
    assert give(machine, 1, authorities=authorities(next=NEXT), hosts=hosts(a=HOST)).outcome is Outcome.APPLIED
    assert pins(machine.system) == Trust(frozenset({HOST}), frozenset({FLEET, NEXT}))
    assert (machine.root / FILE).stat().st_mode & 0o7777 == 0o600


def test_absent_is_left_alone_and_what_is_left_out_of_a_mapping_goes(machine: Machine) -> None:
    give(machine, 1, authorities=authorities(next=NEXT), hosts=hosts(a=HOST, b=OTHER))
    provision(machine, document(2))
    assert give(machine, 3, hosts=hosts(b=OTHER)).outcome is Outcome.APPLIED
    assert pins(machine.system) == Trust(frozenset({OTHER}), frozenset({FLEET, NEXT}))
    assert give(machine, 4, authorities={}, hosts={}).outcome is Outcome.APPLIED
    assert pins(machine.system) == Trust(authorities=frozenset({FLEET}))


def test_to_say_it_again_changes_nothing(machine: Machine) -> None:
    give(machine, 1, authorities=authorities(next=NEXT), revoked=revoked(OTHER))
    before = (machine.root / FILE).stat()
    assert give(machine, 2, authorities=authorities(next=NEXT)).outcome is Outcome.UNCHANGED
    after = (machine.root / FILE).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_older_list_of_revocations_never_shrinks_a_newer_one(machine: Machine) -> None:
    """Said again as another generation, or by a replayed document for which a new instance began the count anew."""
    give(machine, 1, revoked=revoked(HOST))
    give(machine, 2, revoked=revoked(HOST, OTHER))
    give(machine, 3, revoked=revoked(HOST))
    give(machine, 4, revoked={}, hosts={}, authorities={})
    assert provision(machine, document(1, "i-2", host_trust={"revoked": revoked(HOST)})).outcome is not Outcome.REFUSED
    assert pins(machine.system).revoked == {fingerprint(HOST), fingerprint(OTHER)}


def test_what_is_revoked_is_believed_under_no_name_that_a_later_document_gives_it(machine: Machine) -> None:
    give(machine, 1, revoked=revoked(HOST))
    give(machine, 2, hosts=hosts(a=HOST))
    assert HOST not in pins(machine.system).believed


def test_a_revocation_that_a_person_wrote_stays_whatever_blanks_are_around_it(machine: Machine) -> None:
    machine.write(FILE, f"  {REVOKED_TYPE}   {fingerprint(HOST)}\n".encode(), 0o600)
    give(machine, 1, revoked=revoked(OTHER))
    assert pins(machine.system).revoked == {fingerprint(HOST), fingerprint(OTHER)}


@pytest.mark.parametrize("said", [{}, {"authorities": {}}, {"hosts": {}, "authorities": {}}])
def test_a_guest_is_never_left_with_nobody_to_believe(machine: Machine, said: dict[str, dict[str, str]]) -> None:
    item = give(machine, 1, revoked=revoked(FLEET), **said)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "nobody-believed")
    assert pins(machine.system) == Trust(authorities=frozenset({FLEET}))
    assert give(machine, 2, revoked=revoked(FLEET), authorities=authorities(next=NEXT)).outcome is Outcome.APPLIED
    assert pins(machine.system).believed == {NEXT}
    assert give(machine, 3, revoked=revoked(NEXT)).reason == "nobody-believed"
    assert give(machine, 4, authorities={}).reason == "nobody-believed"


def test_a_guest_that_only_documents_told_whom_to_believe_never_comes_to_believe_the_first_it_meets(machine: Machine) -> None:
    give(machine, 1, hosts=hosts(a=HOST))
    machine.remove(TEMPLATE)
    assert give(machine, 2, hosts={}).reason == "nobody-believed"
    assert pins(machine.system).pinned == {HOST}


def test_a_guest_does_not_keep_more_revocations_than_it_can_read_again(machine: Machine) -> None:
    many = {fingerprint(str(n).encode()): "x" * 100 for n in range(1024)}
    assert give(machine, 1, revoked=many).outcome is Outcome.APPLIED
    assert len(pins(machine.system).revoked) == 1024
    assert give(machine, 2, revoked=revoked(HOST)).reason == "too-large"
    assert give(machine, 3, revoked=many).outcome is Outcome.UNCHANGED


def test_a_document_that_fails_in_another_item_has_revoked_nobody(machine: Machine) -> None:
    users = [{"name": "gone", "ssh_authorized_keys": [key(1)]}]
    result = provision(machine, document(1, users=users, host_trust={"revoked": revoked(HOST)}))
    assert result.outcome is Outcome.FAILED
    assert pins(machine.system).revoked == frozenset()


def test_a_damaged_file_is_a_conflict_and_stays_as_it_is(machine: Machine) -> None:
    machine.write(FILE, b"pv-revoked x\n", 0o600)
    item = give(machine, 1, revoked=revoked(HOST))
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert "line 1" in item.detail
    assert machine.read(FILE) == "pv-revoked x\n"


def test_a_dry_run_shows_whom_the_guest_would_believe_and_changes_nothing(machine: Machine) -> None:
    planned = machine.provisioner().plan(document(1, host_trust={"revoked": revoked(HOST)}), None)
    (item,) = planned.items
    assert any(fingerprint(HOST) in step for step in item.steps)
    assert not (machine.root / FILE).exists()


def test_who_hands_documents_to_cloud_init_keeps_its_trust_itself(machine: Machine) -> None:
    machine.write("usr/bin/cloud-init")
    machine.write("etc/systemd/system/cloud-init.target.wants/cloud-init-local.service")
    machine.directory("var/lib/cloud/seed")
    provisioner = Provisioner(machine.system, VERSION, hand_off=True)
    result = provisioner.provision(document(1, local_hostname="web1", host_trust={"revoked": revoked(HOST)}), None, no_progress)
    assert [(item.item, item.outcome) for item in result.items] == [
        ("host-trust", Outcome.APPLIED),
        ("cloud-init", Outcome.PENDING),
    ]
    assert pins(machine.system).revoked == {fingerprint(HOST)}


def test_a_kill_at_any_line_leaves_the_old_trust_or_the_new_and_the_next_start_the_new() -> None:
    said = {"authorities": authorities(next=NEXT), "hosts": {}, "revoked": revoked(FLEET, HOST)}
    old_document, raw = document(1, host_trust={"hosts": hosts(a=OTHER), "revoked": revoked(HOST)}), document(2, host_trust=said)
    assert parse(raw).generation == 2  # what parsing loads is loaded before lines are counted

    def make(top: Path) -> Machine:
        made = fleet(top)
        assert provision(made, old_document).outcome is Outcome.APPLIED
        return made

    def become(machine: Machine) -> None:
        assert machine.provisioner().provision(raw, None, no_progress).outcome in (Outcome.APPLIED, Outcome.UNCHANGED)

    old = Trust(frozenset({OTHER}), frozenset({FLEET}), frozenset({fingerprint(HOST)}))
    new = Trust(frozenset(), frozenset({FLEET, NEXT}), frozenset({fingerprint(FLEET), fingerprint(HOST)}))
    for at, machine in survivors(make, become, STRIDE, 500):
        assert Believed(machine.system).trust in (old, new), f"half a file after a kill at line {at}"
        machine.provisioner().recover()
        trust, generation = pins(machine.system), machine.provisioner().hello().generation
        assert trust == (new if generation == 2 else old), f"another trust than the generation's after a kill at line {at}"
        assert (machine.root / FILE).stat().st_mode & 0o7777 == 0o600
        become(machine)
        assert pins(machine.system) == new
        assert machine.state_files() == ["host_trust", "state.json"]


def revoke(stage: Stage, root: Path) -> None:
    """Write what a document writes that revokes the host on the *stage*."""
    (root / FILE).write_text(f"{REVOKED_TYPE} {fingerprint(stage.key.public)}\n", encoding="ascii")


def in_steps(stage: Stage) -> None:
    """Go on for longer than a host has for its last answer."""
    for _ in range(20):
        stage.conversation.step(1)


def test_a_host_that_its_own_document_revokes_has_the_answer_and_then_no_session(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.provisioner.meanwhile = lambda: revoke(stage, tmp_path)
    stage.open(Provision(msgspec.Raw(document())))
    assert stage.only(Result).outcome is Outcome.APPLIED
    stage.host.send(Provision(msgspec.Raw(document(2))))
    stage.host.send(Ping(7))
    with pytest.raises(StartOver, match="believed no more"):
        in_steps(stage)
    assert not stage.all(Pong)
    assert len(stage.provisioner.asked) == 1


def test_what_another_agent_of_the_machine_was_told_counts_for_the_next_session(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    revoke(stage, tmp_path)
    with pytest.raises(StartOver, match="believed no more"):
        stage.open(Provision(msgspec.Raw(document())))
    assert stage.provisioner.asked == []


def test_a_damaged_file_leaves_a_running_agent_with_whom_it_believed(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.open(Ping(1))
    (tmp_path / FILE).write_text("pv-revoked x\n", encoding="ascii")
    stage.host.send(Provision(msgspec.Raw(document())))
    stage.conversation.step(0)
    stage.host.send(Ping(2))
    stage.conversation.step(0)
    assert [pong.n for pong in stage.all(Pong)] == [1, 2]
    assert stage.only(Result).outcome is Outcome.APPLIED


def test_a_revoked_host_is_refused_and_that_is_logged_once_with_both_fingerprints(tmp_path: Path) -> None:
    dom0_key = KeyPair.generate()
    certificate = sign(bytes(range(32)), dom0_key.public, issued=1, label="dom0-a")
    path = tmp_path / TEMPLATE
    path.parent.mkdir(parents=True)
    lines = (format_key(AUTHORITY_TYPE, certificate.authority), f"{REVOKED_TYPE} {fingerprint(certificate.authority)}")
    path.write_text("".join(f"{line}\n" for line in (*lines, format_key(AUTHORITY_TYPE, OTHER))), encoding="ascii")
    with Tty() as tty:
        agent = RunningAgent(tmp_path, lambda: [tty.path])
        dom0 = Dom0(tty.master, key=dom0_key, certificate=certificate)
        for _ in range(3):
            dom0.greet()
            refused = dom0.until(Refused)
            assert (refused.refusal, refused.detail) == (Refusal.REVOKED, sha256(certificate.authority).digest()[:16])
            dom0.host.abandon("a fresh greeting")
        log = agent.stop(tty)
    (said,) = [line for line in log.splitlines() if "refused the host key" in line]
    assert f"{fingerprint(dom0_key.public)}: its authority {fingerprint(certificate.authority)} is revoked here" in said
