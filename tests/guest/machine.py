# SPDX-License-Identifier: Apache-2.0
"""A guest under a folder: its files, a kernel that has a name, programs that only take notes; and documents for it."""

from __future__ import annotations

import json
import os
import stat
import struct
from base64 import b64encode
from typing import TYPE_CHECKING

from guest_agent.command import CommandError, Completed
from guest_agent.provision import Provisioner
from guest_agent.system import System
from pv_channel import messages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from guest_agent.netlink import HeldAddress
    from pv_channel.messages import Result

VERSION = "0.1.0"
STATE = "var/lib/pv-guest-agent"
HOSTS = b"# Kept.\n\n127.0.0.1\tlocalhost\n127.0.1.1\tdebian.installer.example debian\n::1 localhost ip6-localhost"
MAC = "00:16:3e:01:02:03"


class FakeKernel:
    """A hostname, kept in a file, so that it outlives a killed agent as the kernel's does; addresses and neighbours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held: list[HeldAddress] = []
        #: The addresses that network cards were made with, by the interface's index.
        self.permanent: dict[int, bytes] = {}
        self.states: dict[tuple[int, bytes], int] = {}
        #: What a neighbour is after it was asked for.
        self.answering: dict[tuple[int, bytes], int] = {}
        self.forgotten: list[tuple[int, bytes]] = []

    def hostname(self) -> str:
        """The name."""
        return self.path.read_text()

    def set_hostname(self, name: str) -> None:
        """Have another."""
        self.path.write_text(name)

    def release(self) -> str:
        """Of Debian 12."""
        return "6.1.0-56-amd64"

    def addresses(self) -> list[HeldAddress]:
        """All of them."""
        return self.held

    def permanent_addresses(self) -> dict[int, bytes]:
        """Of the network cards."""
        return self.permanent

    def neighbours(self) -> dict[tuple[int, bytes], int]:
        """All of them."""
        return self.states

    def forget_neighbour(self, index: int, address: bytes) -> None:
        """Take note, and forget it."""
        self.forgotten.append((index, address))
        self.states.pop((index, address), None)

    def ask_neighbour(self, index: int, address: bytes) -> None:
        """It answers, or it does not."""
        if (index, address) in self.answering:
            self.states[index, address] = self.answering[index, address]


class FakePrograms:
    """Every program there is: it notes how it was called, and ends as it was told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        #: What a call that starts like this comes to.
        self.endings: dict[str, Completed | CommandError] = {}

    def __call__(self, argv: Sequence[str], *, given: bytes = b"") -> Completed:
        call = " ".join(argv)
        self.calls.append(call)
        for start, ending in self.endings.items():
            if call.startswith(start):
                if isinstance(ending, CommandError):
                    raise ending
                return ending
        return Completed(0, b"")


