# SPDX-License-Identifier: Apache-2.0
"""sshd's files say what the document says, and where they could not count the item says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import Completed
from pv_channel.messages import ItemResult, Outcome
from tests.guest.machine import Machine, document, key, provision
from tests.protocol.ssh_keys import armoured, certificate, public

if TYPE_CHECKING:
    from pathlib import Path

OURS = "etc/ssh/sshd_config.d/30-pv-guest-agent.conf"
CA = "etc/ssh/pv-guest-agent_user_ca.pub"
#: A document that leaves the host keys alone.
KEPT: dict[str, Any] = {"ssh_deletekeys": False, "ssh_genkeytypes": []}
PRIVATE = "etc/ssh/ssh_host_ed25519_key"
CERTIFICATE = "etc/ssh/ssh_host_ed25519_key-cert.pub"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.write("etc/ssh/sshd_config", b"# Debian's\nInclude /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\n")
    made.directory("etc/ssh/sshd_config.d")
    made.write("usr/sbin/sshd")
    made.directory("run/sshd")
    return made


def give(machine: Machine, generation: int = 1, instance: str = "i-1", **fields: Any) -> ItemResult | None:
    result = provision(machine, document(generation, instance, **fields))
    return next((item for item in result.items if item.item == "sshd"), None)


def ours(machine: Machine) -> list[str]:
    return machine.read(OURS).splitlines()[1:]


def test_user_authorities_and_passwords_stand_in_a_file_of_our_own(machine: Machine) -> None:
    item = give(machine, ssh_trusted_user_ca_keys=[f"{key(1)} ca"], ssh_pwauth=False)
    assert item is not None
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "1 user authority, passwords refused")
    assert machine.read(CA) == f"{key(1)} ca\n"
    assert ours(machine) == [
        "TrustedUserCAKeys /etc/ssh/pv-guest-agent_user_ca.pub", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
    ]  # fmt: skip
    assert machine.programs.calls == ["sshd -t"]


def test_what_is_not_named_stays_and_what_is_empty_goes(machine: Machine) -> None:
    give(machine, ssh_trusted_user_ca_keys=[key(1)], ssh_pwauth=True)
    give(machine, 2, ssh_pwauth=False)
    assert ours(machine)[0].startswith("TrustedUserCAKeys")
    provision(machine, document(3, local_hostname="web1"))
    give(machine, 4, ssh_trusted_user_ca_keys=[])
    assert ours(machine) == ["PasswordAuthentication no", "KbdInteractiveAuthentication no"]
    assert not (machine.root / CA).exists()


def test_the_file_goes_when_nothing_is_left_to_say(machine: Machine) -> None:
    give(machine, ssh_trusted_user_ca_keys=[key(1)])
    give(machine, 2, ssh_trusted_user_ca_keys=[])
    assert not (machine.root / OURS).exists()


def test_the_same_again_changes_nothing_and_starts_nothing(machine: Machine) -> None:
    private = armoured("ed25519", 1)
    keys = {"ed25519_private": private, "ed25519_certificate": certificate("ed25519", 1)}
    said: dict[str, Any] = {"ssh_keys": keys, "ssh_pwauth": True}
    give(machine, **said)
    machine.programs.calls.clear()
    before = machine.snapshot()
    item = give(machine, 2, **said)
    assert item is not None
    assert (item.outcome, machine.programs.calls) == (Outcome.UNCHANGED, [])
    assert machine.snapshot() == before


def test_a_given_key_and_its_certificate_are_in_place_and_private(machine: Machine) -> None:
    machine.write("etc/ssh/ssh_host_rsa_key", b"the template's")
    private = armoured("ed25519", 1)
    result = provision(machine, document(ssh_keys={"ed25519_private": private, "ed25519_certificate": certificate("ed25519", 1)}))
    assert result.outcome is Outcome.APPLIED
    assert machine.read(PRIVATE) == private
    assert (machine.root / PRIVATE).stat().st_mode & 0o7777 == 0o600
    assert machine.read(f"{PRIVATE}.pub") == f"{public('ed25519', 1)}\n"
    assert machine.read(CERTIFICATE) == f"{certificate('ed25519', 1)}\n"
    assert ours(machine) == ["HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub"]
    assert result.host_keys == [public("ed25519", 1)]
    assert not (machine.root / "etc/ssh/ssh_host_rsa_key").exists()


def test_a_certificate_goes_where_it_is_named_no_more_but_a_key_stays(machine: Machine) -> None:
    private = armoured("ed25519", 1)
    give(machine, ssh_keys={"ed25519_private": private, "ed25519_certificate": certificate("ed25519", 1)})
    give(machine, 2, ssh_keys={})
    assert not (machine.root / CERTIFICATE).exists()
    assert not (machine.root / OURS).exists()
    assert machine.read(PRIVATE) == private


def test_a_certificate_for_the_guests_own_key_is_taken_and_one_for_another_refused(machine: Machine) -> None:
    machine.write(f"{PRIVATE}.pub", f"{public('ed25519', 2)} root@web1\n".encode())
    wrong = give(machine, ssh_keys={"ed25519_certificate": certificate("ed25519", 1)}, **KEPT)
    assert wrong is not None
    assert (wrong.outcome, wrong.reason) == (Outcome.FAILED, "wrong-certificate")
    right = give(machine, ssh_keys={"ed25519_certificate": certificate("ed25519", 2)}, **KEPT)
    assert right is not None
    assert right.outcome is Outcome.APPLIED


def test_a_certificate_is_judged_by_the_key_that_the_same_document_makes(machine: Machine) -> None:
    machine.write(PRIVATE, b"the template's")
    machine.write(f"{PRIVATE}.pub", f"{public('ed25519', 2)} root@template\n".encode())
    item = give(machine, ssh_keys={"ed25519_certificate": certificate("ed25519", 2)})
    assert item is not None
    assert item.reason == "wrong-certificate", "the template's key is renewed"


def test_another_instances_certificate_is_not_a_clones(machine: Machine) -> None:
    private = armoured("ed25519", 1)
    give(machine, ssh_keys={"ed25519_private": private, "ed25519_certificate": certificate("ed25519", 1)}, ssh_pwauth=True)
    item = give(machine, 1, "i-2")
    assert item is not None
    assert item.outcome is Outcome.APPLIED
    assert not (machine.root / CERTIFICATE).exists()
    assert machine.read(PRIVATE) != private
    assert ours(machine) == ["PasswordAuthentication yes"]


def test_keys_are_named_where_the_configuration_names_any(machine: Machine) -> None:
    machine.write("etc/ssh/sshd_config", b"Include sshd_config.d/*.conf\nHostKey /etc/ssh/ssh_host_rsa_key\n")
    give(machine, ssh_keys={"ed25519_private": armoured("ed25519", 1)})
    assert ours(machine) == ["HostKey /etc/ssh/ssh_host_ed25519_key"]


INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf\n"


@pytest.mark.parametrize(
    ("files", "reason", "named"),
    [
        ({"sshd_config": ""}, "not-supported", "put 'Include /etc/ssh/sshd_config.d/*.conf' on its first line"),
        ({"sshd_config": f"Match user ada\n{INCLUDE}"}, "not-supported", "before its first Match"),
        ({"sshd_config": "Include /etc/ssh/other.d/*.conf\n"}, "not-supported", "does not include"),
        ({"sshd_config": f"PasswordAuthentication yes\n{INCLUDE}"}, "conflict", "/etc/ssh/sshd_config line 1"),
        ({"sshd_config": f"passwordauthentication=yes\n{INCLUDE}"}, "conflict", "/etc/ssh/sshd_config line 1"),
        ({"sshd_config": f"\tChallengeResponseAuthentication\tyes\n{INCLUDE}"}, "conflict", "line 1"),
        ({"sshd_config": INCLUDE, "sshd_config.d/10-a.conf": "#\nPasswordAuthentication yes\n"}, "conflict", "10-a.conf line 2"),
        ({"sshd_config": INCLUDE, "sshd_config.d/1.conf": "Include x\n", "x": "PasswordAuthentication yes"}, "conflict", "h/x"),
    ],
)
def test_where_our_line_would_not_count_it_is_said_why(machine: Machine, files: dict[str, str], reason: str, named: str) -> None:
    for name, text in files.items():
        machine.write(f"etc/ssh/{name}", text.encode())
    before = machine.snapshot()
    item = give(machine, ssh_pwauth=False)
    assert item is not None
    assert (item.outcome, item.reason) == (Outcome.FAILED, reason)
    assert named in item.detail
    assert machine.snapshot() == before


@pytest.mark.parametrize(
    "files",
    [
        {"sshd_config": f"{INCLUDE}PasswordAuthentication yes\n"},
        {"sshd_config": f"PasswordAuthentication no\n{INCLUDE}"},
        {"sshd_config": 'Include "/etc/ssh/sshd_config.d/*.conf"\n'},
        {"sshd_config": f"Match user ada\nPasswordAuthentication yes\nMatch all\n{INCLUDE}"},
        {"sshd_config": INCLUDE, "sshd_config.d/10-a.conf": "Match user ada\nPasswordAuthentication yes\n"},
        {"sshd_config": INCLUDE, "sshd_config.d/50-cloud-init.conf": "PasswordAuthentication yes\n"},
        {"sshd_config": INCLUDE, "sshd_config.d/10-a.txt": "PasswordAuthentication yes\n"},
        {"sshd_config": INCLUDE + "Include /etc/ssh/sshd_config\n"},
    ],
)
def test_where_our_line_counts_the_item_is_applied(machine: Machine, files: dict[str, str]) -> None:
    for name, text in files.items():
        machine.write(f"etc/ssh/{name}", text.encode())
    item = give(machine, ssh_pwauth=False)
    assert item is not None
    assert item.outcome is Outcome.APPLIED


@pytest.mark.parametrize("missing", ["etc/ssh/sshd_config", "usr/sbin/sshd"])
def test_without_a_server_the_item_is_not_supported(machine: Machine, missing: str) -> None:
    machine.remove(missing)
    item = give(machine, ssh_pwauth=True)
    assert item is not None
    assert item.reason == "not-supported"


def test_what_sshd_does_not_accept_is_rolled_back_before_it_is_told_to_look(machine: Machine) -> None:
    machine.write("run/systemd/system/x")
    machine.write("lib/systemd/system/ssh.service")
    machine.write("run/sshd.pid", b"1\n")
    machine.programs.endings["sshd -t"] = Completed(255, b"line 2: Bad configuration option")
    before = machine.snapshot()
    item = give(machine, ssh_pwauth=False, **KEPT)
    assert item is not None
    assert (item.reason, item.log) == ("command-failed", ["line 2: Bad configuration option"])
    assert machine.snapshot() == before
    assert machine.programs.calls == ["sshd -t", "systemctl try-reload-or-restart ssh.service"], "the last looks at the old files"


def test_where_no_server_ran_yet_the_directory_that_it_needs_is_made_for_the_test(machine: Machine) -> None:
    (machine.root / "run/sshd").rmdir()
    give(machine, ssh_pwauth=False)
    assert (machine.root / "run/sshd").stat().st_mode & 0o7777 == 0o755


def test_a_file_of_ours_that_somebody_has_changed_is_not_fought_over(machine: Machine) -> None:
    give(machine, ssh_pwauth=False)
    machine.write(OURS, b"PasswordAuthentication yes\n")
    item = give(machine, 2, ssh_pwauth=False)
    assert item is not None
    assert item.reason == "conflict"


def test_a_given_private_key_is_shown_to_nobody(machine: Machine, journals: list[str]) -> None:
    private = armoured("ed25519", 1)
    raw = document(ssh_keys={"ed25519_private": private})
    shown = str(machine.provisioner().plan(raw, None))
    result = provision(machine, raw)
    state = machine.read("var/lib/pv-guest-agent/state.json")
    assert len(journals) == 1
    assert not [line for line in private.splitlines()[1:-1] for text in (shown, *journals, state, str(result)) if line in text]
