# SPDX-License-Identifier: Apache-2.0
"""The same whole configuration applied by the agent and by cloud-init's four stages, each from its start to its end.

Both run on the same Debian tree, in namespaces of their own, with the same Python; ours over a pty, handshake and all, theirs
from the seed that our own hand-off writes. CPU time and resident memory are what wait4(2) says of the whole process with its
children. A process's own memory is its anonymous pages, looked at every half millisecond (RssAnon, proc(5)): what a library's
file has in memory is the page cache's, once for all who use it, and goes when something else needs the room.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from bench.row import Row
from bench.tty import Tty, provision
from guest_agent.provision import Provisioner
from guest_agent.system import System
from lab import packages, project
from lab.cache import Cache, default_directory, key_of
from lab.debian import cloud_init_tree
from lab.demo import public_key
from lab.programs import run
from pv_channel import CHANNEL_NAME
from pv_channel.document import from_values
from pv_channel.greeting import NO_UUID
from pv_channel.messages import Outcome
from pv_channel.noise import KeyPair
from pv_channel.session import Host, Sealed

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 5
MAC = "00:16:3e:00:00:01"
AGENT = f"/{project.ENVIRONMENT}/bin/pv-guest-agent"
STAGES = (["init", "--local"], ["init"], ["modules", "--mode", "config"], ["modules", "--mode", "final"])
_DEADLINE_SECONDS = 300

#: The namespaces' inside, before the tree is entered: the ptys are this machine's.
ENTER = 'mkdir -p "$0/dev/pts" && mount --bind /dev/pts "$0/dev/pts" && exec chroot "$0" sh -c "$1"'
#: What a boot has done by then.
BOOTED = f"""set -e
mount -t proc proc /proc
mount -t sysfs -o ro sysfs /sys
ip link set lo up
ip link add peer0 type veth peer name eth0 address {MAC}
hostname template
mkdir -p /run/cloud-init
touch /run/cloud-init/enabled
printf 'datasource_list: [ NoCloud, None ]\\n' >/run/cloud-init/cloud.cfg
exec /usr/bin/python3 /root/measure.py
"""
#: Runs the commands in /root/commands one after the other, and says of each: status, CPU seconds, resident and own KiB at their
#: peaks, seconds.
MEASURE = """
import json, os, time
with open("/root/commands") as commands, open("/root/measured", "w") as measured, open("/root/said", "a") as said:
    for command in json.load(commands):
        began = time.perf_counter()
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.execv(command[0], command)
        own = ended = 0
        while not ended:
            try:
                with open(f"/proc/{child}/status") as seen:
                    own = max([own, *(int(line.split()[1]) for line in seen if line.startswith("RssAnon:"))])
            except OSError:
                pass
            time.sleep(0.0005)
            ended, status, usage = os.wait4(child, os.WNOHANG)
        seconds = time.perf_counter() - began
        print(json.dumps([status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, own, seconds]), file=measured)
"""
#: The agent with a clock at each fsync: how many, and how long all of them took.
CLOCKED = """
import atexit, os, sys, time
spent, sync = [], os.fsync
def clocked(opened):
    began = time.perf_counter()
    try:
        sync(opened)
    finally:
        spent.append(time.perf_counter() - began)
