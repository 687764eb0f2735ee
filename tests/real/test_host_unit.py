# SPDX-License-Identifier: Apache-2.0
"""The host's unit under a real systemd and journald: ready, reloaded, stuck, killed, stopped; and what its sandbox leaves it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from host_agent.log.happenings import Happening
from tests.host.fakes import FakeGuest, FakeQemu
from tests.real.booted import COMMAND, UNIT, Machine, eventually
from tests.real.test_units import analyze

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENT = "instance-id: i-vm1\nuuid: 00010203-0405-0607-0809-0a0b0c0d0e0f\nlocal-hostname: {}\n"
#: ioctl_tty(2)
TIOCSPTLCK, TIOCGPTN = 0x40045431, 0x80045430
LIBVIRTS = "var/lib/libvirt/libxl/channel/target"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One with a document for vm1, and libvirt's directory."""
    machine = Machine(tmp_path)
    machine.furnish()
    document(machine, "web1")
    (machine.root / LIBVIRTS).mkdir(parents=True)
    with machine:
        yield machine


def document(machine: Machine, hostname: str) -> None:
    (machine.root / "etc/pv-host-agent/documents/vm1.yaml").write_text(DOCUMENT.format(hostname))


def drop_in(machine: Machine, text: str) -> None:
    """More lines for the unit."""
    path = machine.root / f"etc/systemd/system/{UNIT}.d/test.conf"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    machine.run("systemctl", "daemon-reload")


def start(machine: Machine) -> None:
    machine.run("systemctl", "enable", "--now", UNIT)


def qemu(machine: Machine, guest: FakeGuest) -> FakeQemu:
    """vm1's, which makes its socket in the unit's runtime directory; so the unit must have been started once."""
    return FakeQemu(machine.inside("/run/pv-channel/vm1.sock"), guest)


def noted(happening: Happening) -> str:
    return f"MESSAGE_ID={happening.message_id}"


def test_it_is_ready_says_how_it_stands_and_the_journal_knows_which_vm_is_meant(machine: Machine) -> None:
    guest = FakeGuest(uuid=bytes(range(16)))
    start(machine)
    assert machine.show("ActiveState") == "active"
    with qemu(machine, guest):
        machine.until("StatusText", "serving 1 VM: 1 ready")
        (sent,) = machine.journal(noted(Happening.SENT))
        assert {name: sent[name] for name in sent if name.startswith("PV_")} == {
            "PV_VM": "vm1", "PV_UUID": "00010203-0405-0607-0809-0a0b0c0d0e0f", "PV_GENERATION": "1", "PV_INSTANCE_ID": "i-vm1",
        }  # fmt: skip
        assert (sent["PRIORITY"], sent["_SYSTEMD_UNIT"], sent["_TRANSPORT"]) == ("6", UNIT, "journal")
        (applied,) = machine.journal(noted(Happening.APPLIED), "PV_VM=vm1")
        assert applied["PV_OUTCOME"] == "applied"
    assert len(guest.applied) == 1
    machine.run("systemctl", "restart", UNIT)
    *_, started = machine.until_journal(noted(Happening.STARTED), times=2)
    assert "serves 1 VM on org.pvchannel.config.1" in started["MESSAGE"]


def test_the_catalogue_explains_a_line(machine: Machine) -> None:
    start(machine)
    machine.until_journal(noted(Happening.UNREACHABLE))
    machine.run("journalctl", "--update-catalog")
    said = machine.run("journalctl", "--catalog", "--no-pager", noted(Happening.UNREACHABLE))
    assert f"-- Subject: {Happening.UNREACHABLE.subject}" in said
    assert "pv-host-agent doctor vm1" in said


def test_a_reload_reads_documents_and_key_and_ends_no_session(machine: Machine) -> None:
    guest = FakeGuest(uuid=bytes(range(16)))
    start(machine)
    with qemu(machine, guest):
        machine.until("StatusText", "serving 1 VM: 1 ready")
        document(machine, "web2")
        made = machine.run(COMMAND, "keys", "init", "--force")
        machine.run("systemctl", "reload", UNIT)
        (reloaded,) = machine.until_journal(noted(Happening.RELOADED))
        fingerprint = made.split("fingerprint ")[1].split(";")[0]
        assert f"is new; new sessions use it: {fingerprint}" in reloaded["MESSAGE"]
        eventually(lambda: len(guest.applied) == 2, lambda: f"the new document\n{machine.journal_text()}")
        assert len(guest.opened) == 1
        (machine.root / "var/lib/pv-host-agent/host.key").write_text("nonsense")
        machine.run("systemctl", "reload", UNIT)
        (bad,) = machine.until_journal(noted(Happening.KEY_BAD))
        assert fingerprint in bad["MESSAGE"]
        machine.until_journal(noted(Happening.RELOADED), times=2)
        assert machine.show("ActiveState") == "active"
        assert machine.show("NRestarts") == "0"


