# SPDX-License-Identifier: Apache-2.0
"""The ledger: what is recorded survives, what is not committed does not, and readers are not in the way."""

from __future__ import annotations

import json
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from host_agent.errors import BadFile, LedgerTrouble
from host_agent.ledger.heard import HEARD_EVERY_SECONDS
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.schema import EVENTS_KEPT
from host_agent.views.status import View
from pv_channel.messages import Facts, ItemResult, Outcome, Result

if TYPE_CHECKING:
    from pathlib import Path

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
ITEM = ItemResult("network", Outcome.FAILED, "no-manager", "evil \x1b[2J\u202e", ["tail"])


def test_files_are_private_even_under_a_loose_umask(ledger: Ledger, state: Path) -> None:
    ledger.want("a", "a", None, "d")
    ledger.commit()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}


def test_what_was_committed_is_there_when_it_is_opened_again(state: Path) -> None:
    ledger = Ledger.open(state)
    ledger.want("a", "a", 3, "d")
    ledger.pin("a", KEY)
    ledger.sending("a", "i-1", 3, "d")
    ledger.close()
    again = Ledger.open(state)
    meeting = again.meet("a", "a", KEY)
    again.close()
    assert meeting.shared_with is None
    assert (meeting.known.guest_key, meeting.known.generation_sent, meeting.known.digest_sent) == (KEY, 3, "d")


def test_what_was_not_committed_is_not_there(ledger: Ledger) -> None:
    ledger.want("a", "a", None, "d")
    ledger.commit()
    ledger.pin("a", KEY)
    ledger.abandon()
    assert ledger.meet("a", "a", KEY).known.guest_key is None


def test_a_pin_is_synced_to_the_disk_and_the_next_commit_need_not_be(ledger: Ledger) -> None:
    ledger.want("a", "a", None, "d")
    ledger.pin("a", KEY)
    assert ledger._db.read("PRAGMA synchronous").fetchone() == (2,)
    ledger.commit()
    assert ledger._db.read("PRAGMA synchronous").fetchone() == (1,)


def test_a_reader_reads_while_a_transaction_is_open(ledger: Ledger, state: Path) -> None:
    ledger.want("a", "a", None, "d")
    ledger.commit()
    ledger.want("b", "b", None, "d")
    view = View(state)
    assert [vm["vm"] for vm in view.all()] == ["a"]
    ledger.commit()
    assert [vm["vm"] for vm in view.all()] == ["a", "b"]
    view.close()


def test_events_of_one_vm_push_out_its_own_and_no_others(ledger: Ledger, state: Path) -> None:
    for vm in ("quiet", "loud"):
        ledger.want(vm, vm, None, "d")
    ledger.event("quiet", "once")
    for number in range(EVENTS_KEPT * 3):
        ledger.event("loud", f"event {number}")
    ledger.commit()
    view = View(state)
    quiet, loud = view.one("quiet"), view.one("loud")
    view.close()
    assert quiet is not None
    assert loud is not None
    assert [event["what"] for event in quiet["events"]] == ["once"]
    assert len(loud["events"]) == EVENTS_KEPT
    assert {event["what"] for event in loud["events"]} == {f"event {n}" for n in range(EVENTS_KEPT * 2, EVENTS_KEPT * 3)}


def test_when_a_vm_was_heard_is_written_now_and_then(state: Path) -> None:
    now = 1000.0
    ledger = Ledger.open(state, lambda: now)
    ledger.want("a", "a", None, "d")
    ledger.heard("a")
    ledger.commit()
    view = View(state)
    for later, shown in ((1.0, "1970-01-01T00:16:40+00:00"), (HEARD_EVERY_SECONDS, "1970-01-01T00:16:45+00:00")):
        now = 1000.0 + later
        ledger.heard("a")
        ledger.commit()
        assert view.all()[0]["last-heard"] == shown
    view.close()
    ledger.close()


def test_when_a_vm_last_answered_a_question_is_written_as_rarely(state: Path) -> None:
    now = 1000.0
    ledger = Ledger.open(state, lambda: now)
    ledger.want("a", "a", None, "d")
    with View(state) as view:
        for later, second in ((0.0, 40), (1.0, 40), (9.0, 49)):
            now = 1000.0 + later
            ledger.heartbeat("a")
            ledger.commit()
            assert view.all()[0]["last-heartbeat"] == f"1970-01-01T00:16:{second}+00:00"
    ledger.close()


def test_a_vm_that_gets_its_uuid_keeps_its_audit_trail_and_what_it_is_known_by(ledger: Ledger, state: Path) -> None:
    ledger.want("web1", "web1", None, "d")
    ledger.pin("web1", KEY)
    ledger.facts("web1", Facts(hostname="web1"))
    for number in range(3):
        ledger.audit("web1", "somebody", f"entry {number}")
    ledger.want("uuid", "web1", None, "d")
    ledger.audit("uuid", "somebody", "of its uuid")
    assert ledger.meet("uuid", "web1", KEY).known.guest_key == KEY
    ledger.audit("uuid", "somebody", "later")
    ledger.commit()
    with View(state) as view:
        vm = view.named("web1")
        trail = [row["what"] for row in view.each("SELECT what FROM audit WHERE key='uuid' ORDER BY slot")]
        others = [row["key"] for row in view.each("SELECT key FROM audit WHERE key!='uuid'")]
    assert (vm["key"], vm["facts"]["hostname"]) == ("uuid", "web1")
    assert (trail, others) == (["of its uuid", "entry 0", "entry 1", "entry 2", "later"], [])


