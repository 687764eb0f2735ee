# SPDX-License-Identifier: Apache-2.0
"""What is on record of a VM goes with it through real QEMUs, and the bundle that the broker carries is the one that QEMU does."""

from __future__ import annotations

import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.__main__ import main
from host_agent.errors import HostError
from host_agent.ledger import entry as ledger_entry
from host_agent.ledger.ledger import Ledger
from host_agent.qemu.bus import connect
from host_agent.qemu.ledger_state import LedgerState
from host_agent.qemu.vmstate_peers import LEDGER_ID, checked, peers
from host_agent.qemu.vmstate_stream import Part, decode, encode
from host_agent.views.status import View
from pv_channel.trust import fingerprint
from tests.host.test_ledger_travel import GUEST, KEY, OTHER, provisioned
from tests.qemu.bus_helpers import Beside, Program
from tests.qemu.migrating import arrived, migrate, return_path, save, with_vmstate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.qemu.conftest import Start
    from tests.qemu.machines import Qemu

#: In a migration stream, before its section: the device's name and instance, the section's version, the size of what follows.
SECTION = re.compile(rb"\x19dbus-vmstate/dbus-vmstate(.{4})(.{4})(.{4})", re.DOTALL)
ANSWER_SECONDS = 120


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The state of the host where the VM is."""
    provisioned(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The state of the host where the VM goes to."""
    return tmp_path / "there"


def ours(beside: Beside, directory: Path, *, incoming: bool = False) -> LedgerState:
    """Our helper for web1 is on the bus."""
    state = LedgerState(directory, "web1", "a test", beside.told.append, incoming=incoming)
    beside.run(state.prepare())
    beside.add_ours(LEDGER_ID, state)
    return state


def vm(directory: Path) -> dict[str, Any]:
    """All that is on record of web1."""
    with View(directory) as view:
        return view.named("web1")


def bundle_in(stream: bytes) -> tuple[int, bytes]:
    """Where in a migration stream the bundle begins, and the bundle."""
    found = SECTION.search(stream)
    assert found is not None
    (size,) = struct.unpack(">I", found[3])
    return found.end(), stream[found.end() : found.end() + size]


@pytest.mark.parametrize("versions", [(7, 7), (7, 10), (10, 10)], ids=str)
def test_what_is_on_record_moves_with_the_vm(
    start: Start, qemu7: Qemu, qemu10: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, here: Path, there: Path,
    versions: tuple[int, int],
) -> None:  # fmt: skip
    qemus = {7: qemu7, 10: qemu10}
    ours(source_bus, here)
    ours(destination_bus, there, incoming=True)
    ids = source_bus.run(checked(source_bus.address))
    assert ids == destination_bus.run(checked(destination_bus.address, ids, saves=False)) == [LEDGER_ID]
    source = start(qemus[versions[0]], *with_vmstate(source_bus, LEDGER_ID))
    destination = start(qemus[versions[1]], *with_vmstate(destination_bus, LEDGER_ID), "-incoming", "defer")
    for end in (source, destination):
        return_path(end)
    assert migrate(source, destination, tmp_path / "m")[:2] == ("completed", "prelaunch")
    assert (vm(there)["guest-key"], vm(there)["generation-applied"]) == (fingerprint(GUEST), 3)
    assert (vm(there)["names"], vm(there)["audit"][0]["who"]) == ([], "a test")
    assert "its state came from" in destination_bus.told[0]
    assert destination_bus.run(checked(destination_bus.address)) == [LEDGER_ID]  # and may go on from there


def test_a_destination_that_knows_another_guest_fails_the_migration_and_the_source_goes_on(
    start: Start, qemu10: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, here: Path, there: Path
) -> None:
    provisioned(there, guest_key=OTHER)
    ours(source_bus, here)
    ours(destination_bus, there, incoming=True)
    source = start(qemu10, *with_vmstate(source_bus, LEDGER_ID))
    destination = start(qemu10, *with_vmstate(destination_bus, LEDGER_ID), "-incoming", "defer")
    for end in (source, destination):
        return_path(end)
    ends = migrate(source, destination, tmp_path / "m", stay=True)
    assert ends.source == "failed"
    assert "the key pinned here for its guest is" in ends.said
    assert vm(there)["guest-key"] == fingerprint(OTHER)
    with source.monitor() as monitor:
        monitor.execute("cont")
        assert monitor.execute("query-status")["status"] == "running"


