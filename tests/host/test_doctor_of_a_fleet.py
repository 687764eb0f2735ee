# SPDX-License-Identifier: Apache-2.0
"""Where documents come from a fleet, doctor looks at etcd, or what was last seen of it, and names the dom0 or key at fault."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from host_agent.__main__ import main
from host_agent.doctor import of_fleet
from host_agent.doctor.evidence import FleetFile
from host_agent.doctor.report import nothing_wrong, text_of
from host_agent.fleet import cache
from host_agent.fleet.cache import Cache, Text
from host_agent.fleet.config import Fleet
from host_agent.verbs import options
from tests.host.fake_etcd import FakeEtcd, Stands
from tests.host.patient import DOMID, UUID, Patient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PREFIX, LEASE = "/pv-channel/", 77
DOCUMENT = f"instance-id: i-1\nlocal-hostname: web1\nuuid: {UUID}\n"


class Member:
    """The dom0 *web1* as dom0 'a' of a fleet, in good health: its documents are in *etcd*, and nowhere else."""

    def __init__(self, web1: Patient, etcd: FakeEtcd) -> None:
        self.web1, self.etcd = web1, etcd
        (web1.documents / "web1.yaml").unlink()
        web1.documents.rmdir()
        self.put("documents/web1", DOCUMENT)
        self.put("dom0s/a", '{"dom0":"a"}', LEASE)
        self.put(f"owners/{UUID}", '{"dom0":"a"}', LEASE)
        self.file = web1.work / "fleet.yaml"
        self.file.write_text(f"endpoints: ['{etcd.endpoint}']\ndom0: a\n")
        self.fleet(etcd.endpoint)

    def put(self, name: str, value: str, lease: int = 0) -> None:
        self.etcd.keys[PREFIX + name] = Stands(value, lease)

    def remove(self, name: str) -> None:
        del self.etcd.keys[PREFIX + name]

    def fleet(self, endpoint: str) -> Fleet:
        """etcd is there now, as far as this host knows; with what the service remembers of it."""
        fleet = Fleet([endpoint], dom0="a")
        self.web1.where = self.web1.where._replace(fleet=FleetFile(self.file, fleet))
        self.remember({"documents/web1": Text(2, DOCUMENT.encode())}, fleet.memory)
        return fleet

    def remember(self, texts: dict[str, Text], fleet: str) -> None:
        memory = Cache(self.web1.state, fleet)
        memory.leases(LEASE)
        memory.replace(texts)
        memory.close()

    def forget(self) -> None:
        for file in self.web1.state.glob(f"{cache.FILE_NAME}*"):
            file.unlink()


@pytest.fixture
def a(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Member]:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    with FakeEtcd() as etcd, Patient(tmp_path) as web1:
        yield Member(web1, etcd)


def no_etcd(a: Member) -> str:
    a.fleet("http://127.0.0.1:1")
    return "etcd cannot be reached"


def lease_lost(a: Member) -> str:
    a.remove("dom0s/a")
    a.remove(f"owners/{UUID}")
    return "etcd:/pv-channel/dom0s/a is not there"


def name_taken(a: Member) -> str:
    a.put("dom0s/a", '{"dom0":"a"}', LEASE + 1)
    return "etcd:/pv-channel/dom0s/a is there, and not under"


def bad_document_in_etcd(a: Member) -> str:
    a.put("documents/web1", DOCUMENT.replace("web1", "'not a name'"))
    return "etcd:/pv-channel/documents/web1:2:17: local-hostname"


def no_document_in_etcd(a: Member) -> str:
    a.remove("documents/web1")
    return "nothing below etcd:/pv-channel/documents/ is for the VM"


def another_owner(a: Member) -> str:
    a.put(f"owners/{UUID}", '{"dom0":"b"}', LEASE + 1)
    return f"etcd:/pv-channel/owners/{UUID} has b"


def not_claimed(a: Member) -> str:
    a.remove(f"owners/{UUID}")
    return f"etcd:/pv-channel/owners/{UUID} is not there"


PROVOKED: Final[dict[str, Callable[[Member], str]]] = {
    provoke.__name__.replace("_", "-"): provoke
    for provoke in (no_etcd, lease_lost, name_taken, bad_document_in_etcd, no_document_in_etcd, another_owner, not_claimed)
}


def test_a_dom0_of_a_fleet_in_good_health_has_nothing_wrong_and_needs_no_directory_of_documents(a: Member) -> None:
    assert text_of(a.web1.findings()) == ""
    assert "its part in the fleet as dom0 a" in nothing_wrong(a.web1.evidence())


@pytest.mark.parametrize("name", PROVOKED)
def test_what_is_wrong_is_found_and_nothing_else(a: Member, name: str) -> None:
    shows = PROVOKED[name](a)
    found = a.web1.findings()
    assert [each.name for each in found] == [name], text_of(found)
    assert shows in found[0].evidence[0]
    assert "{" not in found[0].cure


def test_no_diagnosis_of_a_fleet_is_without_a_test_that_provokes_it() -> None:
    assert {each.name for each in (*of_fleet.OF_HOST, *of_fleet.OF_VM)} == PROVOKED.keys()


def test_another_dom0_that_has_the_vm_is_named_with_why_nobody_is_connected(a: Member) -> None:
    another_owner(a)
    a.web1.disconnect()
    (found,) = a.web1.findings()
    assert found.verdict == "dom0 b provisions the VM, so this host, dom0 a, does not"
    assert "on dom0 b (" in found.cure
    assert found.explains == ("not-connected",)


def test_a_vm_that_runs_on_another_dom0_is_off_here_and_that_dom0_is_named(a: Member) -> None:
    another_owner(a)
    a.web1.xen.destroy(DOMID)
    (found,) = a.web1.findings()
    assert found.name == "domain-not-running"
    assert found.evidence[1] == "in the fleet dom0 b has it"


def test_a_group_that_is_at_fault_is_named_by_its_key(a: Member) -> None:
    a.put("documents/web1", f"{DOCUMENT}inherit: [web]\n")
    a.put("groups/web", "timezone: 3\n")
    (found,) = a.web1.findings()
    assert found.name == "bad-document-in-etcd"
    assert "etcd:/pv-channel/groups/web:1:11: timezone" in found.evidence[0]


def test_without_etcd_the_documents_that_were_last_seen_are_looked_at(a: Member) -> None:
    fleet = a.fleet("http://127.0.0.1:1")
    assert "the documents that were last seen, 1:" in a.web1.findings()[0].evidence[1]
    a.remember({"documents/web1": Text(3, b"local-hostname: 'no name'\n")}, fleet.memory)
    a.web1.vm = None
    found = {each.name: each for each in a.web1.findings()}
    assert found["bad-document-in-etcd"].evidence[0].startswith("etcd:/pv-channel/documents/web1:1:17: local-hostname")
    a.remember({}, fleet.memory)
    assert "as it was last seen" in {each.name: each for each in a.web1.findings()}["no-document-in-etcd"].evidence[0]


@pytest.mark.parametrize("memory", ["none", "another fleet's", "damaged"])
def test_without_etcd_and_memory_no_vm_is_said_to_lack_a_document(a: Member, memory: str) -> None:
    a.fleet("http://127.0.0.1:1")
    a.forget()
    if memory == "another fleet's":
        a.remember({}, "/another/ a")
    elif memory == "damaged":
        (a.web1.state / cache.FILE_NAME).write_bytes(b"not a database at all" * 1000)
    (found,) = a.web1.findings()
    assert found.name == "no-etcd"
    assert found.evidence[1].endswith("has none of this fleet's documents either, so nothing is known of them")


def test_looking_leaves_memory_and_etcd_as_they_were(a: Member) -> None:
    before = (a.web1.state / cache.FILE_NAME).read_bytes()
    a.web1.findings()
    assert (a.web1.state / cache.FILE_NAME).read_bytes() == before
    assert set(a.etcd.asked) == {"/v3/kv/range"}
    a.forget()
    a.web1.findings()
    assert not (a.web1.state / cache.FILE_NAME).exists()


def test_the_verb_takes_the_fleet_that_is_named_else_the_hosts_own_and_says_so(
    a: Member, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(a.web1.xen.path))
    words = ["doctor", "web1", "--json", "--state", str(a.web1.state), "--sockets", str(a.web1.sockets)]
    assert main([*words, "--fleet", str(a.file)]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["documents"] == "etcd:/pv-channel/documents/"
    assert said.err == ""
    monkeypatch.setattr(options, "FLEET", a.file)
    assert main(words) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["documents"] == "etcd:/pv-channel/documents/"
    assert said.err == f"documents are taken from the fleet of {a.file}; where they are in a directory: --documents DIR\n"
    assert main([*words, "--documents", str(a.web1.documents)]) == 1
    said = capsys.readouterr()
    assert [each["name"] for each in json.loads(said.out)["findings"]] == ["documents-directory"]
    assert said.err == ""
    a.file.write_text("endpoints: []\n")
    assert main([*words, "--fleet", str(a.file)]) == 1
    assert f"{a.file}:1" in capsys.readouterr().err
