# SPDX-License-Identifier: Apache-2.0
"""`state save` and `load` of what is on record of a VM, by file and by pipe; who may call a helper."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from host_agent.ledger import entry as ledger_entry
from host_agent.qemu.bus import Caller
from host_agent.qemu.vmstate import Allowed
from host_agent.qemu.vmstate_peers import LEDGER_ID, listed
from host_agent.qemu.vmstate_stream import MAX_BUNDLE_BYTES, BadBundle, Part, decode, encode
from pv_channel.trust import fingerprint
from tests.host.records import Operator
from tests.host.test_ledger_travel import GUEST, KEY, OTHER, carried, provisioned, vm

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 120


@pytest.fixture
def bundle(operator: Operator, state: Path, tmp_path: Path) -> Path:
    """What `state save` wrote of web1."""
    provisioned(state)
    assert operator.says("state save", "web1", str(tmp_path / "bundle")) == 0
    return tmp_path / "bundle"


@pytest.fixture
def there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Who says verbs on another host."""
    return Operator(tmp_path / "there", capsys)


def test_a_bundle_is_roots_alone_and_is_the_vms_entry(bundle: Path, state: Path, operator: Operator) -> None:
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert decode(bundle.read_bytes()) == [Part(LEDGER_ID, ledger_entry.encode(carried(state)))]
    assert operator.out == f"{LEDGER_ID}: {len(ledger_entry.encode(carried(state)))} bytes saved\n"


def test_what_was_saved_is_loaded_elsewhere_and_said(bundle: Path, there: Operator) -> None:
    assert there.says("state load", "web1", str(bundle)) == 0
    assert there.out.startswith("web1: its state came from ")
    assert there.out.endswith(f": generation 3 of i-1 in force, the guest's key {fingerprint(GUEST)}\n")
    assert vm(there.state)["names"] == ["web1.example.org", "192.0.2.10"]
    assert "loaded the state" in vm(there.state)["audit"][0]["what"]


def test_json_names_the_parts(bundle: Path, operator: Operator, there: Operator) -> None:
    assert operator.says("state save", "--json", KEY, str(bundle)) == 0
    assert f'"id": "{LEDGER_ID}"' in operator.out
    assert there.says("state load", "--json", "web1", str(bundle)) == 0
    assert '"vm": "web1"' in there.out


def test_a_pipe_between_two_hosts_carries_it(state: Path, tmp_path: Path) -> None:
    provisioned(state)
    agent = [sys.executable, "-m", "host_agent", "state"]
    saved = subprocess.run([*agent, "save", "--state", str(state), "web1", "-"], capture_output=True, check=True, timeout=SECONDS)
    assert b"bytes saved" in saved.stderr
    load = [*agent, "load", "--state", str(tmp_path / "there"), "web1", "-"]
    subprocess.run(load, input=saved.stdout, capture_output=True, check=True, timeout=SECONDS)
    assert vm(tmp_path / "there")["guest-key"] == fingerprint(GUEST)


def test_a_bundle_is_not_written_to_a_terminal(state: Path, operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    provisioned(state)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert operator.says("state save", "web1", "-") == 1
    assert "standard output is a terminal" in operator.err


def test_wrong_usage_is_two(operator: Operator) -> None:
    assert operator.says("state save", "--json", "web1", "-") == 2
    assert operator.says("state helper", "web1") == 2
    assert operator.says("state helper", "--bus", "unix:path=/x", "--qemu-uid", "-1", "web1") == 2


def test_nothing_on_record_is_nothing_to_save(operator: Operator, tmp_path: Path) -> None:
    assert operator.says("state save", "web1", str(tmp_path / "bundle")) == 1
    assert "web1: its guest was never met from here, so there is no state of it to carry" in operator.err
    assert not (tmp_path / "bundle").exists()


def test_an_old_bundle_stays_where_a_new_one_cannot_be_written(bundle: Path, operator: Operator) -> None:
    before = bundle.read_bytes()
    assert operator.says("state save", "nobody", str(bundle)) == 1
    assert operator.says("state save", "web1", str(bundle / "below")) == 1
    assert "Not a directory; the bundle was not written" in operator.err
    assert bundle.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: b"", "it ends inside the number of parts"),
        (lambda data: data[:-1], "it ends inside the state of part 1"),
        (lambda data: data + b"x", "1 bytes follow its last part"),
        (lambda data: bytes(4), "the bundle is empty"),
        (lambda data: data.replace(b'"i-1"', b'"i-2" '), "it ends inside"),
        (lambda data: encode([Part(LEDGER_ID, b"{}")]), "no VM's entry"),
        (lambda data: encode([*decode(data), Part("org.example.tpm", b"x")]), "the state of org.example.tpm is in the bundle"),
    ],
)
def test_what_is_no_bundle_of_this_vm_changes_nothing(bundle: Path, there: Operator, damage: object, why: str) -> None:
    assert callable(damage)
    data = damage(bundle.read_bytes())
    bundle.write_bytes(data if why != "it ends inside" else data[:-2])
    assert there.says("state load", "web1", str(bundle)) == 1
    assert why in there.err
    assert len(there.err.splitlines()) == 1
    assert not (there.state / "ledger.sqlite").exists() or there.says("status", "web1") == 1


