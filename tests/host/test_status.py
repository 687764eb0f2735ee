# SPDX-License-Identifier: Apache-2.0
"""`status`: what operators and their scripts read of VMs, whatever guests said, however narrow, while somebody writes."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from host_agent.ledger.known import Counted
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.standing import Moment, State
from host_agent.views import overview
from host_agent.views.status import View
from host_agent.views.table import drawn
from pv_channel.messages import Facts
from tests.host.records import a_fleet, answered, sent, wanted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.records import Operator

#: Scripts of operators rely on these; add to them, and never take one away or give it another meaning.
KEYS = [
    "vm", "key", "standing", "verdict", "why", "state", "since", "detail", "document-error", "domid", "channel", "instance-id",
    "generation-wanted", "generation-sent", "generation-applied", "reprovision", "outcome", "reason", "path", "result-detail",
    "milliseconds", "agent", "guest-key", "rival-key", "first-met", "last-heard", "last-heartbeat", "sessions", "dropped",
    "echoed", "stale", "facts", "host-keys", "names", "certified",
]  # fmt: skip
OF_ONE = {
    "items": ["item", "outcome", "reason", "detail", "log"],
    "events": ["at", "what"],
    "audit": ["at", "who", "what"],
}
ADDRESSES = ["192.0.2.10/24", "2001:db8::10/64"]
FACTS = Facts("Debian GNU/Linux 12", "6.1.0-56-amd64", "web1", "boot", ADDRESSES, ["ssh-ed25519 AAAA"])
EVIL = "\x1b[2J\u202e\r\n\x07\x9b\u2028evil"


def test_the_names_of_the_values_are_an_interface(ledger: Ledger, operator: Operator) -> None:
    answered(ledger, "web1")
    ledger.audit("web1", "ada", "pushed")
    ledger.commit()
    (vm,) = operator.reads("status")
    assert list(vm) == KEYS
    assert list(vm["facts"]) == ["os", "kernel", "hostname", "boot-id", "addresses"]
    vm = operator.reads("status", "web1")
    assert list(vm) == [*KEYS, *OF_ONE]
    assert {name: list(vm[name][0]) for name in OF_ONE} == OF_ONE


def test_each_place_where_a_vm_can_stand_is_told_apart_and_counted(ledger: Ledger, operator: Operator) -> None:
    a_fleet(ledger)
    found = {vm["vm"]: (vm["standing"], vm["verdict"]) for vm in operator.reads("status")}
    assert found == {
        "ready": ("ready", "ready"),
        "failed": ("failed", "failed"),
        "degraded": ("degraded", "failed"),
        "pending": ("ready", "waiting"),
        "provisioning": ("provisioning", "waiting"),
        "greeting": ("greeting", "waiting"),
        "off": ("unreachable", "waiting"),
        "quarrel": ("key-changed", "failed"),
        "mistyped": ("bad-document", "failed"),
        "old": ("removed", "failed"),
    }
    assert overview.summary(word for word, _ in found.values()) == (
        "10 VMs: 2 ready, 1 provisioning, 1 greeting, 1 unreachable, 1 degraded, 1 failed, 1 key-changed, 1 bad-document,"
        " 1 removed"
    )
    assert overview.summary(["ready"]) == "1 VM: 1 ready"
    assert overview.summary([]) == "0 VMs"


def test_only_those_that_stand_where_it_is_asked_are_shown(ledger: Ledger, operator: Operator) -> None:
    a_fleet(ledger)
    assert [vm["vm"] for vm in operator.reads("status", "--only", "failed,greeting")] == ["failed", "greeting"]
    assert operator.says("status", "--only", "broken") == 1
    assert "--only broken: no VM can stand there; one of ready, " in operator.err
    assert operator.says("status", "--only", "ready", "failed") == 2
    assert operator.says("status", "--audit") == 2


def test_what_the_guest_says_of_itself_and_what_was_counted_is_shown(ledger: Ledger, operator: Operator) -> None:
    answered(ledger, "web1")
    ledger.facts("web1", FACTS)
    ledger.heartbeat("web1")
    ledger.counted("web1", Counted(3, 2, 1))
    ledger.ask_to_reprovision("web1")
    ledger.audit("web1", "ada (uid 1000)", "asked to reprovision")
    ledger.commit()
    vm = operator.reads("status", "web1")
    assert (vm["domid"], vm["channel"]) == (7, "/run/pv-channel/web1.sock")
    assert vm["facts"] == {
        "os": "Debian GNU/Linux 12", "kernel": "6.1.0-56-amd64", "hostname": "web1", "boot-id": "boot", "addresses": ADDRESSES,
    }  # fmt: skip
    assert (vm["dropped"], vm["echoed"], vm["stale"], vm["reprovision"]) == (3, 2, 1, True)
    assert vm["last-heartbeat"]
    assert operator.says("status", "web1") == 0
    for words in (
        "/run/pv-channel/web1.sock, domain 7", "1 wanted, 1 sent, 1 in force", "applied in 12 ms", "3 dropped, 2 echoed, 1 stale",
        "Debian GNU/Linux 12", "6.1.0-56-amd64", "192.0.2.10/24", "ssh-ed25519 AAAA", "all is applied again",
        "generation 1: applied",
    ):  # fmt: skip
        assert words in operator.out
    assert "ada (uid 1000)" not in operator.out
    assert operator.says("status", "web1", "--audit") == 0
    assert "ada (uid 1000)  asked to reprovision" in operator.out


def test_the_table_fits_a_line_of_120_columns_and_says_what_matters(ledger: Ledger, operator: Operator) -> None:
    a_fleet(ledger)
    ledger.facts("ready", FACTS)
    ledger.document_error("mistyped", "mistyped", "mistyped.yaml:3:1: users: " + "expected something else " * 20)
    ledger.commit()
    assert operator.says("status") == 0
    lines = operator.out.splitlines()
    assert lines[0].split() == ["VM", "STATE", "DOMID", "WANTED", "APPLIED", "OUTCOME", "WHY", "ADDRESS", "HEARD"]
    assert max(map(len, lines)) <= 120
    row = {line.split()[0]: line for line in lines}
    assert "mistyped.yaml:3:1: users: expected" in row["mistyped"]
    assert row["ready"].split()[:7] == ["ready", "ready", "7", "1", "1", "applied", "192.0.2.10"]


@pytest.mark.parametrize("width", [30, 60, 80, 100, 120, 200])
def test_a_narrow_terminal_is_not_overrun_and_still_says_who_and_where(ledger: Ledger, state: Path, width: int) -> None:
    a_fleet(ledger)
    ledger.document_error("mistyped", "mistyped", "mistyped.yaml: " + "/etc/without/a/place/to/fold" * 9)
    ledger.commit()
    with View(state) as view:
        rows = overview.rows_of(view.all(), time.time(), folded=True)
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    console.print(drawn(overview.HEADER, rows, width, overview.LESS))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    if width >= 60:
        assert all(any(line.split()[:2] == [row[0], row[1]] for line in lines) for row in rows)
        assert all(word in out.getvalue() for row in rows for word in row[overview.HEADER.index("why")].split()[:1])


def test_a_summary_goes_to_a_terminal_and_never_into_a_pipe(ledger: Ledger, operator: Operator) -> None:
    a_fleet(ledger)
    assert operator.says("status") == 0
    assert operator.err == ""


@pytest.mark.parametrize(
    "verb",
    [
        ["status"], ["status", "web1", "--audit"], ["status", "--json"], ["status", "--json", "web1"],
        ["wait", "web1", "web2", "--timeout", "0.1"], ["wait", "--all", "--timeout", "0.1"], ["watch", "--timeout", "0.1"],
        ["wait", "web1", "--json", "--timeout", "0.1"], ["events", "--audit"], ["events", "--audit", "--json"],
        ["forget-key", "web1"], ["reprovision", "web1"], ["reprovision", "--all", "--yes"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_nothing_that_a_guest_said_draws_on_the_terminal(
    ledger: Ledger, state: Path, operator: Operator, verb: list[str]
) -> None:
    for name in ("web1", "web2"):
        answered(ledger, name)
        ledger.audit(name, "who", "what")
    ledger.commit()
    vandalise(state)
    operator.says(*verb)
    for text in (operator.out, operator.err):
        assert text.isascii()
        assert all(line.isprintable() for line in text.splitlines())


def vandalise(state: Path) -> None:
    """Put the worst words into every column that holds text, but for the names by which the VMs are asked for."""
    db = sqlite3.connect(state / "ledger.sqlite")
    for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type='table'").fetchall():
        columns = {name: kind for _, name, kind, *_ in db.execute(f"PRAGMA table_info({table})")}
        for column, kind in columns.items():
            if kind != "TEXT" or column in ("key", "digest_wanted", "digest_sent") or (table, column) == ("vm", "name"):
                continue
            listed = {"host_keys": [EVIL], "names": [EVIL], "facts": {"os": EVIL, "hostname": EVIL, "addresses": [EVIL, EVIL]}}
            db.execute(f"UPDATE {table} SET {column}=?", (json.dumps(listed[column]) if column in listed else EVIL,))
    db.execute("UPDATE vm SET name=? WHERE key='web2'", (EVIL,))
    db.commit()
    db.close()


WRITER = """
import sys
from pathlib import Path
from host_agent.ledger.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    for name in ("web1", "web2"):
        ledger.want(name, name, None, f"d{number}")
        ledger.sending(name, f"i-{number}", number, f"d{number}")
        ledger.event(name, f"number {number}")
    ledger.commit()
    if number == 1:
        print("writing", flush=True)
