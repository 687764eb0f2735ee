# SPDX-License-Identifier: Apache-2.0
"""A VM's place in the ledger moves to another host with it: the same key, nothing applied twice, nothing taken on trust."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.ledger import entry as ledger_entry
from host_agent.ledger import travel as ledger_travel
from host_agent.ledger.entry import BadEntry, Entry
from host_agent.ledger.known import Called
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.standing import State
from host_agent.ledger.travel import Manner, NotMet, Refused
from host_agent.qemu.vmstate_stream import MAX_STATE_BYTES
from host_agent.views.status import View
from pv_channel.messages import MAX_ITEMS, Facts, ItemResult, Outcome, Result
from pv_channel.trust import fingerprint
from tests.host.talk import Talk, wanted

if TYPE_CHECKING:
    from pathlib import Path

KEY = "5f2b7c1e-9a40-4c5e-8d11-0c6f2a7d2e01"
GUEST, RIVAL, OTHER = b"g" * 32, b"r" * 32, b"o" * 32
DIGEST = "0123456789abcdef0123456789abcdef"
HOSTNAME = ItemResult("hostname", Outcome.APPLIED)
NETWORK = ItemResult("network", Outcome.FAILED, "no-manager", "none is running", ["a log's", "", "two lines"])
FACTS = Facts("Debian", "6.1", "web1", "boot", ["192.0.2.10/24"], ["ssh-ed25519 AAAA"])
BY_HAND = Manner("root (uid 0)")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The state directory of another host."""
    return tmp_path / "there"


def provisioned(directory: Path, key: str = KEY, guest_key: bytes = GUEST, generation: int = 3, *, heard: float = 2000.0) -> None:
    """The ledger in *directory* knows VM web1 by *key*, whose guest has *generation* in force."""
    ledger = Ledger.open(directory, lambda: heard)
    ledger.want(key, "web1", None, DIGEST)
    ledger.pin(key, guest_key)
    ledger.sending(key, "i-1", generation, DIGEST)
    result = Result(generation, Outcome.APPLIED, [HOSTNAME, NETWORK], ["ssh-ed25519 AAAA"], milliseconds=12)
    ledger.settle(key, generation, result, "0.1.0", applied=True, called=Called(["web1.example.org", "192.0.2.10"], True))
    ledger.facts(key, FACTS)
    ledger.close()


def vm(directory: Path, name: str = "web1") -> dict[str, Any]:
    """All that is on record of it."""
    with View(directory) as view:
        return view.named(name)


def carried(directory: Path, name: str = "web1") -> Entry:
    """Its entry, by way of bytes."""
    return ledger_entry.decode(ledger_entry.encode(ledger_travel.export(directory, name)))


def test_all_that_is_known_of_the_guest_is_known_there_and_nothing_else(state: Path, there: Path) -> None:
    provisioned(state)
    loaded = ledger_travel.load(there, carried(state), "web1", BY_HAND)
    assert loaded.taken
    here, now_there = vm(state), vm(there)
    of_this_host = {"state", "since", "standing", "verdict", "why", "events", "audit", "generation-wanted"}
    assert {name: value for name, value in now_there.items() if name not in of_this_host} == {
        name: value for name, value in here.items() if name not in of_this_host
    }
    assert now_there["state"] == State.UNREACHABLE
    assert carried(there) == carried(state)


def test_the_events_and_the_audit_trail_say_where_it_came_from(state: Path, there: Path) -> None:
    provisioned(state)
    entry = msgspec.structs.replace(carried(state), host="dom0-1")
    loaded = ledger_travel.load(there, entry, "web1", BY_HAND)
    known = f"generation 3 of i-1 in force, the guest's key {fingerprint(GUEST)}"
    assert loaded.text == f"its state came from dom0-1: {known}"
    assert [event["what"] for event in vm(there)["events"]] == [loaded.text]
    (audit,) = vm(there)["audit"]
    assert (audit["who"], audit["what"][:37]) == ("root (uid 0)", "loaded the state that came from dom0-")