os.fsync = clocked
atexit.register(lambda: open("/root/syncs", "w").write(f"{len(spent)} {sum(spent)}"))
from guest_agent.__main__ import main
sys.exit(main())
"""


class Cost(NamedTuple):
    """CPU seconds, the peaks of resident and of own memory in KiB, and seconds, of all that it took."""

    cpu: float
    resident_kib: int
    own_kib: int
    seconds: float


def rows() -> list[Row]:
    """Both in turn, each on a fresh machine."""
    packages.ensure(print)
    cache = Cache(default_directory(), print)
    with cache.locked():
        layers = _layers(cache)
    both = [(ours(layers), theirs(layers)) for _ in range(ROUNDS + 1)][1:]  # the first reads everything from the disk
    cpu = [median(pair[side].cpu for pair in both) for side in (0, 1)]
    resident = [max(pair[side].resident_kib for pair in both) / 1024 for side in (0, 1)]
    own = [max(pair[side].own_kib for pair in both) / 1024 for side in (0, 1)]
    seconds = [median(pair[side].seconds for pair in both) for side in (0, 1)]
    count, spent, whole = syncs(layers)
    return [
        Row(
            "CPU time of cloud-init's four stages, over ours for the same configuration",
            median(their.cpu / our.cpu for our, their in both),
            8,
            "higher",
            f"ours {cpu[0] * 1000:.0f} ms, cloud-init {cpu[1] * 1000:.0f} ms",
            "starting an interpreter and importing are most of ours; visudo, sshd -t and new host keys are in it",
        ),
        Row(
            "peak memory of cloud-init, over ours for the same configuration",
            own[1] / own[0],
            2,
            "higher",
            f"own memory: ours {own[0]:.1f} MiB, cloud-init {own[1]:.1f} MiB",
            f"with the pages of its libraries' files: ours {resident[0]:.1f}, cloud-init {resident[1]:.1f} MiB, "
            f"{resident[1] / resident[0]:.2f}; interpreter, msgspec and cryptography with one key made are 23 of ours",
        ),
        Row(
            "time of cloud-init's four stages, over ours with every fsync",
            median(their.seconds / our.seconds for our, their in both),
            4,
            "higher",
            f"ours {seconds[0] * 1000:.0f} ms, cloud-init {seconds[1] * 1000:.0f} ms; of {whole * 1000:.0f} ms, {count} fsyncs "
            f"take {spent * 1000:.0f}; cloud-init has none",
            "what is applied is on the disk when it is reported",
        ),
    ]


def wanted() -> bytes:
    """All that both can be told in the same words."""
    return json.dumps({
        "instance-id": "i-bench",
        "generation": 1,
        "local-hostname": "web1",
        "fqdn": "web1.example.org",
        "timezone": "Europe/Vienna",
        "groups": ["deploy"],
        "ssh_authorized_keys": [public_key("operator@example.org")],
        "users": [
            {"name": name, "groups": ["deploy"], "shell": "/bin/bash", "hashed_passwd": "$6$saltsalt$" + "a" * 86,
             "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [public_key(f"{name}@example.org")]}
            for name in ("alice", "bob", "carol")
        ],
        "ssh_genkeytypes": ["ed25519", "ecdsa"],
        "ssh_pwauth": False,
        "write_files": [
            {"path": f"/etc/app/{number}.conf", "content": "key: value\n" * 20, "permissions": "0640"} for number in range(5)
        ],
        "network": {
            "version": 2,
            "ethernets": {"eth0": {
                "match": {"macaddress": MAC}, "set-name": "eth0", "addresses": ["10.77.0.10/24", "fd77::10/64"],
                "gateway4": "10.77.0.1", "nameservers": {"addresses": ["10.77.0.1"], "search": ["example.org"]},
            }},
        },
    }).encode()  # fmt: skip


def ours(layers: str) -> Cost:
    """One whole run of the agent; raise `RuntimeError` where it did not apply the document."""
    with _machine(layers) as root:
        return _serve(root, [AGENT])


def syncs(layers: str) -> tuple[int, float, float]:
    """How many fsyncs one run of the agent makes, the seconds that they take, and those of the whole run."""
    with _machine(layers) as root:
        cost = _serve(root, [f"/{project.ENVIRONMENT}/bin/python", "-c", CLOCKED])
        count, spent = (root / "root/syncs").read_text().split()
        return int(count), float(spent), cost.seconds


def _serve(root: Path, agent: list[str]) -> Cost:
    host = Host(channel=CHANNEL_NAME.encode("ascii"), uuid=NO_UUID, key=KeyPair.generate(), random_bytes=os.urandom)
    with Tty() as tty:
        host.greet()
        os.write(tty.master, host.data_to_send())
        process = _start(root, [[*agent, "run", "--once", "--tty", tty.name]])
        answered = tty.read_until(lambda data: re.search(rb"\n< [^\n]*\n", data) is not None)
        if not any(isinstance(event, Sealed) for event in host.receive(answered)):
            raise RuntimeError("the agent's answer completed no handshake")
        result = provision(host, tty, from_values(json.loads(wanted())))
        if result.outcome is not Outcome.APPLIED:
            raise RuntimeError(f"the agent did not apply the document: {result}")
        while process.poll() is None:  # it says its last words, and hears that they were heard
            if tty.has_something(0.05):
                host.receive(tty.read())
                os.write(tty.master, host.data_to_send())
        return _cost(root)


def theirs(layers: str) -> Cost:
    """One whole run of cloud-init's four stages; raise `RuntimeError` where they did not do it."""
    with _machine(layers) as root:
        Provisioner(System(root), "bench", hand_off=True).provision(wanted(), None, lambda _generation, _item: None)
        _start(root, [["/usr/bin/cloud-init", *stage] for stage in STAGES]).wait(_DEADLINE_SECONDS)
        result = json.loads((root / "run/cloud-init/result.json").read_text())
        users = [line.split(":")[0] for line in (root / "etc/passwd").read_text().splitlines()]
        if result["v1"]["errors"] or "carol" not in users or (root / "etc/hostname").read_text() != "web1\n":
            raise RuntimeError(f"cloud-init did not apply the configuration: {result}")
        return _cost(root)