def test_facts_are_news_by_the_fields_that_have_changed(ledger: Ledger) -> None:
    ledger.want("a", "a", None, "d")
    told = Facts("Debian", hostname="web1", addresses=["10.0.0.5/24"], host_keys=["ssh-ed25519 AAAA"])
    assert ledger.facts("a", told) == ["addresses", "hostname", "os", "host-keys"]
    assert ledger.facts("a", told) == []
    assert ledger.facts("a", Facts("Debian", addresses=["10.0.0.6/24"])) == ["addresses", "hostname"]
    assert ledger.facts("nobody", told) == []


def test_forgetting_a_key_also_ends_the_quarrel_of_the_vm_that_shared_it(ledger: Ledger) -> None:
    for vm in ("a", "b", "c"):
        ledger.want(vm, vm, None, "d")
    ledger.pin("a", KEY)
    assert ledger.meet("b", "b", KEY).shared_with == "a"
    ledger.block("b", "key-shared", KEY, "shared")
    ledger.block("c", "key-changed", OTHER_KEY, "changed")
    assert ledger.forget_key("a")
    assert ledger.meet("b", "b", KEY) == (ledger.meet("b", "b", KEY).known, None)
    assert ledger.meet("b", "b", KEY).known.rival_key is None
    assert ledger.meet("c", "c", OTHER_KEY).known.rival_key == OTHER_KEY
    assert not ledger.forget_key("a")
    assert not ledger.forget_key("nobody")


def test_a_newer_ledger_is_not_touched(state: Path) -> None:
    Ledger.open(state).close()
    db = sqlite3.connect(state / "ledger.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LedgerTrouble, match="newer pv-host-agent"):
        Ledger.open(state)
    with pytest.raises(LedgerTrouble, match="newer pv-host-agent"):
        View(state)


def test_a_file_that_is_no_ledger_is_told_as_such(state: Path) -> None:
    state.mkdir(mode=0o700)
    (state / "ledger.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(LedgerTrouble, match=r"ledger\.sqlite: .*damaged"):
        Ledger.open(state)


def test_a_state_directory_open_to_others_is_refused(state: Path) -> None:
    state.mkdir()
    state.chmod(0o755)
    with pytest.raises(BadFile, match="cure: chmod 700"):
        Ledger.open(state)


def test_status_shows_every_vm_and_why_one_is_not_well(ledger: Ledger, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.want("a", "web1", 4, "d")
    ledger.pin("a", KEY)
    ledger.sending("a", "i-1", 4, "d")
    ledger.settle("a", 4, Result(4, Outcome.ROLLED_BACK, [ITEM], ["ssh-ed25519 AAAA"]), "0.1.0", applied=False)
    ledger.event("a", "something \x07 happened")
    ledger.want("b", "web2", None, "d")
    ledger.commit()
    assert main(["status", "--state", str(state)]) == 0
    header, web1, web2 = capsys.readouterr().out.splitlines()
    assert header.split() == ["VM", "STATE", "WANTED", "APPLIED", "OUTCOME", "WHY", "HEARD"]
    assert "network: no-manager" in web1
    assert "never" in web2
    assert main(["status", "--state", str(state), "web1"]) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert main(["status", "--state", str(state), "--json"]) == 0
    vms = json.loads(capsys.readouterr().out)
    assert [(vm["vm"], vm["generation-wanted"], vm["generation-applied"]) for vm in vms] == [("web1", 4, 0), ("web2", None, 0)]
    assert main(["status", "--state", str(state), "--json", "a"]) == 0
    vm = json.loads(capsys.readouterr().out)
    assert vm["items"][0]["detail"] == "evil \\x1b[2J\\u202e"
    assert vm["host-keys"] == ["ssh-ed25519 AAAA"]
    assert main(["status", "--state", str(state), "nobody"]) == 1
    assert main(["status", "--state", str(state / "none")]) == 1
    assert "no ledger" in capsys.readouterr().err


def test_a_vm_is_degraded_while_an_item_of_what_is_in_force_has_failed(ledger: Ledger, state: Path) -> None:
    applied = Result(4, Outcome.APPLIED, [ItemResult("hostname", Outcome.APPLIED), ItemResult("user-data", Outcome.PENDING)])
    ledger.want("a", "web1", 4, "d")
    ledger.sending("a", "i-1", 4, "d")
    ledger.settle("a", 4, applied, "0.1.0", applied=True)
    assert not ledger.report("a", 4, [ItemResult("user-data", Outcome.PENDING)])
    assert not ledger.report("a", 3, [ITEM])
    assert not ledger.report("b", 4, [ITEM])
    assert ledger.report("a", 4, [ItemResult("user-data", Outcome.FAILED, "command-failed")])
    assert not ledger.report("a", 4, [ItemResult("user-data", Outcome.FAILED, "command-failed")])
    ledger.commit()
    view = View(state)
    (vm,) = view.all()
    assert (vm["state"], vm["outcome"], vm["why"]) == ("degraded", "applied", "user-data: command-failed")
    ledger.settle("a", 5, Result(5, Outcome.APPLIED, [ItemResult("hostname", Outcome.APPLIED)]), "0.1.0", applied=True)
    ledger.commit()
    assert view.all()[0]["state"] == "ready"
    view.close()


def test_a_report_does_not_say_that_a_guest_that_is_away_is_ready(ledger: Ledger, state: Path) -> None:
    ledger.want("a", "web1", 4, "d")
    ledger.sending("a", "i-1", 4, "d")
    ledger.settle("a", 4, Result(4, Outcome.APPLIED, [ItemResult("user-data", Outcome.PENDING)]), "0.1.0", applied=True)
    ledger.stand("a", "provisioning", "the next generation is under way")
    assert ledger.report("a", 4, [ItemResult("user-data", Outcome.APPLIED)])
    ledger.commit()
    view = View(state)
    assert view.all()[0]["state"] == "provisioning"
    view.close()
