# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent known-hosts`: names from the documents, keys from the guests, and not a word more of either."""

from __future__ import annotations

import hmac
import json
import sqlite3
from base64 import b64decode
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from host_agent.documents.document_file import Wanted, wanted
from host_agent.documents.host_names import called, is_certified, names_of
from host_agent.ledger import schema as ledger_schema
from host_agent.ledger.known import Called
from host_agent.ledger.ledger import Ledger
from host_agent.views.status import View
from pv_channel.document import from_values
from pv_channel.messages import ItemResult, Outcome, Provision, Result
from tests.host.fakes import FakeGuest, FakeQemu
from tests.protocol.blocks import read

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.messages import HostMessage
    from pv_channel.session import Guest

ED25519, RSA = (next(c["kept"] for c in read("ssh-keys-good") if c["case"].startswith(kind)) for kind in ("ed25519", "rsa"))
BARE = " ".join(ED25519.split()[:2])
RSA_BARE = " ".join(RSA.split()[:2])
NETWORK = {
    "version": 2,
    "ethernets": {
        "eth0": {"addresses": ["192.0.2.10/24", "2001:DB8::10/64", "fe80::5/64"]},
        "eth1": {"dhcp4": True},
    },
}
DOCUMENT: dict[str, object] = {"instance-id": "i-1", "fqdn": "Web1.Example.org", "network": NETWORK}
NAMES = ["web1.example.org", "web1", "192.0.2.10", "2001:db8::10"]


class Dom0:
    """A state directory, and the command run on it."""

    def __init__(self, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state, self._capsys = state, capsys
        self.out: list[str] = []
        self.err = ""

    def settle(self, name: str, values: dict[str, object], host_keys: list[str], *, good: bool = True) -> None:
        """The VM *name* answered for the document of these *values*."""
        what = self.wanted(name, values)
        ledger = Ledger.open(self.state)
        ledger.want(what.key, what.name, None, what.digest)
        outcome = Outcome.APPLIED if good else Outcome.REFUSED
        ledger.settle(what.key, 1, Result(1, outcome, [ItemResult("hostname", outcome)], host_keys), "0.1.0", applied=good)
        if good:
            ledger.is_called(what.key, called(what.document))
        ledger.close()

    def wanted(self, name: str, values: dict[str, object]) -> Wanted:
        """What the VM *name* should become."""
        return wanted(from_values(values), self.state / f"{name}.yaml", name)

    def forget_output(self) -> None:
        """What was printed so far is another command's."""
        self._capsys.readouterr()

    def run(self, *arguments: str) -> int:
        """The exit status; the lines in *out*, the complaints in *err*."""
        status = main(["known-hosts", "--state", str(self.state), *arguments])
        out, self.err = self._capsys.readouterr()
        self.out = out.splitlines()
        return status


@pytest.fixture
def dom0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Dom0:
    return Dom0(tmp_path / "state", capsys)


def test_the_names_are_the_documents_in_lower_case_and_the_keys_lose_their_comments(dom0: Dom0) -> None:
    dom0.settle("vm1", DOCUMENT, [f"{BARE} root@web1", RSA])
    assert dom0.run() == 0
    assert dom0.out == [f"{','.join(NAMES)} {BARE}", f"{','.join(NAMES)} {RSA_BARE}"]


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({}, []),
        ({"local-hostname": "a"}, ["a"]),
        ({"fqdn": "a.example.org"}, ["a.example.org", "a"]),
        ({"fqdn": "a.example.org", "local-hostname": "b"}, ["a.example.org", "b"]),
        ({"fqdn": "a.example.org", "local-hostname": "a"}, ["a.example.org", "a"]),
        ({"network": NETWORK}, ["192.0.2.10", "2001:db8::10"]),
    ],
)
def test_what_a_document_calls_its_vm(more: dict[str, object], names: list[str]) -> None:
    assert names_of(from_values({"instance-id": "i-1", **more})) == names


@pytest.mark.parametrize(
    "said",
    [
        "* " + BARE,
        "@cert-authority * " + BARE,
        "cert-authority " + BARE,
        BARE.replace("AAAA", "AAAB"),
        BARE + "\n* " + BARE,
        "",
        "ssh-ed25519",
    ],
)
def test_a_guest_cannot_say_anything_but_a_key(dom0: Dom0, said: str) -> None:
    dom0.settle("vm1", DOCUMENT, [said])
    assert dom0.run() == 1
    assert dom0.out == []
    assert "vm1: its guest has not reported a host key" in dom0.err


def test_one_vm_without_keys_does_not_keep_the_others_from_being_printed(dom0: Dom0) -> None:
    dom0.settle("vm1", DOCUMENT, [])
    dom0.settle("vm2", {"instance-id": "i-2", "local-hostname": "web2"}, [ED25519])
    dom0.settle("vm3", {"instance-id": "i-3"}, [ED25519])
    assert dom0.run() == 1
    assert dom0.out == [f"web2 {BARE}"]
    assert "vm1: its guest has not" in dom0.err
    assert "vm3: no document of it with 'fqdn'" in dom0.err
    assert dom0.run("vm2") == 0
    assert dom0.run("vm2", "vm9") == 1
    assert "vm9: not in the ledger" in dom0.err


