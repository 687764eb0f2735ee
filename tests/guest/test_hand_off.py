# SPDX-License-Identifier: Apache-2.0
"""Documents and user-data for cloud-init: the seed, what it has no words for, and what is believed of its results."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from guest_agent import cloud_config
from guest_agent.cloud_init import META_DATA, NETWORK_CONFIG, USER_DATA, VENDOR_DATA
from guest_agent.failure import ItemError
from guest_agent.late import news
from guest_agent.provision import Provisioner
from guest_agent.state import Store
from pv_channel.document import Document, parse
from pv_channel.messages import ItemResult, Outcome, Result
from tests.guest.machine import MAC, VERSION, Machine, document, key, network, no_progress
from tests.protocol.ssh_keys import armoured, certificate, pem

if TYPE_CHECKING:
    from pathlib import Path

#: When the seed was written, by the clock of these tests.
HANDED = 1_700_000_000
WANTS = "etc/systemd/system/cloud-init.target.wants"
HASH = "$6$saltsalt$" + "a" * 86


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with cloud-init, whose services are enabled."""
    made = Machine(tmp_path)
    made.write("usr/bin/cloud-init")
    made.write(f"{WANTS}/cloud-init-local.service")
    made.directory("var/lib/cloud/seed")
    return made


def give(machine: Machine, raw: bytes, *, hand_off: bool = True) -> Result:
    """The agent's answer."""
    result = Provisioner(machine.system, VERSION, hand_off=hand_off).provision(raw, None, no_progress)
    if os.path.lexists(machine.root / META_DATA.lstrip("/")):
        os.utime(machine.root / META_DATA.lstrip("/"), (HANDED, HANDED))
    return result


def the_item(result: Result) -> ItemResult:
    """The one of user-data or cloud-init."""
    return next(item for item in result.items if item.item in ("user-data", "cloud-init"))


def ran(machine: Machine, *, started: float = HANDED + 5, instance: str = "i-1", **result: Any) -> None:
    """cloud-init has, and left this."""
    machine.write("run/cloud-init/status.json", json.dumps({"v1": {"init-local": {"start": started}, "stage": None}}).encode())
    ended = {"datasource": "DataSourceNoCloud [seed=/var/lib/cloud/seed/nocloud][dsmode=net]", "errors": []} | result
    machine.write("run/cloud-init/result.json", json.dumps({"v1": ended}).encode())
    machine.write("var/lib/cloud/data/instance-id", f"{instance}\n".encode())
    machine.directory(f"var/lib/cloud/instances/{instance}")


def told(machine: Machine) -> list[ItemResult]:
    """What is news to the host."""
    state = Store(machine.system).state()
    assert state is not None
    return news(machine.system, state)


def seeded(machine: Machine, path: str) -> Any:
    """What a file of the seed says."""
    return json.loads(machine.read(path.lstrip("/")).removeprefix("#cloud-config\n"))


def test_the_whole_document_is_one_item_and_a_private_seed(machine: Machine) -> None:
    before = machine.snapshot()
    result = give(machine, document(local_hostname="web1", fqdn="web1.example.org", timezone="Europe/Vienna"))
    assert [(item.item, item.outcome) for item in result.items] == [("cloud-init", Outcome.PENDING)]
    assert machine.snapshot() == before, "cloud-init does the rest"
    assert seeded(machine, META_DATA) == {"instance-id": "i-1", "local-hostname": "web1.example.org"}
    assert seeded(machine, NETWORK_CONFIG) == {"config": "disabled"}
    made = seeded(machine, VENDOR_DATA)
    assert (made["hostname"], made["fqdn"], made["timezone"]) == ("web1", "web1.example.org", "Europe/Vienna")
    for path in (META_DATA, USER_DATA, VENDOR_DATA, NETWORK_CONFIG):
        assert (machine.root / path.lstrip("/")).stat().st_mode & 0o777 == 0o600


