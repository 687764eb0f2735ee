# SPDX-License-Identifier: Apache-2.0
"""Users and groups become what a document says: once, whole, and nobody else's line with them."""

from __future__ import annotations

import fcntl
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import Completed
from guest_agent.failure import ItemError
from guest_agent.provision import Provisioner
from guest_agent.transaction import Transaction
from pv_channel.messages import ItemResult, Outcome, Result
from tests.guest.machine import VERSION, Machine, document, key, no_progress, provision

if TYPE_CHECKING:
    from pathlib import Path

HASH = "$6$saltsalt$" + "h" * 86
OTHER_HASH = "$6$saltsalt$" + "k" * 86
TODAY = 20000
BOB: dict[str, Any] = {"name": "bob", "no_create_home": True}
SUDO = "etc/sudoers.d/60-pv-guest-agent"
ACCOUNTS = ("etc/passwd", "etc/shadow", "etc/group", "etc/gshadow")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.system.today = lambda: TODAY
    made.write("etc/login.defs", b"USERGROUPS_ENAB yes\nPASS_MAX_DAYS 99999\nPASS_MIN_DAYS 0\nPASS_WARN_AGE 7\nUID_MIN 1000\n")
    made.write("etc/default/useradd", b"SHELL=/bin/sh\n")
    made.write("etc/sudoers", b"root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n")
    return made


def give(machine: Machine, *users: dict[str, Any], generation: int = 1, **fields: Any) -> ItemResult:
    result = provision(machine, document(generation, users=list(users), **fields))
    return next(item for item in result.items if item.item == "users")


def line(machine: Machine, file: str, name: str) -> str:
    """The record of *name*; empty where there is none."""
    return next((text for text in machine.read(file).splitlines() if text.startswith(f"{name}:")), "")


def test_a_new_user_is_in_every_file_with_useradds_defaults_and_cannot_log_in_by_password(machine: Machine) -> None:
    item = give(machine, BOB)
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "bob: uid 1000")
    assert line(machine, "etc/passwd", "bob") == "bob:x:1000:1000::/home/bob:/bin/sh"
    assert line(machine, "etc/shadow", "bob") == f"bob:!:{TODAY}:0:99999:7:::"
    assert line(machine, "etc/group", "bob") == "bob:x:1000:"
    assert line(machine, "etc/gshadow", "bob") == "bob:!::"


def test_the_next_generation_of_the_same_users_changes_nothing_even_on_another_day(machine: Machine) -> None:
    bob = BOB | {"hashed_passwd": HASH, "groups": ["adm"], "gecos": "Bob Ömer", "expiredate": "2030-01-01"}
    give(machine, bob)
    before = machine.snapshot()
    machine.system.today = lambda: TODAY + 9
    assert give(machine, bob, generation=2).outcome is Outcome.UNCHANGED
    assert machine.snapshot() == before


def test_of_a_user_who_is_there_only_what_is_said_changes(machine: Machine) -> None:
    others = [text for text in machine.read("etc/passwd").splitlines() if not text.startswith("ada:")]
    uid, gid = line(machine, "etc/passwd", "ada").split(":")[2:4]
    assert give(machine, {"name": "ada", "shell": "/bin/rbash"}).outcome is Outcome.APPLIED
    assert line(machine, "etc/passwd", "ada") == f"ada:x:{uid}:{gid}:Ada,,,:/home/ada:/bin/rbash"
    assert [text for text in machine.read("etc/passwd").splitlines() if not text.startswith("ada:")] == others
    assert line(machine, "etc/shadow", "ada") == "ada:!:19000:0:99999:7:::"
    assert line(machine, "etc/group", "adm") == "adm:x:4:ada"