def _start(root: Path, commands: list[list[str]]) -> subprocess.Popen[bytes]:
    (root / "root/commands").write_text(json.dumps(commands), encoding="utf-8")
    (root / "root/measure.py").write_text(MEASURE, encoding="utf-8")
    spaces = ["unshare", "--mount", "--uts", "--net", "--pid", "--ipc", "--fork"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.Popen([*spaces, "sh", "-c", ENTER, str(root), BOOTED], stdin=subprocess.DEVNULL, env=environment)


def _cost(root: Path) -> Cost:
    lines = [json.loads(line) for line in (root / "root/measured").read_text().splitlines()]
    if not lines or any(status for status, *_ in lines):
        raise RuntimeError(f"what was measured failed: {lines}\n{(root / 'root/said').read_text()}")
    _, cpu, resident, own, seconds = zip(*lines, strict=True)
    return Cost(sum(cpu), max(resident), max(own), sum(seconds))


def _layers(cache: Cache) -> str:
    """Debian with cloud-init, and above it this checkout's agent, installed as on a template."""
    tree = cloud_init_tree(cache, print)
    wheels = project.dependency_wheels(cache, print, "guest")
    built = project.wheel(cache, print)

    def fill(directory: Path) -> None:
        with _overlay(str(tree), directory) as root:
            project.install_dependencies(root, wheels, project.requirements("guest"))
            project.install_wheel(root, wheels, built)
            wants = root / "etc/systemd/system/multi-user.target.wants"
            wants.mkdir(parents=True, exist_ok=True)
            (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")

    key = key_of(tree.parent.name, wheels.name, built.parent.name, Path(__file__).read_bytes())
    return f"{cache.layer('bench-cloud-init', key, fill)}/upper:{tree}"


@contextmanager
def _overlay(lower: str, where: Path) -> Iterator[Path]:
    for name in ("upper", "work", "root"):
        (where / name).mkdir()
    layers = f"lowerdir={lower},upperdir={where}/upper,workdir={where}/work"
    run(["mount", "-t", "overlay", "overlay", "-o", layers, where / "root"])
    try:
        yield where / "root"
    finally:
        run(["umount", where / "root"])


@contextmanager
def _machine(layers: str) -> Iterator[Path]:
    """A machine of its own, on a disk: what is synced is."""
    with tempfile.TemporaryDirectory(prefix="pv-bench-", dir="/var/tmp") as where, _overlay(layers, Path(where)) as root:
        yield root