"""


def test_it_reads_whole_transactions_while_another_process_writes(ledger: Ledger, state: Path, operator: Operator) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(state)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        seen = set()
        for _ in range(100):
            one, other = operator.reads("status")
            assert one["generation-sent"] == other["generation-sent"] == int(one["instance-id"].removeprefix("i-"))
            assert one["verdict"] == "waiting"
            seen.add(one["generation-sent"])
            assert operator.reads("status", "web1")["events"]
        assert len(seen) > 1
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close() if writer.stdout else None


@pytest.mark.parametrize("verb", [["status"], ["status", "web1"], ["wait", "--all", "--timeout", "5"], ["watch"], ["events"],
                                  ["reprovision", "web1"], ["forget-key", "web1"]], ids=" ".join)  # fmt: skip
def test_a_newer_agents_ledger_is_named_as_such_by_each_verb(state: Path, operator: Operator, verb: list[str]) -> None:
    Ledger.open(state).close()
    db = sqlite3.connect(state / "ledger.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert operator.says(*verb) == 1
    assert "a newer pv-host-agent wrote it (schema 99" in operator.err


def test_a_vm_is_meant_by_its_name_or_uuid_in_any_case_and_a_name_that_two_have_is_asked_back(
    ledger: Ledger, operator: Operator
) -> None:
    keys = [f"0a{n}0b6e1-6f5b-4a53-9d1b-2f6f0a3c9e01" for n in range(2)]
    for key in keys:
        ledger.want(key, "twin", None, "d")
    ledger.commit()
    assert operator.reads("status", keys[1].upper())["key"] == keys[1]
    for verb in ("status", "wait", "events", "reprovision", "forget-key"):
        assert operator.says(verb, "twin") == 1
        assert f"twin: several VMs had that name; say which: {keys[0]}, {keys[1]}" in operator.err
    ledger.stand(keys[0], State.REMOVED)
    ledger.commit()
    assert operator.reads("status", "twin")["key"] == keys[1]


def test_the_latest_run_is_that_of_each_vm_and_in_its_order(ledger: Ledger, state: Path) -> None:
    sent(ledger, "web1")
    sent(ledger, "web1")
    wanted(ledger, "web2")
    ledger.commit()
    with View(state) as view:
        found = view.latest_run(["web1", "web2", "nobody"])
    assert [what for _, what, _ in found["web1"]] == [
        Moment.SEEN, Moment.GREETING, Moment.SEALED, Moment.SENT, Moment.ITEM,
    ]  # fmt: skip
    assert found["web2"] == found["nobody"] == []