def test_no_secret_of_the_seed_is_shown(machine: Machine) -> None:
    raw = document(users=[{"name": "eve", "hashed_passwd": HASH}], user_data="#!/bin/sh\necho SECRET\n")
    planned = Provisioner(machine.system, VERSION, hand_off=True).plan(raw, None)
    shown = str((planned, give(machine, raw)))
    assert HASH not in shown
    assert "SECRET" not in shown
    assert USER_DATA in shown


@pytest.mark.parametrize("why", ["removed", "file", "kernel", "links"])
def test_without_an_enabled_cloud_init_documents_are_refused_and_scripts_are_our_own_affair(machine: Machine, why: str) -> None:
    match why:
        case "removed":
            machine.remove("usr/bin/cloud-init")
        case "file":
            machine.write("etc/cloud/cloud-init.disabled")
        case "kernel":
            machine.write("proc/cmdline", b"root=/dev/xvda cloud-init=disabled quiet\n")
        case _:
            machine.remove(f"{WANTS}/cloud-init-local.service")
    assert the_item(give(machine, document(local_hostname="web1"))).reason == "needs-cloud-init"
    machine.write("etc/systemd/system/pv-user-data.service")
    item = the_item(give(machine, document(user_data="#!/bin/sh\n"), hand_off=False))
    assert item.detail.endswith("to run when the network is there")


@pytest.mark.parametrize(
    ("last", "reason"),
    [("datasource_list: [ NoCloud, None ]", None), ("datasource_list: [ Ec2 ]", "needs-cloud-init"), ("", None)],
)
def test_a_list_of_sources_without_the_seeds_is_named(machine: Machine, last: str, reason: str | None) -> None:
    machine.write("etc/cloud/cloud.cfg", b"datasource_list: [ Ec2 ]\n" if last else b"users: []\n")
    machine.write("etc/cloud/cloud.cfg.d/90_dpkg.cfg", b"# nothing\n")
    if last:
        machine.write("etc/cloud/cloud.cfg.d/95.cfg", f"{last}\n".encode())
    item = the_item(give(machine, document(local_hostname="web1")))
    assert (item.outcome, item.reason) == ((Outcome.FAILED, reason) if reason else (Outcome.PENDING, msgspec.UNSET))


def test_somebody_elses_seed_is_a_conflict(machine: Machine) -> None:
    machine.write(USER_DATA.lstrip("/"), b"#cloud-config\n{}\n")
    item = the_item(give(machine, document(local_hostname="web1")))
    assert (item.reason, USER_DATA in item.detail) == ("conflict", True)
    assert machine.read(USER_DATA.lstrip("/")) == "#cloud-config\n{}\n"


def test_whether_it_comes_in_this_boot_or_in_the_next_is_said(machine: Machine) -> None:
    machine.write("run/cloud-init/enabled")
    assert the_item(give(machine, document(local_hostname="web1"))).detail == "handed to cloud-init, in this boot"
    machine.write("run/cloud-init/status.json")
    item = the_item(give(machine, document(2, local_hostname="web2")))
    assert item.detail == "handed to cloud-init, from the next boot on"


def test_its_result_is_believed_when_it_is_of_a_start_after_the_seed_and_of_this_instance(machine: Machine) -> None:
    give(machine, document(local_hostname="web1"))
    assert told(machine) == []
    ran(machine, started=HANDED - 60)
    assert told(machine) == []
    ran(machine, instance="i-0")
    assert told(machine) == []
    ran(machine)
    (item,) = told(machine)
    assert (item.item, item.outcome, "NoCloud" in item.detail) == ("cloud-init", Outcome.APPLIED, True)


def test_its_errors_are_the_log_of_a_failure(machine: Machine) -> None:
    give(machine, document(local_hostname="web1"))
    ran(machine, errors=["('ssh', Error('a'))", "('users', Error('b\x1b[31m'))"])
    (item,) = told(machine)
    assert (item.outcome, item.reason, item.detail) == (Outcome.FAILED, "command-failed", "cloud-init ended with 2 errors")
    assert item.log == ["('ssh', Error('a'))", "('users', Error('b\\x1b[31m'))"]


