# SPDX-License-Identifier: Apache-2.0
"""The real sshd on loopback lets in whom the document says, and shows the client the host that the document made.

It sees the machine's own accounts, homes and /etc/ssh, in a mount namespace. Needs root, Debian's openssh-server and
openssh-client.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import Completed, run
from pv_channel.messages import Outcome
from tests.guest.machine import document, provision
from tests.real.test_accounts import debian, program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pv_channel.messages import Result
    from tests.guest.machine import Machine

PATIENCE = 60
CONFIG = Path("/usr/share/openssh/sshd_config")
BOUND = ("etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/ssh", "home", "run/sshd")


def inside(machine: Machine, *argv: str) -> list[str]:
    """*argv* where the machine's files are this one's."""
    binds = "".join(f"mount --bind {machine.root}/{name} /{name} && " for name in BOUND)
    return [program("unshare", "util-linux"), "-m", "--propagation", "private", "sh", "-c", f'{binds} exec "$@"', "sh", *argv]


class Operator:
    """Somebody with keys, and what the machine shows to ssh."""

    def __init__(self, top: Path) -> None:
        self.top = top
        top.mkdir()
        self.known_hosts = top / "known_hosts"

    def keygen(self, *arguments: object) -> None:
        """ssh-keygen."""
        subprocess.run([program("ssh-keygen", "openssh-client"), "-q", *map(str, arguments)], check=True, timeout=PATIENCE)

    def key(self, name: str) -> str:
        """A new key's public line."""
        self.keygen("-t", "ed25519", "-N", "", "-C", name, "-f", self.top / name)
        return (self.top / f"{name}.pub").read_text().strip()

    def ssh(self, port: int, key: str, user: str, *options: str, host: str = "127.0.0.1") -> str:
        """Who the operator is there, by ssh with nothing but *key*; else the last that ssh says."""
        settings = [
            "BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={self.known_hosts}",
            "GlobalKnownHostsFile=/dev/null", "UpdateHostKeys=no", "ConnectTimeout=20", *options,
        ]  # fmt: skip
        argv = [program("ssh", "openssh-client"), "-F", "/dev/null", "-p", str(port), "-i", str(self.top / key)]
        argv += [part for setting in settings for part in ("-o", setting)] + [f"{user}@{host}", "id", "-un"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path / "operator")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with Debian's sshd_config, whose own sshd tests what we write."""
    if os.geteuid() != 0:
        pytest.fail("these tests need root")
    program("sshd", "openssh-server")
    made = debian(tmp_path)
    made.write("usr/sbin/sshd")
    made.write("etc/ssh/sshd_config", CONFIG.read_bytes())
    made.directory("etc/ssh/sshd_config.d")
    shutil.copy("/etc/ssh/moduli", made.root / "etc/ssh/moduli")
    made.directory("run/sshd")
    Path("/run/sshd").mkdir(exist_ok=True)

    def run_inside(argv: Sequence[str], *, given: bytes = b"") -> Completed:
        return run(inside(made, *argv), given=given)

    made.system.run = run_inside
    return made


