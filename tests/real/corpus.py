# SPDX-License-Identifier: Apache-2.0
"""The machine and the documents on which kills, errors and power cuts are tried. A new item goes in here, and is tried too."""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.guest.machine import MAC, STATE, Machine, document, held, key, network

if TYPE_CHECKING:
    from pathlib import Path

#: Somebody who is not root, on every Debian.
NOBODY = pwd.getpwnam("nobody")

#: openssl passwd -6 -salt salt of a password that nobody uses.
HASH = "$6$salt$" + 86 * "a"

#: What each instance has of its own making.
RANDOM = {
    "etc/machine-id": b"0123456789abcdef0123456789abcdef\n",
    "etc/ssh/ssh_host_ed25519_key": b"the template's\n",
    "etc/ssh/ssh_host_ed25519_key.pub": b"the template's\n",
    "etc/ssh/ssh_host_ecdsa_key": b"",
    "etc/ssh/ssh_host_ecdsa_key.pub": b"",
    "var/lib/systemd/random-seed": b"the template's\n",
}

#: What else the items look for.
TEMPLATE = {
    **{name: content for name, content in RANDOM.items() if content},
    "etc/ssh/ssh_host_rsa_key": b"goes\n",
    "etc/ssh/sshd_config": b"Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n",
    "etc/debian_version": b"12\n",
    "etc/timezone": b"Etc/UTC\n",
    "etc/default/locale": b"LANG=C.UTF-8\n",
    "usr/lib/locale/C.utf8/LC_CTYPE": b"",
    "usr/lib/locale/en_US.utf8/LC_CTYPE": b"",
    "usr/share/zoneinfo/Europe/Berlin": b"TZif2",
    "usr/share/zoneinfo/Asia/Tokyo": b"TZif2",
    "etc/motd": b"The template's.\n",
    "etc/issue": b"The template's.\n",
}

#: Inode content and attributes by path.
Tree = dict[str, tuple[int, int, int, bytes]]


def machine(top: Path) -> Machine:
    """A template's machine; eve is somebody else than we are."""
    made = Machine(top)
    with (made.root / "etc/passwd").open("a") as passwd:
        passwd.write(f"eve:x:{NOBODY.pw_uid}:{NOBODY.pw_gid}::/home/eve:/bin/sh\n")
    for name in ("usr/sbin/visudo", "bin/sh", "bin/bash", "usr/sbin/sshd", "usr/sbin/update-ca-certificates"):
        made.write(name, b"", 0o755)
    for name, content in TEMPLATE.items():
        made.write(name, content, 0o600 if name in RANDOM and "pub" not in name else 0o644)
    made.directory("usr/local/share/ca-certificates")
    made.enable("systemd-timesyncd.service")
    made.write("etc/sudoers", b"@includedir /etc/sudoers.d\n", 0o440)
    made.write("etc/skel/.profile", b"# For new users.\n")
    os.chown(made.directory("home/eve"), NOBODY.pw_uid, NOBODY.pw_gid)
    return made


class _Opened(Machine):
    """A machine that was made before."""

    def _install(self) -> None:
        """All is there."""


def opened(top: Path) -> Machine:
    """The machine that is in the folder *top*."""
    name = (top / "kernel-hostname").read_text()
    found = _Opened(top)
    found.kernel.set_hostname(name)
    return found


def first() -> bytes:
    """What the template becomes."""
    return document(
        1,
        local_hostname="web1",
        fqdn="web1.example.org",
        ssh_authorized_keys=[f"{key(1)} ops"],
        users=[
            {"name": "ada", "ssh_authorized_keys": [key(2), key(99)]},
            {"name": "eve", "ssh_authorized_keys": [key(3)], "groups": ["adm"], "gecos": "Eve"},
            {"name": "carl", "hashed_passwd": HASH, "sudo": "ALL=(ALL) ALL", "ssh_authorized_keys": [key(6)]},
            {"name": "dora", "uid": 4001, "homedir": "/srv/dora", "shell": "/bin/sh"},
        ],
        groups=["ops"],
        timezone="Europe/Berlin",
        locale="en_US.UTF-8",
        ntp={"servers": ["ntp1.example.org"]},
        ca_certs={"trusted": [authority(1), authority(2)]},
        write_files=[
            {"path": "/etc/motd", "content": "Welcome to web1.\n"},
            {"path": "/srv/app/secret", "content": "hunter2", "permissions": "0600", "owner": "eve"},
        ],
        ssh_trusted_user_ca_keys=[key(8)],
        ssh_pwauth=False,
        network=network(
            eth0={"match": {"macaddress": MAC}, "addresses": ["10.0.0.5/24", "fd00::5/64"], "gateway4": "10.0.0.1"},
            eth1={"dhcp4": True},
        ),
    )


def second() -> bytes:
    """What it becomes then: everything is changed, something is new, something goes."""
    return document(
        2,
        timezone="Asia/Tokyo",
        locale="C.UTF-8",
        ntp={"enabled": False},
        ca_certs={"trusted": [authority(2), authority(3)]},
        write_files=[
            {"path": "/srv/app/secret", "content": "hunter3", "permissions": "0640", "owner": "eve"},
            {"path": "/etc/issue", "absent": True},
        ],
        ssh_trusted_user_ca_keys=[key(9)],
        ssh_pwauth=True,
        local_hostname="web2",
        fqdn="web2.example.net",
        ssh_authorized_keys=[],
        users=[
            {"name": "ada", "ssh_authorized_keys": [key(4)]},
            {"name": "eve", "ssh_authorized_keys": [key(5)], "groups": [], "lock_passwd": True},
            {"name": "carl", "sudo": False, "shell": "/bin/sh"},
            {"name": "dora", "absent": True},
            {"name": "fred", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [key(7)]},
        ],
        network=network(eth0={"match": {"macaddress": MAC}, "dhcp4": True}, eth2={"addresses": ["192.0.2.1/24"]}),
    )


def authority(number: int) -> str:
    """A certificate authority's certificate, the same whenever it is made."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {number}")])
    first, last = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), number, first, last).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    return builder.sign(key, None).public_bytes(Encoding.PEM).decode()


#: The documents by their generations.
DOCUMENTS = {1: first, 2: second}


def tree(root: Path) -> Tree:
    """All that is under *root*, but for what the agent keeps for itself."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if f"{STATE}/".startswith(f"{name}/") or name.startswith(f"{STATE}/"):
            continue
        status = path.lstat()
        content = held(path)
        if name in RANDOM and content != RANDOM[name]:
            content = b"anything else"
        found[name] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


def strays(root: Path) -> list[str]:
    """What only a transaction under way may have: a journal, files that are not whole yet, second names of old ones."""
    return [str(path) for path in root.rglob("*") if ".pv-guest-agent-" in path.name or path.name == "journal.json"]