def test_a_bundle_that_others_can_write_to_is_not_believed(bundle: Path, there: Operator) -> None:
    bundle.chmod(0o660)
    assert there.says("state load", "web1", str(bundle)) == 1
    assert "others may write to it, and so decide which guest is believed; cure: chmod 600" in there.err
    bundle.chmod(0o644)
    assert there.says("state load", "web1", str(bundle)) == 0
    assert there.says("state load", "web1", str(bundle.parent)) == 1
    assert there.says("state load", "web1", str(bundle.parent / "none")) == 1
    assert "'pv-host-agent state save' writes such a file" in there.err


def test_another_key_pinned_here_stays_unless_forced(bundle: Path, there: Operator) -> None:
    provisioned(there.state, guest_key=OTHER)
    assert there.says("state load", "web1", str(bundle)) == 1
    assert "--force takes the latter" in there.err
    assert there.says("state load", "--force", "web1", str(bundle)) == 0
    assert vm(there.state)["guest-key"] == fingerprint(GUEST)


def test_ids_that_have_to_be_there_are_asked_for_beforehand(bundle: Path, there: Operator, operator: Operator) -> None:
    for who in (there, operator):
        assert who.says("state save" if who is operator else "state load", "--id-list", "idA", "web1", str(bundle)) == 1
        assert "idA: without a bus there is no such helper; cure: --bus ADDRESS" in who.err
    assert there.says("state load", "--id-list", LEDGER_ID, "web1", str(bundle)) == 0
    assert there.says("state load", "--id-list", "", "web1", str(bundle)) == 1
    assert "cannot be an id" in there.err


def test_a_bus_that_is_none_is_told_in_a_sentence(bundle: Path, there: Operator, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for address in (f"unix:path={tmp_path}/none", f"unix:path={tmp_path}/file", "nonsense", "unix:nothing=1", ""):
        assert there.says("state load", "--bus", address, "web1", str(bundle)) == 1, address
        assert "no bus there" in there.err, address
        assert len(there.err.splitlines()) == 1
    assert not there.state.exists()


def test_a_list_of_ids_is_read_as_qemu_reads_it() -> None:
    assert listed("idB,idA,idB") == ["idB", "idA"]
    with pytest.raises(BadBundle):
        listed("idA,")


def test_root_and_the_vms_qemu_may_call_and_nobody_else() -> None:
    other, pid = os.geteuid() + 1, 4711
    assert Allowed().takes(Caller(0, 1))
    assert Allowed().takes(Caller(os.geteuid(), 1))
    assert not Allowed().takes(Caller(other, pid))
    assert Allowed(uid=other).takes(Caller(other, pid))
    assert Allowed(pid=pid).takes(Caller(other, pid))
    assert not Allowed(pid=pid).takes(Caller(other, 0))
    assert Allowed(uid=other, pid=pid).takes(Caller(other, pid))
    assert not Allowed(uid=other, pid=pid).takes(Caller(other, pid + 1))
    assert not Allowed(uid=other, pid=pid).takes(Caller(other + 1, pid))


class Endless(io.BytesIO):
    """More than anybody can hold."""

    asked = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert 0 < size <= MAX_BUNDLE_BYTES + 1
        self.asked += size
        return bytes(4) + b"x" * 1000


def test_standard_input_is_read_no_further_than_a_bundle_can_be_long(monkeypatch: pytest.MonkeyPatch, there: Operator) -> None:
    endless = Endless()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(endless))
    assert there.says("state load", "web1", "-") == 1
    assert "standard input: no bundle of VM state" in there.err
    assert endless.asked == MAX_BUNDLE_BYTES + 1
