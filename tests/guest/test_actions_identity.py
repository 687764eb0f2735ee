# SPDX-License-Identifier: Apache-2.0
"""A new instance shares with no other what two machines must not share, and a machine that stays itself keeps it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import Completed
from pv_channel.messages import Outcome, Result
from pv_channel.private_key import public_half
from tests.guest.machine import Machine, document, key, provision

if TYPE_CHECKING:
    from pathlib import Path

OLD_ID = "0123456789abcdef0123456789abcdef\n"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nthe template's\n"
SEED = b"s" * 512


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """What was cloned: host keys of three types, a machine-id, a random seed."""
    made = Machine(tmp_path)
    for number, kind in enumerate(("ed25519", "ecdsa", "rsa")):
        made.write(f"etc/ssh/ssh_host_{kind}_key", PRIVATE.encode(), 0o600)
        made.write(f"etc/ssh/ssh_host_{kind}_key.pub", f"{key(number)} root@template\n".encode())
    made.write("etc/ssh/ssh_host_ed25519_key-cert.pub", b"a certificate for what is gone\n")
    made.write("etc/ssh/sshd_config", b"Include /etc/ssh/sshd_config.d/*.conf\n")
    made.write("etc/machine-id", OLD_ID.encode(), 0o444)
    made.write("var/lib/dbus/machine-id", OLD_ID.encode())
    made.write("var/lib/systemd/random-seed", SEED, 0o600)
    return made


def host_key_files(machine: Machine) -> list[str]:
    return sorted(path.name for path in (machine.root / "etc/ssh").glob("ssh_host_*"))


def pairs(*kinds: str) -> list[str]:
    return sorted(f"ssh_host_{kind}_key{end}" for kind in kinds for end in ("", ".pub"))


def become(machine: Machine, generation: int = 1, instance: str = "i-1", **fields: Any) -> Result:
    return provision(machine, document(generation, instance, **fields))


def test_a_new_instance_gets_new_keys_id_and_seed_and_says_so(machine: Machine) -> None:
    result = become(machine, local_hostname="web1")
    (identity,) = [item for item in result.items if item.item == "identity"]
    assert (identity.outcome, identity.detail) == (Outcome.APPLIED, "new host keys (ed25519, ecdsa), machine-id, random seed")
    assert host_key_files(machine) == pairs("ed25519", "ecdsa")
    for kind in ("ed25519", "ecdsa"):
        public = machine.read(f"etc/ssh/ssh_host_{kind}_key.pub")
        assert public == f"{public_half(machine.read(f'etc/ssh/ssh_host_{kind}_key'))} root@web1\n"
        assert public.strip() in result.host_keys
        assert (machine.root / f"etc/ssh/ssh_host_{kind}_key").stat().st_mode & 0o7777 == 0o600
    machine_id = machine.read("etc/machine-id")
    assert machine_id != OLD_ID
    assert (len(machine_id), machine_id[12]) == (33, "4")
    assert machine_id[16] in "89ab"
    assert machine.read("var/lib/dbus/machine-id") == machine_id
    assert (machine.root / "etc/machine-id").stat().st_mode & 0o7777 == 0o444
    seed = machine.root / "var/lib/systemd/random-seed"
    assert len(seed.read_bytes()) == 512
    assert seed.read_bytes() != SEED
    assert seed.stat().st_mode & 0o7777 == 0o600


def test_the_same_instance_keeps_what_it_has(machine: Machine) -> None:
    become(machine)
    kept = machine.snapshot()
    assert become(machine, 2).items == []
    assert machine.snapshot() == kept


def test_every_clone_is_another(machine: Machine, tmp_path: Path) -> None:
    become(machine)
    first = (machine.read("etc/ssh/ssh_host_ed25519_key"), machine.read("etc/machine-id"))
    become(machine, 1, "i-2")
    assert machine.read("etc/ssh/ssh_host_ed25519_key") != first[0]
    assert machine.read("etc/machine-id") != first[1]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ({"ssh_genkeytypes": ["rsa"]}, pairs("rsa")),
        ({"ssh_genkeytypes": ["ed25519"]}, pairs("ed25519")),
        ({"ssh_genkeytypes": []}, sorted([*pairs("ed25519", "ecdsa", "rsa"), "ssh_host_ed25519_key-cert.pub"])),
        ({"ssh_deletekeys": False}, sorted([*pairs("ed25519", "ecdsa", "rsa"), "ssh_host_ed25519_key-cert.pub"])),
    ],
)
def test_a_document_says_which_keys_there_are(machine: Machine, said: dict[str, Any], left: list[str]) -> None:
    become(machine, **said)
    assert host_key_files(machine) == left


def test_keys_that_are_not_deleted_stay_and_missing_ones_are_made(machine: Machine) -> None:
    machine.remove("etc/ssh/ssh_host_ecdsa_key")
    become(machine, ssh_deletekeys=False)
    assert machine.read("etc/ssh/ssh_host_ed25519_key") == PRIVATE
    assert public_half(machine.read("etc/ssh/ssh_host_ecdsa_key")).startswith("ecdsa-sha2-nistp256 ")


def test_rhel_lets_its_group_read_the_keys(machine: Machine) -> None:
    gid = (machine.root / "etc/group").stat().st_gid
    machine.write("etc/group", f"ssh_keys:x:{gid}:\n".encode())
    become(machine)
    status = (machine.root / "etc/ssh/ssh_host_ed25519_key").stat()
    assert (status.st_mode & 0o7777, status.st_gid) == (0o640, gid)


def test_an_id_that_systemd_made_in_this_boot_is_the_clones_own_already(machine: Machine) -> None:
    machine.write("run/systemd/first-boot")
    machine.write("var/lib/dbus/machine-id", b"f" * 32 + b"\n")
    become(machine)
    assert machine.read("etc/machine-id") == machine.read("var/lib/dbus/machine-id") == OLD_ID


@pytest.mark.parametrize("content", [b"", b"uninitialized\n", b"damaged"])
def test_an_id_that_systemd_will_make_is_left_to_it(machine: Machine, content: bytes) -> None:
    machine.write("etc/machine-id", content)
    become(machine)
    assert machine.read("etc/machine-id").encode() == content


def test_an_id_for_this_boot_only_is_left(machine: Machine) -> None:
    machine.write("run/machine-id", OLD_ID.encode())
    become(machine)
    assert machine.read("etc/machine-id") == OLD_ID


def test_a_link_to_the_id_is_left_a_link(machine: Machine) -> None:
    machine.remove("var/lib/dbus/machine-id")
    (machine.root / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")
    become(machine)
    assert (machine.root / "var/lib/dbus/machine-id").is_symlink()


def test_a_machine_without_a_server_gets_no_keys(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.directory("etc/ssh")
    assert become(machine).items == []
    assert host_key_files(machine) == []


def test_a_failure_gives_the_old_identity_back_and_leaves_no_private_key_beside_it(machine: Machine) -> None:
    seed = machine.read("var/lib/systemd/random-seed")
    machine.write("run/systemd/system/x")
    machine.write("lib/systemd/system/ssh.service")
    machine.write("run/sshd.pid", b"1\n")
    old = machine.snapshot()
    machine.programs.endings["systemctl try-reload-or-restart ssh.service"] = Completed(1, b"no")
    assert become(machine).outcome is Outcome.FAILED
    assert machine.snapshot() == old
    assert machine.read("var/lib/systemd/random-seed") == seed


def test_a_server_that_runs_is_told_and_one_that_does_not_is_not(machine: Machine) -> None:
    machine.write("run/systemd/system/x")
    machine.write("lib/systemd/system/ssh.service")
    become(machine)
    assert machine.programs.calls == []
    machine.write("run/sshd.pid", b"1\n")
    become(machine, 1, "i-2")
    assert machine.programs.calls == ["systemctl try-reload-or-restart ssh.service"]


def test_no_private_key_is_shown_or_journalled(machine: Machine, journals: list[str]) -> None:
    shown = str(machine.provisioner().plan(document(), None))
    assert "write /etc/ssh/ssh_host_ed25519_key" in shown
    assert "  +" not in shown, "no line of what will not be so by then"
    assert "PRIVATE" not in shown
    result = become(machine)
    private = machine.read("etc/ssh/ssh_host_ed25519_key").splitlines()[1]
    assert journals
    assert not [text for text in (*journals, str(result), machine.read("var/lib/pv-guest-agent/state.json")) if private in text]
    assert not list((machine.root / "etc/ssh").glob(".*")), "nothing is kept when it is in force"