def test_a_stuck_loop_is_ended_by_the_watchdog_and_started_again(machine: Machine) -> None:
    drop_in(machine, "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
    start(machine)
    first = machine.show("MainPID")
    machine.run("kill", "-STOP", first)
    machine.until("NRestarts", "1")
    machine.until("ActiveState", "active")
    assert machine.show("MainPID") != first
    assert "Watchdog timeout" in machine.journal_text()
    machine.until_journal(noted(Happening.STARTED), times=2)


def test_a_loop_that_turns_is_left_alone_by_the_watchdog(machine: Machine) -> None:
    drop_in(machine, "[Service]\nWatchdogSec=1\n")
    start(machine)
    before = int(machine.show("WatchdogTimestampMonotonic"))

    def beats() -> bool:
        return int(machine.show("WatchdogTimestampMonotonic")) > before + 3_000_000

    eventually(beats, lambda: f"no signs of life\n{machine.journal_text()}")
    assert machine.show("NRestarts") == "0"


def test_what_the_watchdog_aborts_says_where_it_was_and_leaves_no_core(machine: Machine) -> None:
    start(machine)
    machine.run("kill", "-ABRT", machine.show("MainPID"))
    machine.until("NRestarts", "1")
    lines = "\n".join(entry["MESSAGE"] for entry in machine.journal())
    assert "Fatal Python error: Aborted" in lines
    assert "host_agent/verbs/serve.py" in lines
    assert machine.show("ExecMainStatus") == "0"  # of the new one
    assert "core-dump" not in machine.journal_text()


def test_it_is_started_again_when_it_is_killed_and_applies_nothing_twice(machine: Machine) -> None:
    guest = FakeGuest(uuid=bytes(range(16)))
    start(machine)
    with qemu(machine, guest) as vm:
        machine.until("StatusText", "serving 1 VM: 1 ready")
        guest.restart()
        machine.run("kill", "-KILL", machine.show("MainPID"))
        machine.until("NRestarts", "1")
        eventually(lambda: len(guest.opened) == 2, lambda: f"another session\n{machine.journal_text()}")
        machine.until("StatusText", "serving 1 VM: 1 ready")
        assert len(guest.applied) == 1
        assert vm.path.exists()


def test_it_stops_cleanly_however_often_it_is_told(machine: Machine) -> None:
    start(machine)
    with qemu(machine, FakeGuest(uuid=bytes(range(16)))):
        machine.until("StatusText", "serving 1 VM: 1 ready")
        main = machine.show("MainPID")
        machine.run("sh", "-c", f"kill -TERM {main}; kill -TERM {main}; systemctl stop {UNIT}")
        machine.until("ActiveState", "inactive")
    assert (machine.show("Result"), machine.show("ExecMainStatus"), machine.show("ExecMainCode")) == ("success", "0", "1")
    (stopped,) = machine.journal(noted(Happening.STOPPED))
    assert "left 1 VM within 0." in stopped["MESSAGE"]
    assert not (machine.root / "var/lib/pv-host-agent/ledger.sqlite-wal").exists()
    assert machine.inside("/run/pv-channel").is_dir()


def test_it_never_gives_up(machine: Machine) -> None:
    drop_in(machine, "[Service]\nRestartSec=50ms\n")
    key = machine.root / "var/lib/pv-host-agent/host.key"
    key.write_text("nonsense")
    key.chmod(0o600)
    machine.run("systemctl", "start", UNIT, check=False)
    eventually(lambda: int(machine.show("NRestarts")) > 8, lambda: f"it gave up\n{machine.journal_text()}")
    key.unlink()
    machine.until("ActiveState", "active")


def test_a_line_that_is_said_while_the_journal_is_away_is_not_lost(machine: Machine) -> None:
    start(machine)
    journald = machine.run("systemctl", "show", "--property=MainPID", "--value", "systemd-journald.service").strip()
    machine.run("kill", "-STOP", journald)
    (machine.root / "etc/pv-host-agent/documents/vm2.yaml").write_text("instance-id: [1]\n")
    machine.run("systemctl", "reload", UNIT)
    machine.until("StatusText", "serving 1 VM: 1 unreachable")
    machine.run("kill", "-CONT", journald)
    machine.until_journal(noted(Happening.DOCUMENT_BAD))


#: What a channel needs of the sandbox: a terminal of the machine's, xenstore, links beside sockets, whose process a QEMU is.
PROBE = """
import json, os, socket, sys
terminal, pid = sys.argv[1:]
found = {}
def attempt(name, what):
    try:
        found[name] = what()
    except OSError as exc:
        found[name] = exc.strerror
def write(path):
    with open(path, "w"):
        pass
    os.link(path, path + ".link")
def speak():
    descriptor = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    os.write(descriptor, b"hello")
attempt("terminal", speak)
attempt("xenstore", lambda: socket.socket(socket.AF_UNIX).connect("/run/xenstored/socket"))
attempt("device", lambda: os.mknod("/var/lib/pv-host-agent/disk", 0o60600, os.makedev(8, 0)))
attempt("sockets", lambda: write("/run/pv-channel/probe"))
attempt("libvirts", lambda: write("/var/lib/libvirt/libxl/channel/target/probe"))
attempt("state", lambda: write("/var/lib/pv-host-agent/probe"))
attempt("documents", lambda: write("/etc/pv-host-agent/documents/probe.txt"))
attempt("system", lambda: write("/usr/probe"))
attempt("etc", lambda: write("/etc/probe"))
attempt("home", lambda: os.listdir("/root"))
attempt("qemu", lambda: [line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith("Uid")])
attempt("memory", lambda: open(f"/proc/{pid}/mem").close())
print(json.dumps(found))
"""


def test_the_sandbox_leaves_what_a_channel_needs_and_no_more(machine: Machine) -> None:
    (machine.root / "root/notes.txt").touch()
    master = os.open(machine.inside("/dev/pts/ptmx"), os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("i", fcntl.ioctl(master, TIOCGPTN, bytes(4)))
        pid = machine.run("sh", "-c", "setpriv --reuid=65534 --clear-groups sleep 600 >/dev/null 2>&1 & echo $!").strip()
        machine.run("mkdir", "/run/xenstored")
        with socket.socket(socket.AF_UNIX) as xenstored:
            xenstored.bind(os.fspath(machine.inside("/run/xenstored/socket")))
            xenstored.listen()
            found = probe(machine, f"/dev/pts/{number}", pid)
        assert os.read(master, 5) == b"hello"
    finally:
        os.close(master)
    refused = "Read-only file system"
    assert found == {
        "terminal": None, "xenstore": None, "sockets": None, "libvirts": None, "state": None, "documents": None,
        "device": "Operation not permitted",
        "system": refused, "etc": refused, "home": [], "qemu": ["65534"], "memory": "Permission denied",
    }  # fmt: skip


def probe(machine: Machine, *arguments: str) -> dict[str, object]:
    """What a program finds that runs in our unit's place."""
    (machine.root / "srv/probe.py").write_text(PROBE)
    units = machine.root / "etc/systemd/system"
    python = (machine.root / COMMAND.removeprefix("/")).read_text().splitlines()[-1].split()[1]
    text = (units / UNIT).read_text().replace("Type=notify", "Type=oneshot").replace("Restart=always", "Restart=no")
    text = text.replace(f"{COMMAND} serve", f"{python} /srv/probe.py {' '.join(arguments)}")
    (units / "probe.service").write_text(text.replace("[Service]", "[Service]\nEnvironment=PYTHONHOME=/srv/python"))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "probe.service")
    said = machine.run("journalctl", "--output=cat", "--unit=probe.service", "_TRANSPORT=stdout")
    found: dict[str, object] = json.loads(said)
    return found


def test_the_service_is_exposed_to_little(machine: Machine) -> None:
    """The threshold is in tenths: systemd calls this "OK"."""
    done = analyze("security", "--offline=yes", "--threshold=25", f"--root={machine.root}", UNIT)
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


def test_systemd_finds_nothing_wrong_with_the_unit(machine: Machine) -> None:
    command = ["systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{UNIT}"]
    assert machine.run("sh", "-c", f"{subprocess.list2cmdline(command)} 2>&1") == ""
