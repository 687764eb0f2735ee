# SPDX-License-Identifier: Apache-2.0
"""A fleet of dom0s as processes, with a real etcd: who provisions what, and what becomes of it when one of all these dies."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.host.fakes import FakeGuest
from tests.real.fleet_stage import LONG, SHORT, TOP, Dom0, Vm, document, eventually
from tests.real.real_etcd import Authority, RealEtcd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: So many VMs race for their owners.
TWINS = 12


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[RealEtcd]:
    with RealEtcd(tmp_path) as etcd:
        yield etcd


def host(tmp_path: Path, etcd: RealEtcd, name: str, lease: int = LONG) -> Dom0:
    return Dom0(tmp_path, name, f"endpoints: [{etcd.endpoint}]\nlease: {lease}\n")


def put(etcd: RealEtcd, name: str, hostname: str) -> None:
    etcd.put(f"/pv-channel/documents/{name}", document(name, hostname))


def test_a_document_in_etcd_becomes_a_guest_and_its_answer_is_there_for_all_with_tls_and_a_password(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("dom0-a")
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("the right one\n")
    with RealEtcd(tmp_path, authority) as etcd, Vm("web1") as vm:
        etcd.demand_passwords("dom0-a", "the right one")
        lines = (
            f"endpoints: ['{etcd.endpoint}']\nca: {authority.ca}\ncert: {certificate}\nkey: {key}\nuser: dom0-a\n"
            f"password-file: {password}\nlease: {LONG}\n"
        )
        etcd.put("/pv-channel/defaults", "timezone: Europe/Vienna\n")
        put(etcd, "web1", "web1")
        with Dom0(tmp_path, "a", lines) as dom0:
            vm.at(dom0)
            eventually(lambda: vm.became == [(1, "web1")], lambda: dom0.text)
            assert str(vm.guest.applied[0].timezone) == "Europe/Vienna"
            put(etcd, "web1", "web2")
            eventually(lambda: vm.became == [(1, "web1"), (2, "web2")], lambda: dom0.text)
            waited = dom0.says("wait", "web1")
            assert waited.returncode == 0, waited.stderr
            assert dom0.doctor("web1") == {}
            etcd.put("/pv-channel/documents/web1", document("web1", "'web2; reboot'"))
            eventually(lambda: dom0.vm("web1").get("document-error"), "the error")
            assert "etcd:/pv-channel/documents/web1:2:17: local-hostname" in dom0.vm("web1")["document-error"]
            waited = dom0.says("wait", "web1")
            assert waited.returncode == 1
            assert "local-hostname" in waited.stdout
            assert vm.became == [(1, "web1"), (2, "web2")]
            assert dom0.doctor("web1").keys() == {"bad-document-in-etcd"}
            password.write_text("a wrong one\n")
            refused = dom0.says("status")
            assert refused.returncode == 1
            assert "does not take the password of its user dom0-a" in refused.stderr
            assert "wrong one" not in refused.stderr + dom0.text


def test_of_two_dom0s_that_have_the_same_vms_only_one_provisions_each(tmp_path: Path, etcd: RealEtcd) -> None:
    for number in range(TWINS):
        put(etcd, f"vm{number}", f"web{number}")
    originals = [Vm(f"vm{number}") for number in range(TWINS)]
    clones = [Vm(vm.name, FakeGuest(key=vm.guest.key)) for vm in originals]
    a, b = host(tmp_path, etcd, "a"), host(tmp_path, etcd, "b")
    try:
        for dom0, vms in ((a, originals), (b, clones)):
            for vm in vms:
                vm.at(dom0)
        with a, b:
            pairs = list(zip(originals, clones, strict=True))
            eventually(lambda: all(one.became or other.became for one, other in pairs), lambda: a.text + b.text)
            eventually(lambda: all(vm["standing"] == "ready" for vm in a.status()["vms"]), "every VM is told of")
            put(etcd, "vm0", "another")
            eventually(lambda: sum(len(vm.became) for vm in (originals[0], clones[0])) == 2, "the owner provisions on")
            for one, other in pairs:
                assert not (one.became and other.became), f"{one.name} was provisioned twice"
            owners = {vm["vm"]: vm["dom0"] for vm in b.status()["vms"]}
            assert owners == {one.name: "a" if one.became else "b" for one, _ in pairs}
    finally:
        for vm in (*originals, *clones):
            vm.leave()


def test_a_vm_that_migrates_is_known_where_it_comes_to_by_its_key_and_generation(tmp_path: Path, etcd: RealEtcd) -> None:
    put(etcd, "web1", "web1")
    a, b = host(tmp_path, etcd, "a"), host(tmp_path, etcd, "b")
    with a, b, Vm("web1") as vm:
        vm.at(a)
        eventually(lambda: a.has("web1", verdict="ready"), lambda: a.text)
        vm.at(b)
        eventually(lambda: b.has("web1", verdict="ready"), lambda: b.text)
        assert vm.became == [(1, "web1")]
        assert b.vm("web1")["guest-key"] == a.vm("web1")["guest-key"] != ""
        assert "met for the first time" not in b.text
        put(etcd, "web1", "web2")
        eventually(lambda: vm.became == [(1, "web1"), (2, "web2")], lambda: b.text)
        eventually(lambda: etcd.value("/pv-channel/vms/web1").count('"generation-applied":2'), "b tells of it")
        with Vm("web1", FakeGuest()) as impostor:
            vm.leave()
            impostor.at(a)
            eventually(lambda: '"standing":"key-changed"' in etcd.value("/pv-channel/vms/web1"), lambda: a.text)
            assert impostor.became == []
            impostor.leave()
        vm.at(b)
        eventually(lambda: b.has("web1", state="key-changed"), lambda: f"a quarrel over a key goes along: {b.text}")
        assert vm.became == [(1, "web1"), (2, "web2")]


def test_when_a_dom0_dies_its_vm_is_taken_over_where_it_runs_next_and_the_fleet_shows_both(
    tmp_path: Path, etcd: RealEtcd
) -> None:
    put(etcd, "web1", "web1")
    put(etcd, "web2", "web2")
    a, b = host(tmp_path, etcd, "a", SHORT), host(tmp_path, etcd, "b", SHORT)
    with a, b, Vm("web1") as vm, Vm("web2") as stays:
        vm.at(a)
        stays.at(a)
        eventually(lambda: all(each["standing"] == "ready" for each in b.status()["vms"]), lambda: a.text)
        a.kill()
        vm.at(b)
        put(etcd, "web1", "web1-at-b")
        eventually(lambda: vm.became == [(1, "web1"), (2, "web1-at-b")], lambda: b.text)
        assert b.says("wait", "web1").returncode == 0
        lost = ("nowhere", "no dom0 serves it now; it was ready at dom0 a", False)

        def is_shown() -> bool:
            status = b.status()
            seen = {each["vm"]: (each["standing"], each["why"], each["live"]) for each in status["vms"]}
            return seen == {"web1": ("ready", "", True), "web2": lost} and [each["dom0"] for each in status["dom0s"]] == ["b"]

        eventually(is_shown, lambda: str(b.status()))
        assert stays.became == [(1, "web2")]


def test_a_dom0_that_hung_until_its_lease_was_over_sends_nothing_to_a_vm_that_is_anothers(tmp_path: Path, etcd: RealEtcd) -> None:
    put(etcd, "web1", "web1")
    a, b = host(tmp_path, etcd, "a", 2 * SHORT), host(tmp_path, etcd, "b", LONG)
    with a, b, Vm("web1") as vm, Vm("web1", FakeGuest(key=vm.guest.key)) as clone:
        vm.at(a)
        eventually(lambda: a.has("web1", verdict="ready"), lambda: a.text)
        a.freeze()
        clone.guest.hello = vm.guest.hello
        clone.at(b)
        eventually(lambda: b.has("web1", verdict="ready"), lambda: b.text)
        put(etcd, "web1", "web2")
        eventually(lambda: clone.became == [(2, "web2")], lambda: b.text)
        a.thaw()
        eventually(lambda: "dom0 b provisions it" in a.text, lambda: a.text)
        assert "dom0 b provisions the VM" in a.doctor("web1")["another-owner"]
        put(etcd, "web1", "web3")
        eventually(lambda: clone.became == [(2, "web2"), (3, "web3")], lambda: b.text)
        assert vm.became == [(1, "web1")]


def test_without_etcd_what_runs_goes_on_and_when_it_is_back_nothing_is_applied_twice(tmp_path: Path, etcd: RealEtcd) -> None:
    put(etcd, "web1", "web1")
    with host(tmp_path, etcd, "a", SHORT) as a, Vm("web1") as vm:
        vm.at(a)
        eventually(lambda: a.has("web1", verdict="ready"), lambda: a.text)
        assert vm.qemu is not None
        met, pinged = len(vm.guest.opened), vm.guest.pinged
        etcd.kill()
        eventually(lambda: vm.guest.pinged > pinged, "it is asked whether it is there")
        eventually(lambda: "etcd cannot be reached" in a.text, lambda: a.text)
        time.sleep(SHORT)  # whatever it asked for before, its lease is over by now
        asked_again = [sys.executable, "-m", "host_agent", "reprovision", "web1", "--state", str(a.state)]
        subprocess.run(asked_again, cwd=TOP, check=True, capture_output=True)
        eventually(lambda: "withheld" in a.vm("web1")["detail"], lambda: a.text)
        assert len(vm.guest.opened) == met, "its session has gone on"
        found = a.doctor("web1")
        assert "no-etcd" in found
        assert "no-document-in-etcd" not in found, "it was seen"
        refused = a.says("status", "--timeout", "5")
        assert refused.returncode == 1
        assert "etcd" in refused.stderr
        a.stop()
        a.start()
        eventually(lambda: len(vm.guest.opened) > met, lambda: a.text)
        eventually(lambda: "withheld" in a.vm("web1")["detail"], lambda: a.text)
        assert vm.became == [(1, "web1")]
        etcd.start()
        eventually(lambda: vm.became == [(1, "web1"), (2, "web1")], lambda: a.text)
        put(etcd, "web1", "web2")
        eventually(lambda: vm.became == [(1, "web1"), (2, "web1"), (3, "web2")], lambda: a.text)
        assert a.says("wait", "--all").returncode == 0
        assert vm.qemu.accepted == 2


def test_what_is_pushed_into_a_fleet_is_checked_and_never_written_over_what_somebody_else_wrote(
    tmp_path: Path, etcd: RealEtcd
) -> None:
    a = host(tmp_path, etcd, "a")
    groups = tmp_path / "groups"
    groups.mkdir()
    (groups / "web.yaml").write_text("timezone: Europe/Vienna\n")
    file, bad = tmp_path / "web1.yaml", tmp_path / "web2.yaml"
    file.write_text(document("web1", "web1") + "inherit: [web]\n")
    bad.write_text(document("web2", "'no host'"))
    missing = a.says("push", str(file))
    assert missing.returncode == 1
    assert "groups/web: there is no such group" in missing.stderr
    assert a.says("push", str(groups / "web.yaml"), str(file)).stdout.count("written") == 2
    assert a.says("push", str(file)).stdout.count("unchanged") == 1
    refused = a.says("push", str(bad))
    assert refused.returncode == 1
    assert f"{bad}:2:17: local-hostname" in refused.stderr
    assert etcd.value("/pv-channel/documents/web2") == ""
    file.write_text(document("web1", "web1") + "inherit: [web]\nntp: {enabled: true}\n")
    assert a.says("push", str(file)).returncode == 0
    (groups / "web.yaml").write_text("ntp: 3\n")
    assert a.says("push", str(groups / "web.yaml")).returncode == 1
    nobody = a.says("wait", "web1", "--timeout", "1", "--quiet")
    assert nobody.returncode == 2
    assert "no dom0 has said yet that it runs there" in nobody.stdout


def test_a_document_that_is_removed_from_a_fleet_leaves_its_vm_as_it_is_and_alone(tmp_path: Path, etcd: RealEtcd) -> None:
    put(etcd, "web1", "web1")
    with host(tmp_path, etcd, "a") as a, Vm("web1") as vm:
        vm.at(a)
        eventually(lambda: a.has("web1", verdict="ready"), lambda: a.text)
        removed = a.says("remove", "web1", "web9")
        assert removed.returncode == 0, removed.stderr
        assert removed.stdout == "/pv-channel/documents/web1: removed\n/pv-channel/documents/web9: was not there\n"
        eventually(lambda: a.has("web1", state="removed"), lambda: a.text)
        eventually(lambda: etcd.value("/pv-channel/owners/web1") == "", "another dom0 may have it")
        assert vm.became == [(1, "web1")]
        assert json.loads(a.says("remove", "web1", "--json").stdout) == [
            {"key": "/pv-channel/documents/web1", "removed": False}
        ]
        assert a.says("remove", "groups/web").returncode == 1
        put(etcd, "web1", "web2")
        eventually(lambda: vm.became == [(1, "web1"), (2, "web2")], lambda: a.text)
