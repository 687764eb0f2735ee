# SPDX-License-Identifier: Apache-2.0
"""The parts of a fleet that wait for nothing: its file, its keys, a lease by our own clock, who has which VM, its documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host_agent.channels.endpoint import Domain, Endpoint
from host_agent.channels.whereabouts import Whereabouts
from host_agent.errors import BadFile
from host_agent.fleet import report
from host_agent.fleet.cache import Cache, Text
from host_agent.fleet.config import Fleet, read
from host_agent.fleet.documents import Documents
from host_agent.fleet.layout import Layout
from host_agent.fleet.lease import Lease
from host_agent.fleet.ownership import FORGET_SECONDS, RELEASE_SECONDS, RETRY_SECONDS, Ownership
from host_agent.fleet.push import name_of

UUID = "0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01"
CHANNEL = "org.pvchannel.config.1"


def fleet(tmp_path: Path, text: str) -> Fleet:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    return read(path)


def test_a_fleets_file_says_where_etcd_is_and_names_files_beside_it(tmp_path: Path) -> None:
    files = "ca: ca.pem\ncert: /etc/c.pem\nkey: c.key\nuser: a\npassword-file: pw\n"
    found = fleet(tmp_path, f"endpoints: [https://e1:2379, https://e2:2379]\n{files}dom0: a\n")
    assert found.endpoints == ["https://e1:2379", "https://e2:2379"]
    assert (found.ca, found.cert, found.password_file) == (f"{tmp_path}/ca.pem", "/etc/c.pem", f"{tmp_path}/pw")
    assert (found.prefix, found.dom0, found.lease) == ("/pv-channel/", "a", 15)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("dom0: a", "endpoints"),
        ("[1]", "Expected `object`"),
        ("endpoints: []", "endpoints"),
        ("endpoints: [https://e:2379]\nport: 3", "port"),
        ("endpoints: [https://e]", "expected https://HOST:PORT"),
        ("endpoints: ['https://u:p@e:2379']", "expected https://HOST:PORT"),
        ("endpoints: ['https://e:2379/v3']", "expected https://HOST:PORT"),
        ("endpoints: ['https://e:99999999']", "expected https://HOST:PORT"),
        ("endpoints: ['http://192.0.2.1:2379']", "documents hold secrets"),
        ("endpoints: ['https://e:2379']\ncert: c.pem", "'cert' and 'key' go together"),
        ("endpoints: ['https://e:2379']\nuser: c", "'user' and 'password-file' go together"),
        ("endpoints: ['https://e:2379']\nprefix: nothing", "prefix"),
        ("endpoints: ['https://e:2379']\ndom0: a/b", "no host's name"),
        ("endpoints: ['https://e:2379']\nlease: 1", "lease"),
        ("endpoints: ['https://e:2379'\n", "fleet.yaml:2"),
    ],
)
def test_a_fleets_file_that_cannot_be_used_is_refused_by_line_and_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadFile) as refused:
        fleet(tmp_path, text)
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path}/fleet.yaml")


def test_a_password_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(BadFile, match="others can reach"):
        fleet(tmp_path, "endpoints: [https://e:2379]\ncert: c\nkey: key\n").connect()


def test_what_an_operator_can_write_has_a_name_and_nothing_else_has() -> None:
    layout = Layout("/pv-channel/")
    for name in ("documents/web1", "defaults", "groups/web"):
        assert layout.name(layout.of(name)) == name
    for key in (b"/pv-channel/vms/x", b"/pv-channel/documents/", b"/pv-channel/documents/a/b", b"/other/documents/x", b"\xff",
                b"/pv-channel/documents/a\x1b", b"/pv-channel/documents/" + b"x" * 300):  # fmt: skip
        assert layout.name(key) is None


def test_nothing_is_begun_in_the_last_part_of_a_lease_nor_after_it() -> None:
    lease = Lease(20)
    assert not lease.is_good(0)
    assert lease.renewed(7, 20, asked=100, now=104)
    assert lease.is_good(114.9)
    assert not lease.is_good(115)


def test_a_lease_that_was_not_good_for_a_while_begins_another_spell_and_one_that_was_does_not() -> None:
    lease = Lease(20)
    lease.renewed(7, 20, asked=100, now=100)
    spells = lease.spells
    assert not lease.renewed(7, 20, asked=110, now=110)
    assert lease.spells == spells
    lease.renewed(7, 20, asked=200, now=200)
    assert lease.spells == spells + 1
    assert lease.renewed(8, 20, asked=201, now=201)
    assert lease.spells == spells + 2
    lease.over()
    assert not lease.is_good(202)


def test_a_vm_that_is_here_is_claimed_then_served_and_released_when_it_is_away() -> None:
    ownership = Ownership([], 0)
    ownership.see({"k": "web1"}, 10)
    assert ownership.to_claim(10) == ["k"]
    assert ownership.serving() == {}
    ownership.claimed("k", 5, is_news=False)
    assert ownership.to_claim(10) == []
    assert list(ownership.serving()) == ownership.owned() == ["k"]
    ownership.see({}, 10 + RELEASE_SECONDS)
    assert ownership.to_release() == ["k"]
    ownership.lost("k")
    assert ownership.owned() == []
    assert list(ownership.serving()) == ["k"], "it may only be rebooting"
    assert ownership.to_claim(10 + RELEASE_SECONDS) == [], "another may have it"
    assert ownership.see({}, 10 + FORGET_SECONDS) == ["k"]
    assert ownership.get("k") is None


def test_a_vm_that_another_host_has_is_not_served_and_tried_again() -> None:
    ownership = Ownership(["k"], 0)
    ownership.see({"k": "web1"}, 1)
    assert list(ownership.serving()) == ["k"], "it was ours when etcd was last heard"
    ownership.is_anothers("k", "b", 1)
    assert ownership.serving() == {}
    assert ownership.to_claim(1) == []
    ownership.see({"k": "web1"}, 1 + RETRY_SECONDS)
    assert ownership.to_claim(1 + RETRY_SECONDS) == ["k"]


def test_a_lease_that_is_over_takes_all_tokens_and_stops_no_serving() -> None:
    ownership = Ownership([], 0)
    ownership.see({"k": "web1", "l": "web2"}, 1)
    for key in "kl":
        ownership.claimed(key, 5, is_news=True)
    ownership.lost_all()
    assert ownership.owned() == []
    assert list(ownership.serving()) == ["k", "l"]
    assert ownership.to_claim(1) == ["k", "l"]


def here(*domains: Domain, sockets: tuple[str, ...] = ()) -> Whereabouts:
    named = {name: Endpoint(Path(f"/run/{name}.sock")) for name in sockets}
    return Whereabouts(CHANNEL, [], domains, named, xen=bool(domains))


def documents(**texts: str) -> Documents:
    named = {name.replace("__", "/"): Text(number, text.encode()) for number, (name, text) in enumerate(texts.items(), 1)}
    found = Documents("/pv-channel/", named)
    while found.read_some():
        pass
    return found


PLAIN = "instance-id: i-1\nlocal-hostname: web1\n"


def test_documents_are_for_vms_that_are_here_by_uuid_by_name_or_by_socket() -> None:
    found = documents(
        documents__web1=PLAIN + f"uuid: {UUID}\n", documents__web2=PLAIN, documents__web3=PLAIN, documents__web4=PLAIN,
    )  # fmt: skip
    by_uuid = Domain(7, bytes.fromhex(UUID.replace("-", "")), "called-otherwise")
    by_name = Domain(8, bytes(range(16)), "web2")
    assert found.here(here(by_uuid, by_name, sockets=("web3",))) == {UUID: "web1", "web2": "web2", "web3": "web3"}
    assert found.here(here(Domain(9, bytes(range(16)), "web1"))) == {}, "a document with a uuid is not for a name"


def test_a_document_lies_over_defaults_and_groups_and_changes_with_them() -> None:
    found = documents(
        defaults="timezone: Europe/Vienna\n", groups__web="locale: de_AT.UTF-8\n", documents__web1=PLAIN + "inherit: [web]\n"
    )
    wanted = found.wanted("web1")
    assert (str(wanted.document.timezone), str(wanted.document.locale)) == ("Europe/Vienna", "de_AT.UTF-8")
    before = found.signature("web1")
    found.change({"groups/web": Text(9, b"locale: C.UTF-8\n")})
    assert found.signature("web1") != before
    assert str(found.wanted("web1").document.locale) == "C.UTF-8"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"documents__web1": "local-hostname: 'a b'\ninstance-id: i\n"}, "etcd:/pv-channel/documents/web1:1:17: local-hostname"),
        ({"documents__web1": "\xff["}, "etcd:/pv-channel/documents/web1"),
        ({"documents__web1": PLAIN, "defaults": "timezone: ../x\n"}, "etcd:/pv-channel/defaults:1:11: timezone"),
        ({"documents__web1": PLAIN + "inherit: [web]\n"}, "etcd:/pv-channel/groups/web: there is no such group"),
    ],
)
def test_a_bad_document_is_an_error_that_names_its_key(texts: dict[str, str], words: str) -> None:
    with pytest.raises(BadFile) as refused:
        documents(**texts).wanted("web1")
    assert words in str(refused.value)


def test_a_document_that_turns_bad_is_still_for_its_vm_and_one_that_nobody_has_is_complained_of_once() -> None:
    found = documents(documents__web1=PLAIN + f"uuid: {UUID}\n")
    found.change({"documents/web1": Text(7, b"[")})
    found.read_some()
    assert found.key("web1") == UUID
    assert found.faults() == []
    found.change({"documents/web2": Text(8, b"[")})
    found.read_some()
    assert [fault.startswith("etcd:/pv-channel/documents/web2:") for fault in found.faults()] == [True]
    assert found.faults() == []


def test_of_two_documents_for_one_vm_the_first_counts_and_the_other_is_complained_of() -> None:
    found = documents(documents__a=PLAIN + f"uuid: {UUID}\n", documents__b=PLAIN + f"uuid: {UUID}\n")
    assert found.here(here(Domain(7, bytes.fromhex(UUID.replace("-", "")), "x"))) == {UUID: "a"}
    assert found.faults() == [f"etcd:/pv-channel/documents/b: {UUID} has a document already, a's; cure: remove one"]


def test_a_removed_document_is_nobodys() -> None:
    found = documents(documents__web1=PLAIN)
    assert found.replace({}) == {"documents/web1": None}
    found.read_some()
    assert found.here(here(sockets=("web1",))) == {}
    assert not found.has("web1")


def test_what_was_seen_of_a_fleet_outlives_a_restart_but_not_another_fleet_nor_damage(tmp_path: Path) -> None:
    state = tmp_path / "state"
    cache = Cache(state, "one")
    cache.change({"documents/web1": Text(3, b"a"), "defaults": Text(4, b"b")})
    cache.change({"defaults": None})
    cache.hold("web1")
    cache.leases(77)
    cache.close()
    assert (state / "fleet.sqlite").stat().st_mode & 0o777 == 0o600
    cache = Cache(state, "one")
    assert (cache.texts(), cache.held(), cache.lease()) == ({"documents/web1": Text(3, b"a")}, ["web1"], 77)
    cache.close()
    cache = Cache(state, "another")
    assert (cache.texts(), cache.held(), cache.lease()) == ({}, [], 0)
    cache.close()
    (state / "fleet.sqlite").write_bytes(b"garbage" * 1000)
    cache = Cache(state, "another")
    assert cache.texts() == {}
    cache.close()


@pytest.mark.parametrize(
    ("path", "called", "name"),
    [
        ("/x/web1.yaml", None, "documents/web1"),
        ("/x/defaults.yaml", None, "defaults"),
        ("/x/groups/web.yml", None, "groups/web"),
        ("/x/defaults.yaml", "defaults", "documents/defaults"),
        ("/x/a.b.yaml", None, "documents/a.b"),
    ],
)
def test_a_file_belongs_where_its_place_says(path: str, called: str | None, name: str) -> None:
    assert name_of(Path(path), called) == name


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"vm": 3}', b"\xff", b'{"vm": "' + b"x" * 5000 + b'"}'])
def test_a_report_that_is_none_is_passed_over(data: bytes) -> None:
    assert report.decode(data) is None
    assert report.presence(data) is None


def values(**more: Any) -> dict[str, Any]:
    words = ["vm", "key", "standing", "verdict", "why", "state", "since", "detail", "document-error", "instance-id", "outcome"]
    numbers = ["generation-wanted", "generation-sent", "generation-applied", "milliseconds"]
    rest: dict[str, Any] = {"facts": {"addresses": []}, "items": [], "reason": ""}
    return {**dict.fromkeys(words, "x"), **dict.fromkeys(numbers, 1), **rest, **more}


def test_a_report_says_the_same_at_another_time_and_nothing_of_logs() -> None:
    item = {"item": "users", "outcome": "failed", "reason": "r", "detail": "d", "log": ["a secret"]}
    one, two = (report.of_values(values(items=[item]), "a", now) for now in (1.0, 2.0))
    assert one.same_as(two)
    assert b"secret" not in one.encode()
    assert report.decode(one.encode()) == one
    assert not one.same_as(report.of_values(values(state="y"), "a", 1.0))
