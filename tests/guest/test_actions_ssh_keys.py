# SPDX-License-Identifier: Apache-2.0
"""Keys come and go in our own block, and a home that its user prepared against us costs nobody but that user."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from guest_agent import homes
from guest_agent.actions.ssh_keys import with_our_keys
from guest_agent.transaction import undo_all
from guest_agent.undo import RestoreKeys
from pv_channel.messages import ItemResult, Outcome
from pv_channel.ssh_key import SshKey
from tests.guest.machine import Machine, document, key, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = "home/ada/.ssh/authorized_keys"
BEGIN, END = "# BEGIN pv-guest-agent\n", "# END pv-guest-agent\n"


def give(machine: Machine, *keys: str, generation: int = 1, user: str = "ada") -> ItemResult:
    raw = document(generation, users=[{"name": user, "ssh_authorized_keys": list(keys)}])
    (item,) = machine.provisioner().provision(raw, None, no_progress).items
    return item


def test_keys_stand_in_our_block_behind_the_users_own_and_are_private(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert give(machine, key(1), key(2)).outcome is Outcome.APPLIED
    assert machine.read(KEYS) == f"{key(99)} ada's own\n{BEGIN}{key(1)}\n{key(2)}\n{END}"
    assert (machine.root / KEYS).stat().st_mode & 0o7777 == 0o600
    assert (machine.root / "home/ada/.ssh").stat().st_mode & 0o7777 == 0o700


def test_a_later_document_replaces_our_keys_and_no_others(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    give(machine, key(1), key(2))
    machine.write(KEYS, (machine.root / KEYS).read_bytes() + f"{key(98)}\n".encode(), 0o600)
    give(machine, key(3), generation=2)
    assert machine.read(KEYS) == f"{key(99)} ada's own\n{BEGIN}{key(3)}\n{END}{key(98)}\n"


def test_an_empty_list_takes_our_block_away_and_an_absent_one_leaves_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    give(machine, key(1))
    held = machine.read(KEYS)
    assert machine.provisioner().provision(document(2, users=[{"name": "ada"}]), None, no_progress).items == []
    assert machine.read(KEYS) == held
    assert give(machine, generation=3).outcome is Outcome.APPLIED
    assert machine.read(KEYS) == f"{key(99)} ada's own\n"


def test_an_empty_list_where_nothing_of_ours_is_changes_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    old = machine.snapshot()
    assert give(machine).outcome is Outcome.UNCHANGED
    assert give(machine, generation=2, user="root").outcome is Outcome.UNCHANGED
    assert machine.snapshot() == old


def test_a_key_that_the_user_has_is_not_repeated_but_one_in_a_comment_is_given(tmp_path: Path) -> None:
    own = f'from="10.0.0.1" {key(1)} mine\n# {key(2)}\n'.encode()
    keys = [SshKey(key(1)), SshKey(key(2)), SshKey(f"{key(2)} again")]
    assert with_our_keys(own, keys) == own + f"{BEGIN}{key(2)}\n{END}".encode()


def test_keys_at_the_top_are_roots(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.provisioner().provision(document(ssh_authorized_keys=[f'restrict,command="a b" {key(1)} ops'],), None, no_progress)
    assert machine.read("root/.ssh/authorized_keys") == f'{BEGIN}restrict,command="a b" {key(1)} ops\n{END}'


def plant_ssh_link(machine: Machine) -> None:
    (machine.root / "home/ada/.ssh").rename(machine.root / "home/ada/real")
    (machine.root / "home/ada/.ssh").symlink_to("../../etc")


def plant_dangling_ssh_link(machine: Machine) -> None:
    (machine.root / "home/ada/.ssh").rename(machine.root / "home/ada/real")
    (machine.root / "home/ada/.ssh").symlink_to("/nowhere")


def plant_keys_link(machine: Machine) -> None:
    machine.remove(KEYS)
    (machine.root / KEYS).symlink_to("../../../etc/passwd")


def plant_keys_fifo(machine: Machine) -> None:
    machine.remove(KEYS)
    os.mkfifo(machine.root / KEYS)


def plant_ssh_file(machine: Machine) -> None:
    (machine.root / "home/ada/.ssh").rename(machine.root / "home/ada/real")
    machine.write("home/ada/.ssh")


def plant_endless_keys(machine: Machine) -> None:
    with (machine.root / KEYS).open("wb") as file:
        file.truncate(1 << 40)


def plant_open_home(machine: Machine) -> None:
    (machine.root / "home/ada").chmod(0o777)


def plant_open_ssh(machine: Machine) -> None:
    (machine.root / "home/ada/.ssh").chmod(0o777)


def plant_home_link(machine: Machine) -> None:
    (machine.root / "home/ada").rename(machine.root / "home/real")
    (machine.root / "home/ada").symlink_to("real")


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (plant_ssh_link, "symlink"),
        (plant_dangling_ssh_link, "symlink"),
        (plant_keys_link, "symlink"),
        (plant_home_link, "symlink"),
        (plant_keys_fifo, "not-a-file"),
        (plant_ssh_file, "not-a-directory"),
        (plant_endless_keys, "too-large"),
        (plant_open_home, "unsafe-home"),
        (plant_open_ssh, "unsafe-home"),
    ],
)
def test_a_hostile_home_fails_its_item_and_changes_nothing(tmp_path: Path, plant: Callable[[Machine], None], reason: str) -> None:
    machine = Machine(tmp_path)
    plant(machine)
    small = plant is not plant_endless_keys  # a file of 1 TiB is not for reading
    old = machine.snapshot() if small else {}
    item = give(machine, key(1))
    assert (item.outcome, item.reason) == (Outcome.FAILED, reason)
    assert "ada" in item.detail
    assert not small or machine.snapshot() == old


def test_a_hard_link_to_somebody_elses_file_is_replaced_not_written(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    precious = machine.write("etc/precious", b"precious\n")
    machine.remove(KEYS)
    os.link(precious, machine.root / KEYS)
    assert give(machine, key(1)).outcome is Outcome.APPLIED
    assert precious.read_bytes() == b"precious\n"


@pytest.mark.parametrize(
    ("passwd", "reason"),
    [
        ("ada:x:0:0\n", "no-user"),
        ("ada:x:-1:0::/home/ada:/bin/sh\n", "no-user"),
        ("ada:x:0x0:0::/home/ada:/bin/sh\n", "no-user"),
        ("ada:x:1:1::/home/../etc:/bin/sh\n", "no-home"),
        ("ada:x:1:1::/:/bin/sh\n", "no-home"),
        ("ada:x:1:1::home:/bin/sh\n", "no-home"),
        ("ada:x:1:1::/home/ada/nowhere:/bin/sh\n", "no-home"),
    ],
)
def test_a_user_with_a_damaged_record_or_without_a_home_fails_the_item(tmp_path: Path, passwd: str, reason: str) -> None:
    machine = Machine(tmp_path)
    machine.directory("home/ada").chmod(0o755)
    machine.write("etc/passwd", passwd.encode())
    if "nowhere" in passwd:
        machine.write("etc/passwd", passwd.replace("1:1", f"{os.geteuid()}:{os.getegid()}").encode())
    assert give(machine, key(1)).reason == reason


@pytest.mark.parametrize("passwd", ["", "rooty:x:0:0::/root:/bin/sh\n", "#root:x:0:0::/root:/bin/sh\n"])
def test_roots_keys_need_a_root(tmp_path: Path, passwd: str) -> None:
    machine = Machine(tmp_path)
    machine.write("etc/passwd", passwd.encode())
    (item,) = machine.provisioner().provision(document(ssh_authorized_keys=[key(1)]), None, no_progress).items
    assert (item.outcome, item.reason) == (Outcome.FAILED, "no-user")


def test_a_link_that_the_user_plants_while_we_roll_back_is_noted_and_holds_nobody_up(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    home = homes.find(machine.system, "ada")
    undo = RestoreKeys(home, homes.read(machine.system, home))
    give(machine, key(1))
    plant_ssh_link(machine)
    notes, restored = undo_all(machine.system, [undo])
    assert restored
    assert notes == ["restore the keys of ada: a symbolic link stands there, which is not followed"]


def test_users_who_fill_their_files_do_not_fill_the_journal(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    uid, gid = os.geteuid(), os.getegid()
    users = [f"u{number}" for number in range(17)]
    machine.write("etc/passwd", "".join(f"{user}:x:{uid}:{gid}::/home/{user}:/bin/sh\n" for user in users).encode())
    for user in users:
        machine.directory(f"home/{user}/.ssh", 0o700)
        with (machine.root / f"home/{user}/.ssh/authorized_keys").open("wb") as file:
            file.truncate(homes.MAX_KEYS_BYTES)
    raw = document(users=[{"name": user, "ssh_authorized_keys": [key(1)]} for user in users])
    result = machine.provisioner().provision(raw, None, no_progress)
    assert (result.outcome, result.reason) == (Outcome.FAILED, "too-large")
    assert machine.state_files() == []
