# SPDX-License-Identifier: Apache-2.0
"""What shadow's own programs, glibc, su and visudo think of our users; and kills at every line while they are made.

Needs root, and Debian's passwd, login, sudo and whois (mkpasswd).
"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from guest_agent.command import run
from guest_agent.transaction import Transaction
from pv_channel.messages import Outcome
from tests.guest.killing import leaves_old_or_new
from tests.guest.machine import Machine, document, key, provision

#: A prime, so that loops are met at each of their lines.
STRIDE = 19
SECRET = "correct horse"
FILES = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
SUDO = "etc/sudoers.d/60-pv-guest-agent"


def program(name: str, package: str) -> str:
    """Where it is."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.fail(f"{name} is missing; on Debian: apt-get install {package}")
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with this Debian's own accounts and defaults."""
    if os.geteuid() != 0:
        pytest.fail("these tests need root")
    return debian(tmp_path)


def debian(top: Path) -> Machine:
    made = Machine(top)
    for name in ("passwd", "shadow", "group", "gshadow", "login.defs", "default/useradd"):
        made.write(f"etc/{name}", Path(f"/etc/{name}").read_bytes(), Path(f"/etc/{name}").stat().st_mode & 0o7777)
    made.write("etc/subuid")
    made.write("etc/subgid")
    made.write("etc/sudoers", Path("/etc/sudoers").read_bytes(), 0o440)
    made.write("etc/skel/.profile", b"umask 027\n")
    made.write("etc/skel/bin/hello", b"#!/bin/sh\n", 0o755)
    (made.root / "etc/skel/latest").symlink_to("bin/hello")
    made.directory("home")
    for path in (top, *top.parents[:2]):  # users have to get home
        path.chmod(path.stat().st_mode | 0o011)
    return made


def hashed(method: str = "yescrypt") -> str:
    mkpasswd = program("mkpasswd", "whois")
    return subprocess.run([mkpasswd, "-m", method, SECRET], capture_output=True, text=True, check=True).stdout.strip()


def record(machine: Machine, file: str, name: str) -> str:
    lines = (machine.root / "etc" / file).read_text().splitlines()
    return next((line for line in lines if line.startswith(f"{name}:")), "")


def judged(machine: Machine) -> None:
    """Let pwck and grpck look at the files: what they found wrong before, in Debian's own, is no news."""
    for judge in ("pwck", "grpck"):
        said = subprocess.run(in_force(machine, program(judge, "passwd"), "-r"), capture_output=True, text=True, timeout=60)
        wrong = [line for line in said.stdout.splitlines() if "does not exist" not in line and "no changes" not in line]
        assert wrong == [], said.stdout + said.stderr


#: Users as a document has them, and as useradd is told of them.
ORACLE: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": "bob"}, []),
    ({"name": "bob", "gecos": "Bob B", "shell": "/bin/bash", "uid": 1700}, ["-c", "Bob B", "-s", "/bin/bash", "-u", "1700"]),
    ({"name": "bob", "groups": ["sudo", "adm"]}, ["-G", "sudo,adm"]),
    ({"name": "bob", "primary_group": "users"}, ["-g", "users"]),
    ({"name": "bob", "expiredate": "2031-02-03"}, ["-e", "2031-02-03"]),
    ({"name": "bob", "homedir": "/srv/bob"}, ["-d", "/srv/bob"]),
    ({"name": "svc", "system": True}, ["-r"]),
    ({"name": "svc", "system": True, "uid": 150, "shell": "/usr/sbin/nologin"}, ["-r", "-u", "150", "-s", "/usr/sbin/nologin"]),
]


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize(("said", "options"), ORACLE)
def test_a_user_is_made_as_useradd_makes_one(tmp_path: Path, said: dict[str, Any], options: list[str], *, others: bool) -> None:
    ours, theirs = debian(tmp_path / "ours"), debian(tmp_path / "theirs")
    useradd = program("useradd", "passwd")
    if others:
        for made in (ours, theirs):
            for other in ("-u 1005 carl", "-u 60000 last", "-r sys1", "dora"):
                subprocess.run([useradd, "-P", str(made.root), *other.split()], check=True, capture_output=True)
    subprocess.run([useradd, "-P", str(theirs.root), "-m", *options, said["name"]], check=True, capture_output=True)
    result = provision(ours, document(users=[said]))
    assert result.outcome is Outcome.APPLIED, result
    for name in FILES:
        assert (ours.root / "etc" / name).read_text() == (theirs.root / "etc" / name).read_text(), name
    judged(ours)