def test_a_refusal_takes_neither_the_keys_nor_the_names_away(dom0: Dom0) -> None:
    dom0.settle("vm1", DOCUMENT, [ED25519])
    dom0.settle("vm1", {"instance-id": "i-1", "local-hostname": "other"}, [], good=False)
    assert dom0.run() == 0
    assert dom0.out == [f"{','.join(NAMES)} {BARE}"]


def test_a_vm_that_was_removed_is_printed_only_where_it_is_named(dom0: Dom0) -> None:
    dom0.settle("vm1", DOCUMENT, [ED25519])
    ledger = Ledger.open(dom0.state)
    ledger.stand("vm1", "removed")
    ledger.close()
    assert (dom0.run(), dom0.out) == (0, [])
    assert (dom0.run("vm1"), len(dom0.out)) == (0, 1)


def test_hashed_lines_hold_one_name_each_under_a_salt_of_its_own(dom0: Dom0) -> None:
    dom0.settle("vm1", DOCUMENT, [ED25519])
    assert dom0.run("--hash") == 0
    salts = set()
    for name, line in zip(NAMES, dom0.out, strict=True):
        pattern, key = line.split(" ", 1)
        _, one, salt, digest = pattern.split("|")
        assert (one, key) == ("1", BARE)
        assert hmac.digest(b64decode(salt), name.encode(), "sha1") == b64decode(digest)
        salts.add(salt)
    assert len(salts) == len(NAMES)


def certify(dom0: Dom0, vm: str) -> None:
    """*vm*'s document has a host certificate."""
    ledger = Ledger.open(dom0.state)
    ledger.is_called(vm, Called(["web1"], certified=True))
    ledger.close()


def test_an_authority_stands_for_vms_with_certificates_and_for_no_other(dom0: Dom0, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pub"
    authority.write_text(f"# the fleet's\n{RSA_BARE} our CA\n")
    dom0.settle("vm1", DOCUMENT, [])
    dom0.settle("vm2", {"instance-id": "i-2", "local-hostname": "web2"}, [ED25519])
    certify(dom0, "vm1")
    assert dom0.run("--certificate-authority", str(authority)) == 0
    assert dom0.out == [f"@cert-authority web1 {RSA_BARE}", f"web2 {BARE}"]
    assert dom0.run() == 1


@pytest.mark.parametrize("text", ["", "# nothing\n", "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n", "\xff"])
def test_a_file_that_is_no_authority_is_refused_without_repeating_it(dom0: Dom0, tmp_path: Path, text: str) -> None:
    authority = tmp_path / "ca"
    authority.write_text(text, encoding="latin-1")
    dom0.settle("vm1", DOCUMENT, [ED25519])
    assert dom0.run("--certificate-authority", str(authority)) == 1
    assert "give the .pub file" in dom0.err
    assert "secret" not in dom0.err
    assert dom0.run("--certificate-authority", str(tmp_path / "none")) == 1


def test_a_document_without_a_certificate_is_not_certified() -> None:
    assert not is_certified(from_values(DOCUMENT))
    assert not is_certified(from_values({"instance-id": "i-1", "ssh_keys": {}}))


def pushed(dom0: Dom0, tmp_path: Path, guest: FakeGuest) -> int:
    """The exit status of a push of a document with a hostname."""
    document = tmp_path / "doc.yaml"
    document.write_text("instance-id: i-1\nlocal-hostname: web1\n")
    with FakeQemu(tmp_path / "vm1.sock", guest):
        where = ["--state", str(dom0.state), "--socket", str(tmp_path / "vm1.sock")]
        status = main(["push", *where, str(document)])
    dom0.forget_output()
    return status


def with_key(guest: FakeGuest) -> FakeGuest:
    """*guest*, which also reports a host key."""

    def answer(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            guest.apply(message)
            end.send(Result(1, Outcome.APPLIED, [ItemResult("hostname", Outcome.APPLIED)], [ED25519]))
        else:
            guest.pong(message, end)

    guest.answer = answer
    return guest


def test_a_push_puts_names_and_keys_on_record(dom0: Dom0, tmp_path: Path) -> None:
    guest = with_key(FakeGuest())
    assert pushed(dom0, tmp_path, guest) == 0
    assert dom0.run() == 0
    assert dom0.out == [f"web1 {BARE}"]
    assert pushed(dom0, tmp_path, guest) == 0
    assert (dom0.run(), dom0.out) == (0, [f"web1 {BARE}"])


def test_a_ledger_of_the_first_version_is_brought_up_to_date_by_whoever_opens_it(dom0: Dom0) -> None:
    dom0.state.mkdir(mode=0o700)
    db = sqlite3.connect(dom0.state / "ledger.sqlite")
    db.executescript(ledger_schema._STEPS[0])
    db.execute("INSERT INTO vm (key, name, host_keys) VALUES ('vm1', 'vm1', ?)", (json.dumps([ED25519]),))
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    view = View(dom0.state)
    (vm,) = view.all()
    view.close()
    assert (vm["vm"], vm["names"], vm["host-keys"]) == ("vm1", [], [ED25519])
    dom0.settle("vm1", DOCUMENT, [])
    assert dom0.run() == 0
    assert dom0.out == [f"{','.join(NAMES)} {BARE}"]