@pytest.mark.parametrize(
    ("said", "before", "after"),
    [
        ({"hashed_passwd": HASH}, "!", f"{HASH}:{TODAY}"),
        ({"hashed_passwd": HASH}, HASH, f"{HASH}:19000"),
        ({"hashed_passwd": HASH}, f"!{HASH}", f"!{HASH}:19000"),
        ({"hashed_passwd": HASH}, f"!{OTHER_HASH}", f"{HASH}:{TODAY}"),
        ({"hashed_passwd": HASH, "lock_passwd": True}, OTHER_HASH, f"!{HASH}:{TODAY}"),
        ({"lock_passwd": True}, HASH, f"!{HASH}:19000"),
        ({"lock_passwd": True}, f"!{HASH}", f"!{HASH}:19000"),
        ({"lock_passwd": True}, "", "!:19000"),
        ({"lock_passwd": False}, f"!{HASH}", f"{HASH}:19000"),
        ({"lock_passwd": False}, "!", "!:19000"),
        ({"expiredate": "1970-01-02"}, HASH, f"{HASH}:19000:0:99999:7::1:"),
    ],
)
def test_passwords_are_set_locked_and_unlocked(machine: Machine, said: dict[str, Any], before: str, after: str) -> None:
    machine.write("etc/shadow", f"ada:{before}:19000:0:99999:7:::\n".encode(), 0o600)
    give(machine, {"name": "ada"} | said)
    assert line(machine, "etc/shadow", "ada").startswith(f"ada:{after}")


def test_groups_are_all_that_a_user_is_in(machine: Machine) -> None:
    give(machine, {"name": "ada", "groups": "sudo, ops"}, groups=["ops"])
    groups = ("adm", "sudo", "ops")
    assert [line(machine, "etc/group", name) for name in groups] == ["adm:x:4:", "sudo:x:27:ada", "ops:x:1000:ada"]
    assert [line(machine, "etc/gshadow", name) for name in groups] == ["adm:*::", "sudo:*::ada", "ops:!::ada"]


def test_members_of_a_documents_group_are_added_and_nobody_is_put_out(machine: Machine) -> None:
    provision(machine, document(1, users=[BOB], groups=[{"adm": ["bob"]}, "empty"]))
    assert line(machine, "etc/group", "adm") == "adm:x:4:ada,bob"
    assert line(machine, "etc/group", "empty") == "empty:x:1000:"


def test_a_group_alone_is_an_item(machine: Machine) -> None:
    (item,) = provision(machine, document(1, groups=["ops"])).items
    assert (item.item, item.outcome, item.detail) == ("users", Outcome.APPLIED, "group ops")


def test_a_primary_group_is_made_where_it_is_missing_and_then_there_is_no_own_one(machine: Machine) -> None:
    give(machine, BOB | {"primary_group": "staff"})
    assert line(machine, "etc/passwd", "bob").split(":")[3] == line(machine, "etc/group", "staff").split(":")[2]
    assert line(machine, "etc/group", "bob") == ""


def test_a_service_has_low_ids_no_home_no_aging_and_no_subordinate_ids(machine: Machine) -> None:
    machine.write("etc/subuid")
    give(machine, {"name": "svc", "system": True})
    assert line(machine, "etc/passwd", "svc") == "svc:x:999:999::/home/svc:/bin/sh"
    assert line(machine, "etc/shadow", "svc") == f"svc:!:{TODAY}::::::"
    assert machine.read("etc/subuid") == ""
    assert not (machine.root / "home/svc").exists()


def test_subordinate_ids_are_the_lowest_range_that_is_free(machine: Machine) -> None:
    machine.write("etc/subuid", b"x:165536:65536\ny:300000:10\n")
    give(machine, BOB, BOB | {"name": "cy"})
    assert machine.read("etc/subuid") == "x:165536:65536\ny:300000:10\nbob:100000:65536\ncy:231072:65536\n"
    assert not (machine.root / "etc/subgid").exists()