def test_the_brokers_bundle_is_loaded_by_qemus_own_object(
    start: Start, qemu: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, here: Path, there: Path
) -> None:
    file, bundle = tmp_path / "stream", tmp_path / "bundle"
    source_bus.add(Program("org.example.tpm", b"a tpm's"))
    arguments = ["state", "save", "--state", str(here), "web1", str(bundle), "--bus", source_bus.address]
    assert main(arguments) == 0
    assert save(start(qemu, *with_vmstate(source_bus)), file) == "completed"
    stream = file.read_bytes()
    at, qemus = bundle_in(stream)
    assert decode(qemus) == [Part("org.example.tpm", b"a tpm's")]
    brokers = bundle.read_bytes()
    file.write_bytes(stream[: at - 4] + struct.pack(">I", len(brokers)) + brokers + stream[at + len(qemus) :])
    ours(destination_bus, there, incoming=True)
    program = destination_bus.add(Program("org.example.tpm"))
    destination = start(qemu, *with_vmstate(destination_bus), "-incoming", f"exec:cat {file}", wait=False)
    assert (arrived(destination), destination.said()) == ("prelaunch", "")
    assert program.loaded == [b"a tpm's"]
    assert vm(there)["guest-key"] == fingerprint(GUEST)


def test_qemus_own_bundle_is_loaded_by_the_broker(
    start: Start, qemu: Qemu, source_bus: Beside, destination_bus: Beside, tmp_path: Path, here: Path, there: Path
) -> None:
    file, bundle = tmp_path / "stream", tmp_path / "bundle"
    source_bus.add(Program("org.example.tpm", b"a tpm's"))
    ours(source_bus, here)
    assert save(start(qemu, *with_vmstate(source_bus)), file) == "completed"
    _, qemus = bundle_in(file.read_bytes())
    assert sorted(part.id for part in decode(qemus)) == ["org.example.tpm", LEDGER_ID]
    assert qemus.rstrip(b"\0") == encode(decode(qemus)).rstrip(b"\0")
    bundle.write_bytes(qemus)
    program = destination_bus.add(Program("org.example.tpm"))
    assert main(["state", "load", "--state", str(there), "web1", str(bundle), "--bus", destination_bus.address]) == 0
    assert program.loaded == [b"a tpm's"]
    assert (vm(there)["guest-key"], vm(there)["names"]) == (fingerprint(GUEST), ["web1.example.org", "192.0.2.10"])


def test_a_save_is_answered_from_what_was_prepared_and_follows_the_ledger(source_bus: Beside, here: Path) -> None:
    state = ours(source_bus, here)
    before = ledger_entry.decode(state.save())
    ledger = Ledger.open(here)
    ledger.ask_to_reprovision(before.key)
    ledger.close()
    assert ledger_entry.decode(state.save()) == before
    source_bus.run(state.prepare())
    assert ledger_entry.decode(state.save()).reprovision
    (here / "ledger.sqlite").write_bytes(b"damaged")
    assert ledger_entry.decode(state.save()).reprovision


def test_the_running_helper_follows_the_ledger_by_itself(here: Path, source_bus: Beside, helping: Any) -> None:
    helping("--state", str(here), "--bus", source_bus.address, "web1")
    assert source_bus.run(checked(source_bus.address)) == [LEDGER_ID]
    ledger = Ledger.open(here)
    ledger.ask_to_reprovision(KEY)
    ledger.close()
    until = time.monotonic() + ANSWER_SECONDS
    while not ledger_entry.decode(source_bus.run(saved(source_bus.address))).reprovision:
        assert time.monotonic() < until, "the snapshot stayed as it was"
        time.sleep(0.1)


async def saved(address: str) -> bytes:
    """What the one helper on the bus saves."""
    async with connect(address) as bus:
        (helper,) = await peers(bus)
        return (await helper.save()).state


def test_news_older_than_the_ledgers_are_no_failure_and_do_not_travel_on(destination_bus: Beside, tmp_path: Path) -> None:
    provisioned(tmp_path / "old", generation=3)
    provisioned(tmp_path / "new", generation=4)
    old = ours(destination_bus, tmp_path / "old").save()
    state = LedgerState(tmp_path / "new", "web1", "a test", destination_bus.told.append, incoming=True)
    destination_bus.run(state.prepare())
    destination_bus.run(state.load(old))
    assert "this stays" in destination_bus.told[-1]
    assert ledger_entry.decode(state.save()).generation_applied == vm(tmp_path / "new")["generation-applied"] == 4