def test_a_user_is_removed_as_userdel_removes_one(tmp_path: Path) -> None:
    ours, theirs = debian(tmp_path / "ours"), debian(tmp_path / "theirs")
    for made in (ours, theirs):
        for name in ("bob", "cy"):
            subprocess.run([program("useradd", "passwd"), "-P", str(made.root), "-G", "sudo,adm", name], check=True)
    subprocess.run([program("userdel", "passwd"), "-P", str(theirs.root), "bob"], check=True, capture_output=True)
    assert provision(ours, document(users=[{"name": "bob", "absent": True}])).outcome is Outcome.APPLIED
    for name in FILES:
        assert (ours.root / "etc" / name).read_text() == (theirs.root / "etc" / name).read_text(), name
    judged(ours)


def test_pwck_and_grpck_find_nothing_wrong_with_a_machine_full_of_users(machine: Machine) -> None:
    users = [{"name": f"u{number}", "groups": ["ops"], "hashed_passwd": hashed("sha512crypt")} for number in range(20)]
    assert provision(machine, document(users=users, groups=["ops", {"sudo": ["u1", "u2"]}])).outcome is Outcome.APPLIED
    judged(machine)
    gone = [{"name": f"u{number}", "absent": True} for number in range(10)]
    assert provision(machine, document(2, users=gone)).outcome is Outcome.APPLIED
    judged(machine)


def test_a_home_is_made_from_the_skeleton_and_is_its_users(machine: Machine) -> None:
    assert provision(machine, document(users=[{"name": "bob", "ssh_authorized_keys": [key(1)]}])).outcome is Outcome.APPLIED
    uid, gid = map(int, record(machine, "passwd", "bob").split(":")[2:4])
    home = machine.root / "home/bob"
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in (home, *home.rglob("*"))} == {(uid, gid)}
    assert home.stat().st_mode & 0o7777 == 0o700
    assert (home / "bin/hello").stat().st_mode & 0o777 == 0o755
    assert (home / "latest").readlink() == Path("bin/hello")
    assert key(1) in (home / ".ssh/authorized_keys").read_text()
    assert (home / ".ssh/authorized_keys").stat().st_mode & 0o777 == 0o600


def test_a_home_that_was_made_goes_with_a_failure_and_one_that_was_there_stays(machine: Machine) -> None:
    machine.write("usr/sbin/visudo")
    machine.system.run = run
    old = machine.snapshot()
    bad: dict[str, Any] = {"name": "bob", "homedir": "/srv/deep/bob", "sudo": "ALL=(ALL"}
    result = provision(machine, document(users=[bad]))
    assert result.items[0].reason == "command-failed"
    assert result.items[0].log
    assert machine.snapshot() == old
    machine.directory("srv/deep/bob")
    machine.write("srv/deep/bob/precious", b"mine")
    old = machine.snapshot()
    assert provision(machine, document(users=[bad])).outcome is Outcome.FAILED
    assert machine.snapshot() == old