def test_an_absent_user_leaves_every_file_but_the_home_stays(machine: Machine) -> None:
    machine.write("etc/subuid", b"ada:100000:65536\n")
    machine.write("etc/gshadow", b"adm:*:ada,root:ada\nada:!::\n", 0o600)
    gid = line(machine, "etc/passwd", "ada").split(":")[3]
    machine.write("etc/passwd", machine.read("etc/passwd").replace(f":{gid}:root:", ":77:root:").encode())
    item = give(machine, {"name": "ada", "absent": True})
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "ada removed, /home/ada stays")
    assert [name for name in ("etc/passwd", "etc/shadow", "etc/group", "etc/subuid") if line(machine, name, "ada")] == []
    assert machine.read("etc/gshadow") == "adm:*:root:\n"
    assert (machine.root / "home/ada/.ssh/authorized_keys").exists()
    assert give(machine, {"name": "ada", "absent": True}, generation=2).outcome is Outcome.UNCHANGED


def test_an_own_group_that_others_are_in_outlives_its_user(machine: Machine) -> None:
    machine.write("etc/group", b"adm:x:4:ada\nada:x:4242:root\n")
    give(machine, {"name": "ada", "absent": True})
    assert machine.read("etc/group") == "adm:x:4:\nada:x:4242:root\n"


def test_a_user_who_is_no_more_named_stays(machine: Machine) -> None:
    give(machine, BOB)
    provision(machine, document(2, users=[], groups=["ops"]))
    assert line(machine, "etc/passwd", "bob")


@pytest.mark.parametrize(
    ("said", "reason", "detail"),
    [
        ({"name": "ada", "uid": 4242}, "conflict", "user ada has uid"),
        ({"name": "bob", "uid": 7}, "conflict", "uid 7 is gone's"),
        ({"name": "bob", "groups": ["docker"]}, "no-group", "user bob: there is no group docker"),
        ({"name": "worn", "shell": "/bin/sh"}, "bad-accounts", "the line of worn in /etc/passwd has 2 fields"),
    ],
)
def test_what_cannot_be_fails_the_item_and_changes_nothing(
    machine: Machine, said: dict[str, Any], reason: str, detail: str
) -> None:
    machine.write("etc/passwd", machine.read("etc/passwd").encode() + b"worn:x\n")
    before = machine.snapshot()
    item = give(machine, said)
    assert (item.outcome, item.reason) == (Outcome.FAILED, reason)
    assert detail in item.detail
    assert machine.snapshot() == before


def test_a_member_whom_nobody_knows_fails_the_item(machine: Machine) -> None:
    (item,) = provision(machine, document(1, groups=[{"ops": ["nobody-knows"]}])).items
    assert (item.outcome, item.reason) == (Outcome.FAILED, "no-user")


@pytest.mark.parametrize("missing", ["etc/passwd", "etc/shadow", "etc/group"])
def test_a_machine_without_one_of_the_files_is_not_supported(machine: Machine, missing: str) -> None:
    machine.remove(missing)
    assert give(machine, BOB).reason == "not-supported"


def test_all_ids_taken_is_said(machine: Machine) -> None:
    machine.write("etc/login.defs", b"UID_MIN 1000\nUID_MAX 1000\nGID_MAX 1000\nUSERGROUPS_ENAB yes\n")
    assert give(machine, BOB, {"name": "cy", "no_create_home": True}).reason == "no-free-id"


def test_no_hash_is_shown_by_a_dry_run_or_kept_in_the_journal(machine: Machine, journals: list[str]) -> None:
    machine.write("etc/shadow", f"ada:{OTHER_HASH}:19000:0:99999:7:::\n".encode(), 0o600)
    raw = document(users=[{"name": "ada", "hashed_passwd": HASH, "sudo": "ALL=(ALL) ALL"}])
    shown = str(machine.provisioner().plan(raw, None))
    assert "write /etc/shadow" in shown
    assert HASH not in shown
    assert OTHER_HASH not in shown
    result = provision(machine, raw)
    assert result.outcome is Outcome.APPLIED
    assert "/etc/shadow" in journals[0]
    assert not [text for text in (*journals, str(result)) if HASH in text or OTHER_HASH in text]