def test_another_data_source_than_the_seed_is_a_failure(machine: Machine) -> None:
    give(machine, document(local_hostname="web1"))
    ran(machine, datasource="DataSourceNone")
    assert [(item.outcome, item.reason) for item in told(machine)] == [(Outcome.FAILED, "not-in-force")]


def test_a_later_boot_that_went_without_it_is_a_failure_and_this_one_is_not(machine: Machine) -> None:
    give(machine, document(local_hostname="web1"))
    marker = machine.write("run/cloud-init/disabled")
    os.utime(marker, (HANDED - 60, HANDED - 60))
    assert told(machine) == []
    os.utime(marker, (HANDED + 60, HANDED + 60))
    assert [(item.outcome, item.reason) for item in told(machine)] == [(Outcome.FAILED, "needs-cloud-init")]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"v1": 1}', b'{"v1": {"init-local": {"start": "x"}}}', b"\xff", b'{"v1": {}}']
)
def test_damaged_results_are_no_news(machine: Machine, damage: bytes) -> None:
    give(machine, document(local_hostname="web1"))
    ran(machine)
    machine.write("run/cloud-init/status.json", damage)
    assert told(machine) == []
    ran(machine)
    machine.write("run/cloud-init/result.json", damage)
    assert all(item.outcome is Outcome.FAILED for item in told(machine))


def test_a_later_generation_of_what_it_has_configured_is_refused_with_the_cure(machine: Machine) -> None:
    give(machine, document(local_hostname="web1"))
    ran(machine)
    item = the_item(give(machine, document(2, local_hostname="web2")))
    assert (item.outcome, item.reason, "another instance-id" in item.detail) == (Outcome.FAILED, "not-supported", True)
    assert seeded(machine, META_DATA)["local-hostname"] == "web1"
    assert the_item(give(machine, document(2, local_hostname="web1"))).outcome is Outcome.UNCHANGED
    assert the_item(give(machine, document(1, "i-2", local_hostname="web2"))).outcome is Outcome.PENDING


def test_user_data_alone_comes_with_word_that_nothing_else_is_asked(machine: Machine) -> None:
    machine.write("etc/ssh/ssh_host_ed25519_key", b"key", 0o600)
    result = give(machine, document(local_hostname="web1", user_data="#cloud-config\n{}\n"), hand_off=False)
    assert (the_item(result).item, the_item(result).outcome) == ("user-data", Outcome.PENDING)
    assert machine.read("etc/hostname") == "web1\n"
    made = seeded(machine, VENDOR_DATA)
    assert made == cloud_config.NOTHING | {"ssh_genkeytypes": ["ed25519", "ecdsa"]}
    assert seeded(machine, NETWORK_CONFIG) == {"config": "disabled"}
    ran(machine)
    assert [(item.item, item.outcome) for item in told(machine)] == [("user-data", Outcome.APPLIED)]
    item = the_item(give(machine, document(2, user_data="#!/bin/sh\nother\n"), hand_off=False))
    assert (item.outcome, "does not do again" in item.detail) == (Outcome.APPLIED, True)
    assert the_item(give(machine, document(3, user_data=""), hand_off=False)).detail == "none"
    assert list((machine.root / USER_DATA.lstrip("/")).parent.iterdir()) == []


def test_scripts_do_not_wait_for_a_boot_that_may_never_come_and_what_only_cloud_init_can_do_does(machine: Machine) -> None:
    """cloud-init is enabled, and the generator found nothing for it to do in this boot."""
    machine.write("run/cloud-init/disabled")
    machine.write("etc/systemd/system/pv-user-data.service")
    item = the_item(give(machine, document(user_data="#!/bin/sh\n"), hand_off=False))
    assert item.detail.endswith("to run when the network is there")
    item = the_item(give(machine, document(1, "i-2", user_data="#cloud-config\n{}\n"), hand_off=False))
    assert item.detail == "handed to cloud-init, from the next boot on"