class Machine:
    """A guest as its template left it: networkd enabled and running, root and one user, who has keys already."""

    def __init__(self, top: Path) -> None:
        top.mkdir(parents=True, exist_ok=True)
        self.root = top / "root"
        self.kernel = FakeKernel(top / "kernel-hostname")
        self.kernel.set_hostname("template")
        self.programs = FakePrograms()
        self.waited = 0.0
        self.system = System(
            self.root, run=self.programs, live=True, kernel=self.kernel, now=lambda: self.waited, sleep=self._sleep
        )
        self._install()

    def _sleep(self, seconds: float) -> None:
        self.waited += seconds

    def _install(self) -> None:
        self.write("etc/hostname", b"template\n")
        self.write("etc/hosts", HOSTS)
        uid, gid = os.geteuid(), os.getegid()
        passwd = f"root:x:0:0:root:/root:/bin/sh\nada:x:{uid}:{gid}:Ada,,,:/home/ada:/bin/sh\ngone:x:7:7::/home/gone:/bin/sh\n"
        self.write("etc/passwd", passwd.encode())
        self.write("etc/shadow", b"root:*:19000:0:99999:7:::\nada:!:19000:0:99999:7:::\n", 0o600)
        self.write("etc/group", f"root:x:0:\nadm:x:4:ada\nsudo:x:27:\nada:x:{gid}:\n".encode())
        self.write("etc/gshadow", b"root:*::\nadm:*::ada\nsudo:*::\nada:!::\n", 0o600)
        self.write("etc/.pwd.lock", b"", 0o600)
        self.directory("root", 0o700)
        self.directory("home/ada", 0o755)
        self.directory("home/ada/.ssh", 0o755)
        self.write("home/ada/.ssh/authorized_keys", f"{key(99)} ada's own".encode(), 0o644)
        self.write("run/systemd/netif/state", b"")
        self.write(f"sys/class/net/eth0/{'address'}", MAC.encode() + b"\n")
        self.enable("systemd-networkd.service")

    def directory(self, name: str, mode: int = 0o755) -> Path:
        """Make a directory, and its parents."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        return path

    def write(self, name: str, content: bytes = b"", mode: int = 0o644) -> Path:
        """Write a file, and make its directories."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def read(self, name: str) -> str:
        """What a file holds."""
        return (self.root / name).read_text()

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.root / name).unlink()

    def enable(self, unit: str) -> None:
        """What systemctl enable does."""
        wants = self.directory("etc/systemd/system/multi-user.target.wants")
        (wants / unit).symlink_to(f"/lib/systemd/system/{unit}")

    def without_networkd(self) -> None:
        """Have nobody in charge of the network."""
        self.remove("etc/systemd/system/multi-user.target.wants/systemd-networkd.service")
        self.remove("run/systemd/netif/state")

    def use_ifupdown(self) -> None:
        """Have ifupdown in place of networkd, with the interface not up yet."""
        self.without_networkd()
        self.write("sbin/ifup")
        self.write("etc/network/interfaces", b"source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n")
        self.directory("etc/network/interfaces.d")
        self.write("run/network/ifstate", b"lo=lo\n")
        self.enable("networking.service")

    def use_network_manager(self) -> None:
        """Have NetworkManager in place of networkd, running."""
        self.without_networkd()
        self.write("usr/bin/nmcli")
        self.directory("run/NetworkManager/devices")
        self.enable("NetworkManager.service")

    def provisioner(self) -> Provisioner:
        """An agent's, freshly started."""
        return Provisioner(self.system, VERSION)

    def snapshot(self) -> dict[str, tuple[int, bytes]]:
        """Each file's mode and content or target, and the kernel's name; not the agent's own state."""
        found = {"kernel": (0, self.kernel.hostname().encode())}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if name == "var" or name.startswith("var/"):
                continue
            found[name] = (path.lstat().st_mode, held(path))
        return found

    def state_files(self) -> list[str]:
        """What the agent keeps."""
        return sorted(path.name for path in (self.root / STATE).glob("*")) if (self.root / STATE).exists() else []


def held(path: Path) -> bytes:
    """What a file has in it, or where a link leads; of anything else nothing."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return os.fsencode(path.readlink())
    return path.read_bytes() if stat.S_ISREG(status.st_mode) else b""


def key(number: int) -> str:
    """A public key of its own, without a comment."""
    kind = b"ssh-ed25519"
    blob = struct.pack(">I", len(kind)) + kind + struct.pack(">I", 32) + bytes([number]) * 32
    return f"ssh-ed25519 {b64encode(blob).decode()}"


def document(generation: int = 1, instance: str = "i-1", **fields: object) -> bytes:
    """A document's JSON; underscores in *fields*' names that are hyphens in a document's are given as such."""
    hyphens = {"local_hostname": "local-hostname", "user_data": "user-data"}
    named = {hyphens.get(name, name): value for name, value in fields.items()}
    return json.dumps({"instance-id": instance, "generation": generation, **named}).encode()


def network(**ethernets: object) -> dict[str, object]:
    """The ``network`` of a document."""
    return {"version": 2, "ethernets": ethernets}


def whole(generation: int = 1, name: str = "web1") -> bytes:
    """A document with every item."""
    return document(
        generation,
        local_hostname=name,
        fqdn=f"{name}.example.org",
        network=network(
            eth0={
                "match": {"macaddress": MAC},
                "addresses": ["10.0.0.5/24", "fd00::5/64"],
                "gateway4": "10.0.0.1",
                "nameservers": {"addresses": ["10.0.0.2"], "search": ["example.org"]},
            }
        ),
        ssh_authorized_keys=[f"{key(1)} ops"],
        users=[{"name": "ada", "ssh_authorized_keys": [key(2), key(99)]}],
    )


def no_progress(generation: int, item: str) -> None:
    """Nobody watches."""


def provision(machine: Machine, raw: bytes, uuid: str | None = None) -> Result:
    """What a freshly started agent answers, checked to be something that the host can read."""
    result = machine.provisioner().provision(raw, uuid, no_progress)
    encoded = messages.encode(result)
    assert len(encoded) <= messages.MAX_GUEST_MESSAGE_BYTES
    assert messages.decode_from_guest(encoded) == result
    return result


def everything(machine: Machine) -> dict[str, tuple[int, int, int]]:
    """Every file's identity, so that a file written again with the same content shows."""
    found = {}
    for path in machine.root.rglob("*"):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mtime_ns, status.st_mode)
    return found