@contextmanager
def sshd(machine: Machine) -> Iterator[int]:
    """The machine's sshd on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = machine.root.parent / "sshd.log"
    options = ["-p", str(port), "-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none", "-o", "LogLevel=VERBOSE"]
    with log.open("ab") as out:
        server = subprocess.Popen(
            inside(machine, program("sshd", "openssh-server"), "-D", "-e", *options), stdout=out, stderr=out, cwd="/"
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    pytest.fail(f"sshd does not listen:\n{log.read_text()}")
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(PATIENCE)


def give(machine: Machine, generation: int, **fields: Any) -> Result:
    result = provision(machine, document(generation, **fields))
    assert result.outcome in (Outcome.APPLIED, Outcome.UNCHANGED), result
    return result


def know(operator: Operator, port: int, result: Result) -> None:
    """Believe the host keys that came over the channel, and no others."""
    operator.known_hosts.write_text("".join(f"[127.0.0.1]:{port} {key}\n" for key in result.host_keys))


def bob(*keys: str) -> list[dict[str, Any]]:
    return [{"name": "bob", "shell": "/bin/sh", "ssh_authorized_keys": list(keys)}]


def test_keys_let_in_until_they_expire_or_are_taken_away(machine: Machine, operator: Operator) -> None:
    good, late = operator.key("good"), operator.key("late")
    result = give(machine, 1, users=bob(f'expiry-time="20990101Z" {good}', f'expiry-time="20010101Z" {late}'))
    with sshd(machine) as port:
        know(operator, port, result)
        assert operator.ssh(port, "good", "bob") == "bob"
        assert "Permission denied" in operator.ssh(port, "late", "bob")
        give(machine, 2, users=bob(late))
        assert "Permission denied" in operator.ssh(port, "good", "bob"), "at once"
        assert operator.ssh(port, "late", "bob") == "bob"
        give(machine, 3, users=[])
        assert "Permission denied" in operator.ssh(port, "late", "bob")


def test_the_host_keys_of_a_clone_are_those_that_came_back_and_no_others(machine: Machine, operator: Operator) -> None:
    key = operator.key("good")
    first = give(machine, 1, users=bob(key))
    second = provision(machine, document(1, "i-2", users=bob(key)))
    with sshd(machine) as port:
        know(operator, port, second)
        for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256"):
            assert operator.ssh(port, "good", "bob", f"HostKeyAlgorithms={kind}") == "bob"
        know(operator, port, first)
        assert "Host key verification failed" in operator.ssh(port, "good", "bob")


def test_ssh_keygen_reads_the_private_keys_that_we_make(machine: Machine) -> None:
    give(machine, 1, ssh_genkeytypes=["ed25519", "ecdsa", "rsa"])
    for kind in ("ed25519", "ecdsa", "rsa"):
        path = machine.root / f"etc/ssh/ssh_host_{kind}_key"
        said = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, timeout=PATIENCE, check=True)
        assert said.stdout.split()[:2] == path.with_suffix(".pub").read_text().split()[:2]


def test_a_certificate_of_the_users_authority_lets_in_whom_it_names(machine: Machine, operator: Operator) -> None:
    authority = operator.key("ca")
    operator.key("user")
    operator.keygen("-s", operator.top / "ca", "-I", "bob", "-n", "bob", "-V", "+1h", operator.top / "user.pub")
    result = give(machine, 1, users=[*bob(), {"name": "eve"}], ssh_trusted_user_ca_keys=[authority])
    with sshd(machine) as port:
        know(operator, port, result)
        assert operator.ssh(port, "user", "bob") == "bob"
        assert "Permission denied" in operator.ssh(port, "user", "eve")
    give(machine, 2, ssh_trusted_user_ca_keys=[])
    with sshd(machine) as port:
        know(operator, port, result)
        assert "Permission denied" in operator.ssh(port, "user", "bob")


@pytest.mark.parametrize("given", [True, False])
def test_a_host_certificate_is_believed_by_who_knows_the_authority_only(
    machine: Machine, operator: Operator, *, given: bool
) -> None:
    key, authority = operator.key("user"), operator.key("ca")
    operator.key("host")
    if not given:
        give(machine, 1, users=bob(key))
        shutil.copy(machine.root / "etc/ssh/ssh_host_ed25519_key.pub", operator.top / "host.pub")
    operator.keygen("-s", operator.top / "ca", "-h", "-I", "web1", "-n", "web1.example.org", operator.top / "host.pub")
    keys = {"ed25519_certificate": (operator.top / "host-cert.pub").read_text()}
    if given:
        keys["ed25519_private"] = (operator.top / "host").read_text()
    give(machine, 2, users=bob(key), ssh_keys=keys)
    operator.known_hosts.write_text(f"@cert-authority *.example.org {authority}\n")
    with sshd(machine) as port:
        named = "HostKeyAlias=web1.example.org"
        assert operator.ssh(port, "user", "bob", named) == "bob"
        assert "Host key verification failed" in operator.ssh(port, "user", "bob", "HostKeyAlias=web2.example.org")
    give(machine, 3, ssh_keys={})
    with sshd(machine) as port:
        assert "Host key verification failed" in operator.ssh(port, "user", "bob", named)


@pytest.mark.parametrize(("said", "offered"), [(True, "password"), (False, "publickey).")])
def test_passwords_are_offered_or_not(machine: Machine, operator: Operator, *, said: bool, offered: str) -> None:
    operator.key("none")
    result = give(machine, 1, users=bob(), ssh_pwauth=said)
    with sshd(machine) as port:
        know(operator, port, result)
        assert offered in operator.ssh(port, "none", "bob")


def test_sshds_own_reading_of_the_configuration_is_ours(machine: Machine) -> None:
    give(machine, 1, ssh_pwauth=False, ssh_keys={})
    status, output = machine.system.run(["sshd", "-T"])
    assert status == 0, output
    assert {b"passwordauthentication no", b"kbdinteractiveauthentication no"} <= set(output.splitlines())


def test_what_sshd_does_not_accept_is_rolled_back(machine: Machine) -> None:
    machine.write("etc/ssh/sshd_config.d/99-broken.conf", b"NoSuchThing yes\n")
    result = provision(machine, document(1, ssh_pwauth=False))
    item = result.items[-1]
    assert (item.item, item.reason) == ("sshd", "command-failed")
    assert any("NoSuchThing" in line for line in item.log)
    assert not (machine.root / "etc/ssh/sshd_config.d/30-pv-guest-agent.conf").exists()