def test_a_home_that_somebody_else_makes_meanwhile_is_not_taken_away(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Transaction._write_journal

    def with_a_home(self: Transaction) -> None:
        machine.write("home/bob/precious", b"mine")
        journal(self)

    monkeypatch.setattr(Transaction, "_write_journal", with_a_home)
    result = provision(machine, document(users=[{"name": "bob"}]))
    assert result.outcome is Outcome.FAILED
    assert machine.read("home/bob/precious") == "mine"
    assert record(machine, "passwd", "bob") == ""


def test_what_visudo_finds_good_is_in_force_and_good_with_the_rest(machine: Machine) -> None:
    machine.write("usr/sbin/visudo")
    machine.system.run = run
    rules = ["ALL=(ALL:ALL) NOPASSWD: ALL", "ALL=(www-data) /usr/bin/ls, !/usr/bin/ls -l"]
    assert provision(machine, document(users=[{"name": "bob", "sudo": rules}])).outcome is Outcome.APPLIED
    visudo = program("visudo", "sudo")
    said = subprocess.run([visudo, "-c", "-O", "-P", "-f", machine.root / SUDO], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def in_force(machine: Machine, *argv: str) -> list[str]:
    """A command that sees the machine's accounts as this one's, in a mount namespace of its own."""
    binds = "".join(f"mount --bind {machine.root}/etc/{name} /etc/{name} && " for name in FILES if Path(f"/etc/{name}").exists())
    binds += f"mount --bind {machine.root}/etc/sudoers.d /etc/sudoers.d && " * (machine.root / "etc/sudoers.d").exists()
    return [program("unshare", "util-linux"), "-m", "--propagation", "private", "sh", "-c", f'{binds} exec "$@"', "sh", *argv]


def su(machine: Machine, user: str, password: str) -> str:
    """What becomes of nobody who says *user*'s *password* to su: the end of what is said, or the status."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    argv = in_force(machine, *nobody, "su", user, "-s", "/bin/sh", "-c", "id -un")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir("/")
        os.execv(argv[0], argv)
    said, asked, deadline = b"", False, time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            said += os.read(terminal, 4096)
            if b"assword:" in said and not asked:
                asked = True
                os.write(terminal, password.encode() + b"\n")
    except OSError:  # EIO: su has ended
        pass
    finally:
        os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said.decode().split()[-1] if status == 0 else f"status {status}"


@pytest.mark.parametrize("method", ["yescrypt", "sha512crypt", "bcrypt"])
def test_su_takes_the_password_that_was_hashed_and_none_while_it_is_locked(machine: Machine, method: str) -> None:
    bob = {"name": "bob", "hashed_passwd": hashed(method), "homedir": "/tmp"}
    assert provision(machine, document(users=[bob])).outcome is Outcome.APPLIED
    assert su(machine, "bob", SECRET) == "bob"
    assert su(machine, "bob", "wrong") == "status 1"
    assert provision(machine, document(2, users=[bob | {"lock_passwd": True}])).outcome is Outcome.APPLIED
    assert su(machine, "bob", SECRET) == "status 1"
    assert provision(machine, document(3, users=[bob | {"lock_passwd": False}])).outcome is Outcome.APPLIED
    assert su(machine, "bob", SECRET) == "bob"
    assert provision(machine, document(4, users=[bob | {"expiredate": "2001-01-01"}])).outcome is Outcome.APPLIED
    assert su(machine, "bob", SECRET) == "status 1"


def test_glibc_and_sudo_see_what_was_written(machine: Machine) -> None:
    machine.directory("etc/sudoers.d")
    bob = {"name": "bob", "gecos": "Bob Ömer", "groups": ["adm"], "sudo": "ALL=(ALL) NOPASSWD:ALL"}
    assert provision(machine, document(users=[bob])).outcome is Outcome.APPLIED

    def said(*argv: str) -> str:
        done = subprocess.run(in_force(machine, *argv), capture_output=True, timeout=60)
        return done.stdout.decode()

    assert said("getent", "-s", "files", "passwd", "bob").strip() == record(machine, "passwd", "bob")
    assert said("getent", "-s", "files", "shadow", "bob").strip() == record(machine, "shadow", "bob")
    assert said("id", "-nG", "bob").split() == ["bob", "adm"]
    assert "(ALL) NOPASSWD: ALL" in said("sudo", "-n", "-l", "-U", "bob")


def test_a_useradd_that_is_at_work_is_waited_for_and_neither_is_lost(machine: Machine) -> None:
    machine.system.now, machine.system.sleep = time.monotonic, time.sleep
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        fcntl.lockf(os.open(machine.root / "etc/.pwd.lock", os.O_WRONLY), fcntl.LOCK_EX)
        os.write(writing, b".")
        time.sleep(0.5)
        os._exit(0)
    os.read(reading, 1)
    try:
        result = provision(machine, document(users=[{"name": "bob"}]))
    finally:
        os.waitpid(holder, 0)
        os.close(reading)
        os.close(writing)
    assert result.outcome is Outcome.APPLIED


FULL = document(
    users=[
        {"name": "bob", "groups": "ops,sudo", "sudo": "ALL=(ALL) ALL", "homedir": "/srv/bob", "ssh_authorized_keys": [key(1)]},
        {"name": "eve", "absent": True},
        {"name": "ada", "gecos": "Ada L."},
    ],
    groups=[{"ops": ["ada"]}],
)


def small(top: Path) -> Machine:
    """A machine whose snapshot is quick, on a day that does not change."""
    made = Machine(top)
    made.system.today = lambda: 20000
    made.write("etc/passwd", made.read("etc/passwd").encode() + b"eve:x:1001:1001::/home/eve:/bin/sh\n")
    made.write("etc/login.defs", b"USERGROUPS_ENAB yes\n")
    made.write("etc/subuid", b"eve:100000:65536\n")
    made.write("etc/sudoers", b"@includedir /etc/sudoers.d\n", 0o440)
    made.write("etc/skel/.profile", b"umask 027\n")
    made.directory("etc/skel/.ssh", 0o700)
    return made


def test_a_kill_at_any_line_leaves_the_old_users_or_the_new() -> None:
    leaves_old_or_new(small, FULL, STRIDE)