#: Each field that is handed over, and one word of what becomes of it.
SAID = {
    "local_hostname": ("web1", "hostname"),
    "fqdn": ("web1.example.org", "fqdn"),
    "timezone": ("UTC", "timezone"),
    "locale": ("C.UTF-8", "locale"),
    "ntp": ({"servers": ["10.0.0.1"]}, "10.0.0.1"),
    "groups": (["deploy"], "deploy"),
    "users": ([{"name": "eve"}], "eve"),
    "ssh_authorized_keys": ([key(1)], "ssh_authorized_keys"),
    "ssh_deletekeys": (False, "ssh_deletekeys"),
    "ssh_genkeytypes": (["ed25519"], "ed25519"),
    "ssh_pwauth": (True, "ssh_pwauth"),
    "write_files": ([{"path": "/etc/x", "content": "X", "owner": "eve:eve"}], "defer"),
    "resize_rootfs": (True, "auto"),
}
#: What is not in the configuration itself: the seed's other files have it, or it is the agents' own affair.
ELSEWHERE = {"instance_id", "generation", "uuid", "host_trust", "network", "user_data", "overwrite", "confirm"}
#: What the tests below are about.
APART = {"ssh_keys", "ca_certs", "ssh_trusted_user_ca_keys"}


def test_every_field_of_a_document_is_accounted_for() -> None:
    assert set(Document.__struct_fields__) == set(SAID) | ELSEWHERE | APART


def config(**fields: Any) -> dict[str, Any]:
    """A document in cloud-init's words, on a machine with root alone."""
    return dict(cloud_config.config(parse(document(**fields)), "root".__eq__))


@pytest.mark.parametrize("field", SAID)
def test_each_field_is_in_cloud_inits_words(field: str) -> None:
    value, word = SAID[field]
    made = config(**{field: value})
    assert word in json.dumps(made)
    assert made != config()


@pytest.mark.parametrize(
    "fields",
    [
        {"ntp": {"enabled": False}},
        {"users": [{"name": "eve", "absent": True}]},
        {"write_files": [{"path": "/etc/x", "absent": True}]},
        {"ssh_trusted_user_ca_keys": [key(1)]},
    ],
)
def test_what_cloud_init_has_no_word_for_is_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ItemError, match="not-supported: cloud-init has no word for"):
        config(**fields)


def test_authorities_and_host_keys_come_as_they_are() -> None:
    assert config(ca_certs={"trusted": [pem()]})["ca_certs"] == {"trusted": [pem()]}
    assert "ca_certs" not in config(ca_certs={})
    private = armoured("ed25519")
    assert config(ssh_keys={"ed25519_private": private})["ssh_keys"] == {"ed25519_private": private}
    with pytest.raises(ItemError, match="ssh_genkeytypes beside ssh_keys"):
        config(ssh_keys={"ed25519_private": private}, ssh_genkeytypes=["rsa"])
    line = certificate("ed25519")
    with pytest.raises(ItemError, match="ed25519_certificate without its private key"):
        config(ssh_keys={"ed25519_certificate": line})
    assert config(ssh_keys={"ed25519_private": private, "ed25519_certificate": line})["ssh_keys"]["ed25519_certificate"] == line


def test_a_password_that_is_there_or_comes_is_not_locked_and_no_password_is() -> None:
    users = [{"name": "root"}, {"name": "eve"}, {"name": "bob", "hashed_passwd": HASH}, {"name": "amy", "lock_passwd": True}]
    made = {user["name"]: user.get("lock_passwd") for user in config(users=users)["users"]}
    assert made == {"root": False, "eve": None, "bob": False, "amy": True}


def test_roots_keys_are_roots_and_come_without_a_forced_command() -> None:
    made = config(ssh_authorized_keys=[key(1)])
    assert made["users"] == [{"name": "root", "lock_passwd": False, "ssh_authorized_keys": [key(1)]}]
    assert made["disable_root"] is False
    assert "ssh_authorized_keys" not in made


def test_the_network_is_version_2_as_it_came() -> None:
    asked = network(lan={"match": {"macaddress": MAC}, "addresses": ["10.0.0.5/24"], "gateway4": "10.0.0.1"})
    assert cloud_config.network(parse(document(network=asked))) == asked