def test_the_guest_is_met_as_the_one_that_is_pinned_and_nothing_is_applied_again(talk: Talk, tmp_path: Path) -> None:
    there = tmp_path / "there"
    talk.begin()
    talk.run()
    assert len(talk.guest.applied) == 1
    entry = carried(talk.state)
    ledger_travel.load(there, entry, "web1", BY_HAND)
    moved = Talk(Ledger.open(there), there, talk.guest)
    talk.guest.restart()
    moved.begin()
    moved.run()
    moved.ledger.close()
    assert len(talk.guest.applied) == 1
    assert moved.vm()["guest-key"] == fingerprint(talk.guest.key.public)
    assert "as pinned" in " ".join(notice.text for notice in moved.notices)
    assert (moved.vm()["state"], moved.vm()["generation-applied"], moved.vm()["outcome"]) == ("ready", 1, "applied")


def test_a_vm_whose_guest_was_never_met_has_nothing_to_carry(ledger: Ledger, state: Path) -> None:
    ledger.want(KEY, "web1", None, DIGEST)
    ledger.commit()
    for name in ("web1", "nobody"):
        with pytest.raises(NotMet, match=f"{name}: its guest was never met from here"):
            ledger_travel.export(state, name)


@pytest.mark.parametrize("manner", [BY_HAND, Manner("root (uid 0)", force=True)])
def test_another_vms_state_is_refused_whatever_is_said(state: Path, there: Path, manner: Manner) -> None:
    provisioned(state)
    with pytest.raises(Refused, match=rf"web2: what is to be loaded is the state of web1 \({KEY}\)"):
        ledger_travel.load(there, carried(state), "web2", manner)
    assert ledger_travel.load(there, carried(state), KEY.upper(), manner).taken


def test_another_pinned_key_is_not_overwritten_but_by_force(state: Path, there: Path) -> None:
    provisioned(state)
    provisioned(there, guest_key=OTHER)
    with pytest.raises(Refused, match="--force takes the latter") as refused:
        ledger_travel.load(there, carried(state), "web1", BY_HAND)
    assert fingerprint(GUEST) in str(refused.value)
    assert fingerprint(OTHER) in str(refused.value)
    assert (vm(there)["guest-key"], vm(there)["audit"]) == (fingerprint(OTHER), [])
    ledger_travel.load(there, carried(state), "web1", Manner("root (uid 0)", force=True))
    assert vm(there)["guest-key"] == fingerprint(GUEST)
    assert f"in place of {fingerprint(OTHER)}" in vm(there)["audit"][0]["what"]


def test_a_quarrel_here_is_an_operators_to_end(state: Path, there: Path) -> None:
    provisioned(state)
    provisioned(there)
    with_quarrel = Ledger.open(there)
    with_quarrel.block(KEY, State.KEY_CHANGED, RIVAL, "the guest's key changed")
    with_quarrel.close()
    with pytest.raises(Refused, match="there is a quarrel here over its guest's key"):
        ledger_travel.load(there, carried(state), "web1", BY_HAND)
    ledger_travel.load(there, carried(state), "web1", Manner("root (uid 0)", force=True))
    assert (vm(there)["rival-key"], vm(there)["state"]) == ("", State.GREETING)


@pytest.mark.parametrize(("pinned", "word"), [(GUEST, State.KEY_CHANGED), (None, State.KEY_SHARED)])
def test_a_quarrel_travels_and_nothing_is_sent_there_either(
    state: Path, there: Path, pinned: bytes | None, word: str
) -> None:
    ledger = Ledger.open(state)
    ledger.want(KEY, "web1", None, DIGEST)
    if pinned:
        ledger.pin(KEY, pinned)
    ledger.block(KEY, word, RIVAL, "because")
    ledger.close()
    ledger_travel.load(there, carried(state), "web1", BY_HAND)
    assert (vm(there)["state"], vm(there)["rival-key"]) == (word, fingerprint(RIVAL))
    ledger = Ledger.open(there)
    assert ledger.meet(KEY, "web1", RIVAL).known.rival_key == RIVAL
    ledger.close()