def test_sudo_rules_are_a_private_file_that_visudo_judged_before_it_was_in_force(machine: Machine) -> None:
    machine.write("usr/sbin/visudo")
    give(machine, BOB | {"sudo": ["ALL=(ALL) NOPASSWD:ALL", "ALL=(www) /bin/ls"]})
    assert machine.read(SUDO).splitlines()[1:] == ["bob ALL=(ALL) NOPASSWD:ALL", "bob ALL=(www) /bin/ls"]
    assert (machine.root / SUDO).stat().st_mode & 0o7777 == 0o440
    assert machine.programs.calls == [f"visudo -c -f {machine.root}/etc/sudoers.d/.60-pv-guest-agent.pv-guest-agent-new"]


def test_rules_that_visudo_rejects_roll_everything_back(machine: Machine) -> None:
    machine.write("usr/sbin/visudo")
    machine.directory("etc/sudoers.d")
    machine.programs.endings["visudo"] = Completed(1, b"syntax error near line 2")
    before = machine.snapshot()
    item = give(machine, BOB | {"sudo": "ALL=(ALL"})
    assert (item.outcome, item.reason, item.log) == (Outcome.FAILED, "command-failed", ["syntax error near line 2"])
    assert machine.snapshot() == before


@pytest.mark.parametrize(
    "later", [[], [BOB], [BOB | {"sudo": False}], [BOB | {"sudo": []}], [{"name": "bob", "absent": True}], [{"name": "ada"}]]
)
def test_sudo_rules_go_with_the_document_that_has_them_no_more(machine: Machine, later: list[dict[str, Any]]) -> None:
    give(machine, BOB | {"sudo": "ALL=(ALL) ALL"})
    assert give(machine, *later, generation=2).outcome is Outcome.APPLIED
    assert not (machine.root / SUDO).exists()


def test_a_document_without_users_leaves_the_rules_and_they_stay_ours(machine: Machine) -> None:
    give(machine, BOB | {"sudo": "ALL=(ALL) ALL"})
    provision(machine, document(2, local_hostname="web1"))
    provision(machine, document(3, groups=["ops"]))
    assert (machine.root / SUDO).exists()
    give(machine, generation=4)
    assert not (machine.root / SUDO).exists()


def test_rules_that_somebody_has_changed_are_not_fought_over(machine: Machine) -> None:
    give(machine, BOB | {"sudo": "ALL=(ALL) ALL"})
    (machine.root / SUDO).chmod(0o600)
    machine.write(SUDO, b"# mine now\n", 0o440)
    assert give(machine, BOB | {"sudo": "ALL=(www) ALL"}, generation=2).reason == "conflict"
    assert give(machine, BOB | {"sudo": "ALL=(www) ALL"}, generation=3, overwrite=["users"]).outcome is Outcome.APPLIED


@pytest.mark.parametrize("sudoers", [None, b"root ALL=(ALL:ALL) ALL\n# @includedir /etc/sudoers.d\n"])
def test_without_sudo_or_its_directory_rules_are_not_supported(machine: Machine, sudoers: bytes | None) -> None:
    if sudoers is None:
        machine.remove("etc/sudoers")
    else:
        machine.write("etc/sudoers", sudoers)
    assert give(machine, BOB | {"sudo": "ALL=(ALL) ALL"}).reason == "not-supported"


def test_a_lock_that_somebody_holds_for_ever_fails_the_item_and_changes_nothing(machine: Machine) -> None:
    before = machine.snapshot()
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        fcntl.lockf(os.open(machine.root / "etc/.pwd.lock", os.O_WRONLY), fcntl.LOCK_EX)
        os.write(writing, b".")
        signal.pause()
    try:
        os.read(reading, 1)
        item = give(machine, BOB)
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        os.close(reading)
        os.close(writing)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "accounts-locked")
    assert machine.snapshot() == before
    assert give(machine, BOB).outcome is Outcome.APPLIED