def test_a_helper_that_expects_nothing_loads_nothing(source_bus: Beside, here: Path) -> None:
    state = ours(source_bus, here)

    async def load() -> None:
        async with connect(source_bus.address) as bus:
            (helper,) = await peers(bus)
            await helper.load(state.save())

    with pytest.raises(HostError, match="no state is expected to come here"):
        source_bus.run(load())
    assert vm(here)["audit"] == []


class Helping:
    """`pv-host-agent state helper` as a process; *words* are the first that it prints, for QEMU."""

    def __init__(self, *arguments: str) -> None:
        argv = [sys.executable, "-m", "host_agent", "state", "helper", *arguments]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.words = self.process.stdout.readline().split()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit status, and what it said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=ANSWER_SECONDS)
        return self.process.returncode, said


@pytest.fixture
def helping() -> Iterator[Any]:
    """Start one; it is killed when the test ends."""
    running: list[Helping] = []

    def started(*arguments: str) -> Helping:
        running.append(Helping(*arguments))
        return running[-1]

    yield started
    for each in running:
        each.process.kill()
        each.process.communicate()


def test_the_verb_serves_a_qemu_on_a_bus_of_its_own_and_ends_with_a_signal(
    start: Start, qemu10: Qemu, tmp_path: Path, here: Path, there: Path, helping: Any
) -> None:
    out = helping("--state", str(here), "--directory", str(tmp_path / "a"), "web1")
    into = helping("--state", str(there), "--directory", str(tmp_path / "b"), "--incoming", "web1")
    machine = ("-machine", "pc-i440fx-7.2", "-S")
    source = start(qemu10, *machine, *out.words)
    destination = start(qemu10, *machine, *into.words, "-incoming", "defer")
    assert migrate(source, destination, tmp_path / "m")[:2] == ("completed", "prelaunch")
    assert vm(there)["guest-key"] == fingerprint(GUEST)
    assert out.end(signal.SIGTERM) == (128 + signal.SIGTERM, "")
    status, said = into.end(signal.SIGINT)
    assert (status, said.startswith("web1: its state came from")) == (128 + signal.SIGINT, True)
    assert "Traceback" not in said


def test_the_bus_ends_with_the_helper_however_that_ends(tmp_path: Path, here: Path, helping: Any) -> None:
    helper = helping("--state", str(here), "--directory", str(tmp_path / "a"), "web1")
    configuration = str(tmp_path / "a" / "bus.conf")
    (daemon,) = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal() and configuration in command_line(entry)]
    assert helper.end(signal.SIGKILL)[0] == -signal.SIGKILL
    until = time.monotonic() + ANSWER_SECONDS
    while configuration in command_line(daemon):
        assert time.monotonic() < until, "the dbus-daemon lives on"
        time.sleep(0.05)


def test_a_helper_without_its_bus_ends_and_says_so(tmp_path: Path, here: Path, helping: Any) -> None:
    with Beside(tmp_path / "bus") as beside:
        helper = helping("--state", str(here), "--bus", beside.address, "web1")
        assert helper.words
    _, said = helper.process.communicate(timeout=ANSWER_SECONDS)
    assert helper.process.returncode == 1
    assert "the bus has ended, so no state of this VM travels any more" in said


def test_a_vm_whose_guest_was_never_met_has_no_helper_but_an_incoming_one(tmp_path: Path, there: Path, helping: Any) -> None:
    helper = helping("--state", str(there), "--directory", str(tmp_path / "a"), "web1")
    assert helper.words == []
    _, said = helper.process.communicate(timeout=ANSWER_SECONDS)
    assert said == "pv-host-agent: web1: its guest was never met from here, so there is no state of it to carry\n"
    assert helper.process.returncode == 1
    incoming = helping("--state", str(there), "--directory", str(tmp_path / "b"), "--incoming", "web1")
    assert incoming.words[0] == "-object"


def command_line(process: Path) -> str:
    """Of a process in /proc; empty where it has ended."""
    try:
        return (process / "cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