def test_newer_news_of_the_same_guest_stay_unless_forced(state: Path, there: Path) -> None:
    provisioned(state, generation=3, heard=2000.0)
    provisioned(there, generation=4, heard=1000.0)
    loaded = ledger_travel.load(there, carried(state), "web1", BY_HAND)
    assert not loaded.taken
    assert "is older than what is on record here, generation 4 of the same guest; this stays" in loaded.text
    assert (vm(there)["generation-applied"], len(vm(there)["audit"])) == (4, 1)
    assert ledger_travel.load(there, carried(state), "web1", Manner("root (uid 0)", force=True)).taken
    assert vm(there)["generation-applied"] == 3


def test_of_the_same_generation_the_later_news_stay(state: Path, there: Path) -> None:
    provisioned(state, heard=2000.0)
    provisioned(there, heard=3000.0)
    assert not ledger_travel.load(there, carried(state), "web1", BY_HAND).taken
    assert ledger_travel.load(state, carried(there), "web1", BY_HAND).taken
    assert ledger_travel.load(state, carried(there), "web1", BY_HAND).taken


def test_a_guests_key_that_another_vm_has_here_is_refused(state: Path, there: Path) -> None:
    provisioned(state)
    ledger = Ledger.open(there)
    ledger.want("web9", "web9", None, DIGEST)
    ledger.pin("web9", GUEST)
    ledger.close()
    with pytest.raises(Refused, match="is that of web9 here"):
        ledger_travel.load(there, carried(state), "web1", Manner("root (uid 0)", force=True))


def test_a_name_that_means_another_vm_here_is_refused_and_its_uuid_is_not(state: Path, there: Path) -> None:
    provisioned(state)
    provisioned(there, key="0" * 8 + KEY[8:], guest_key=OTHER)
    with pytest.raises(Refused, match=f"cure: name the VM by its uuid, {KEY}"):
        ledger_travel.load(there, carried(state), "web1", BY_HAND)
    assert ledger_travel.load(there, carried(state), KEY, BY_HAND).taken


@pytest.mark.parametrize(("before", "after"), [(KEY, "web1"), ("web1", KEY)])
def test_a_vm_known_by_its_name_there_and_by_its_uuid_here_is_one(state: Path, there: Path, before: str, after: str) -> None:
    provisioned(state, key=before)
    ledger = Ledger.open(there)
    ledger.want(after, "web1", None, DIGEST)
    ledger.close()
    ledger_travel.load(there, carried(state), "web1", BY_HAND)
    ledger = Ledger.open(there)
    meeting = ledger.meet(after, "web1", GUEST)
    ledger.close()
    assert (meeting.known.guest_key, meeting.known.generation_sent, meeting.shared_with) == (GUEST, 3, None)
    provisioned(state, key=before, guest_key=OTHER)
    with pytest.raises(Refused, match="the key pinned here"):
        ledger_travel.load(there, carried(state), "web1", BY_HAND)


def test_what_an_operators_document_says_can_be_left_out(state: Path, there: Path) -> None:
    provisioned(state)
    ledger_travel.load(there, carried(state), "web1", Manner("root (uid 0)", as_document=False))
    assert (vm(there)["names"], vm(there)["certified"], vm(there)["host-keys"]) == ([], False, ["ssh-ed25519 AAAA"])