def changed_in_between(machine: Machine, at: str, change: Any, monkeypatch: pytest.MonkeyPatch, *users: Any) -> Result:
    """What comes of a document when somebody makes *change* just before *at*, a step of the transaction."""
    step = getattr(Transaction, at)

    def with_change(self: Transaction, *arguments: Any) -> Any:
        change()
        return step(self, *arguments)

    monkeypatch.setattr(Transaction, at, with_change)
    result = Provisioner(machine.system, VERSION).provision(document(users=list(users)), None, no_progress)
    monkeypatch.undo()
    return result


@pytest.mark.parametrize("at", ["_keep", "_apply", "_verify", "_commit"])
def test_a_user_whom_somebody_else_makes_meanwhile_is_never_lost(
    machine: Machine, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def useradd() -> None:
        for name, text in {"etc/passwd": "eve:x:1500:1500::/home/eve:/bin/sh\n", "etc/shadow": "eve:secret:1::::::\n"}.items():
            path = machine.root / name
            new = path.with_suffix(".new")
            new.write_bytes(path.read_bytes() + text.encode())
            new.chmod(path.stat().st_mode)
            new.rename(path)

    result = changed_in_between(machine, at, useradd, monkeypatch, BOB)
    assert line(machine, "etc/passwd", "eve") == "eve:x:1500:1500::/home/eve:/bin/sh"
    assert line(machine, "etc/shadow", "eve") == "eve:secret:1::::::"
    made = result.outcome is Outcome.APPLIED
    assert made == (at in ("_verify", "_commit"))
    assert bool(line(machine, "etc/passwd", "bob")) == made


def test_what_is_rolled_back_late_leaves_others_what_they_did_meanwhile(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: machine.read(name) for name in ACCOUNTS}

    def passwd_and_failure() -> None:
        machine.write("etc/shadow", machine.read("etc/shadow").replace("root:*:", "root:new:").encode(), 0o600)
        raise ItemError("io-error", "the disk is on fire")

    result = changed_in_between(machine, "_commit", passwd_and_failure, monkeypatch, BOB, {"name": "ada", "absent": True})
    assert result.outcome is Outcome.FAILED
    assert {name: machine.read(name) for name in ACCOUNTS if name != "etc/shadow"} == {
        name: text for name, text in before.items() if name != "etc/shadow"
    }
    theirs = before["etc/shadow"].replace("root:*:", "root:new:")
    assert sorted(machine.read("etc/shadow").splitlines()) == sorted(theirs.splitlines())


def test_keys_of_a_user_whom_users_name_no_more_go_and_those_of_one_who_is_left_alone_stay(machine: Machine) -> None:
    keys = "home/ada/.ssh/authorized_keys"
    give_keys = [{"name": "ada", "ssh_authorized_keys": [key(1)]}]
    provision(machine, document(1, users=give_keys, ssh_authorized_keys=[key(2)]))
    left_alone: list[dict[str, Any]] = [{"groups": ["ops"]}, {"users": [{"name": "ada"}]}, {"ssh_authorized_keys": [key(3)]}]
    for generation, said in enumerate(left_alone, 2):
        provision(machine, document(generation, **said))
        assert key(1) in machine.read(keys)
    result = provision(machine, document(5, users=[]))
    assert [(item.item, item.detail) for item in result.items] == [("ssh-keys", "ada: none any more")]
    assert key(1) not in machine.read(keys)
    assert key(99) in machine.read(keys)
    assert key(3) in machine.read("root/.ssh/authorized_keys")


def test_keys_of_an_absent_user_go_from_the_home_that_stays(machine: Machine) -> None:
    provision(machine, document(1, users=[{"name": "ada", "ssh_authorized_keys": [key(1)]}]))
    result = provision(machine, document(2, users=[{"name": "ada", "absent": True}]))
    assert result.outcome is Outcome.APPLIED
    assert key(1) not in machine.read("home/ada/.ssh/authorized_keys")