def test_a_load_that_fails_half_way_changes_nothing(state: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provisioned(state)
    Ledger.open(there).close()
    monkeypatch.setattr(Ledger, "audit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ledger_travel.load(there, carried(state), "web1", BY_HAND)
    with View(there) as view:
        assert view.all() == []


def test_an_entry_is_never_longer_than_qemu_takes(state: Path) -> None:
    long = ["\x01" * 200] * 20
    ledger = Ledger.open(state)
    ledger.want(KEY, "web1", None, DIGEST)
    ledger.pin(KEY, GUEST)
    ledger.sending(KEY, "i-1", 1, DIGEST)
    items = [ItemResult(f"item-{n}", Outcome.FAILED, "x" * 40, "\x01" * 400, long) for n in range(MAX_ITEMS)]
    result = Result(1, Outcome.FAILED, items, ["\x01" * 2048] * 16, detail="\x01" * 400)
    ledger.settle(KEY, 1, result, "0.1.0", applied=False, called=Called([f"{n:0250}" for n in range(1000)], False))
    ledger.facts(KEY, Facts("\x01" * 128, addresses=["\x01" * 64] * 64, host_keys=["\x01" * 2048] * 16))
    ledger.close()
    data = ledger_entry.encode(ledger_travel.export(state, "web1"))
    assert 400_000 < len(data) <= MAX_STATE_BYTES
    entry = ledger_entry.decode(data)
    assert len(entry.items) == MAX_ITEMS
    assert {tuple(item.log) for item in entry.items} == {()}


def changed(data: bytes, **values: Any) -> bytes:
    """The entry with other values, in its form where that is possible."""
    found = json.loads(data) | {name.replace("_", "-"): value for name, value in values.items()}
    return json.dumps({k: v for k, v in sorted(found.items()) if v is not ...}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "hostile",
    [
        {"version": 2}, {"version": 1.5}, {"surprise": 1}, {"facts": ...}, {"guest_key": None}, {"guest_key": "AAAA"},
        {"guest_key": "!" * 44}, {"name": ""}, {"name": "x" * 201}, {"key": None}, {"generation_sent": -1}, {"items": "none"},
        {"generation_sent": 2**60}, {"generation_sent": "3"}, {"digest_sent": "DIGEST"}, {"outcome": "splendid"},
        {"names": ["web1 ssh-ed25519 AAAA"]}, {"names": ["a,b"]}, {"names": ["|1|x"]}, {"names": ["*"]}, {"names": ["a\nb"]},
        {"items": [{"item": "a\nb", "outcome": "applied"}]}, {"items": [{"item": "a", "outcome": "applied"}] * (MAX_ITEMS + 1)},
        {"host_keys": ["x" * 2049]}, {"facts": {"addresses": ["x"] * 65}}, {"first_met": -1.0}, {"first_met": 1e300},
    ],
    ids=lambda hostile: f"{hostile}"[:60],
)  # fmt: skip
def test_what_a_hostile_bundle_says_is_refused_in_a_printable_sentence(state: Path, hostile: dict[str, Any]) -> None:
    provisioned(state)
    data = ledger_entry.encode(ledger_travel.export(state, "web1"))
    assert changed(data) == data
    with pytest.raises(BadEntry) as refused:
        ledger_entry.decode(changed(data, **hostile))
    assert str(refused.value).isprintable()


def test_the_same_entry_has_one_form_only(state: Path) -> None:
    provisioned(state)
    data = ledger_entry.encode(ledger_travel.export(state, "web1"))
    spaced, twice, escaped = data.replace(b",", b", ", 1), data[:-1] + b',"version":1}', data.replace(b'"web1"', b'"\\u0077eb1"')
    for other in (b" " + data, spaced, twice, escaped):
        with pytest.raises(BadEntry, match="not in the form"):
            ledger_entry.decode(other)
    with pytest.raises(BadEntry, match="1,048,577 bytes"):
        ledger_entry.decode(data + b" " * (MAX_STATE_BYTES + 1 - len(data)))


@given(st.binary(max_size=200))
def test_garbage_is_no_entry(garbage: bytes) -> None:
    with pytest.raises(BadEntry):
        ledger_entry.decode(garbage)


def test_nothing_secret_is_in_an_entry(talk: Talk) -> None:
    values = {"instance-id": "i-1", "users": [{"name": "op", "hashed_passwd": "$6$saltsalt$" + "Secr." * 17}]}
    talk.begin(wanted(values))
    talk.run()
    data = ledger_entry.encode(ledger_travel.export(talk.state, "web1"))
    assert b"Secr." not in data
    assert b"i-1" in data
