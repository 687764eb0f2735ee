# SPDX-License-Identifier: Apache-2.0
"""`pv-guest-agent plan`: says what a document would do, and does none of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from guest_agent.__main__ import main
from guest_agent.actions.plan import Plan, Planned
from guest_agent.actions.planning import Planning
from guest_agent.changes.running import RunCommand
from guest_agent.failure import ItemError
from guest_agent.preview import preview
from pv_channel import messages, planned
from pv_channel.messages import MAX_DETAIL, PlannedItem
from tests.guest.machine import Machine, document, provision, whole

if TYPE_CHECKING:
    from guest_agent.changes.change import Change

TOP = Path(__file__).parent.parent.parent

#: Run a verb, and say of every audited event (PEP 578) that makes, changes or removes something.
WATCHED = """
import json, os, sys
sys.dont_write_bytecode = True
touched = []
CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate",
            "os.utime", "os.setxattr", "os.removexattr", "shutil.", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork",
            "os.system", "socket.connect", "socket.sendto", "socket.sethostname", "fcntl.flock")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
def hook(event, arguments):
    if event == "open" and (arguments[2] or 0) & WRITING or event.startswith(CHANGING):
        touched.append(f"{event} {arguments!r}")
sys.addaudithook(hook)
from guest_agent.__main__ import main
status = main(sys.argv[1:])
sys.stdout.flush()
print("TOUCHED", json.dumps(touched))
sys.exit(status)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def tree(top: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    """All that a change of anything would show in; access times aside."""
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_ctime_ns, content)
    return found


def plan(machine: Machine, raw: bytes, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    path = machine.root.parent / "document.json"
    path.write_bytes(raw)
    status = main(["plan", "--root", str(machine.root), *arguments, str(path)])
    return status, capsys.readouterr().out


def test_every_diff_is_shown_and_nothing_whatsoever_is_touched(machine: Machine) -> None:
    path = machine.root.parent / "document.json"
    path.write_bytes(whole())
    before = tree(machine.root)
    command = [sys.executable, "-c", WATCHED, "plan", "--root", str(machine.root), str(path)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    shown, _, touched = done.stdout.partition("TOUCHED ")
    assert json.loads(touched) == []
    assert tree(machine.root) == before
    assert "hostname (web1.example.org)\n  write /etc/hostname\n" in shown
    assert "    -template\n    +web1\n" in shown


def test_the_watch_would_have_seen_a_change(machine: Machine) -> None:
    """The control of the test above."""
    for name in ("usr/bin/python3", "usr/local/bin/pv-guest-agent"):
        machine.write(name, mode=0o755)
    command = [sys.executable, "-c", WATCHED, "install", "--root", str(machine.root)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60)
    assert "os.rename" in done.stdout.partition("TOUCHED ")[2]


def test_the_plan_is_what_is_then_applied(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    status, shown = plan(machine, whole(), capsys)
    assert status == 0
    written = [line.split()[1] for line in shown.splitlines() if line.startswith("  write ")]
    before = {name: content for name, (_, content) in machine.snapshot().items()}
    provision(machine, whole())
    after = {name: content for name, (_, content) in machine.snapshot().items()}
    files = {name for name in after if after[name] != before.get(name) and (machine.root / name).is_file()}
    assert {f"/{name}" for name in files} == set(written)
    status, shown = plan(machine, whole(2), capsys)
    assert (status, [line for line in shown.splitlines() if line.startswith("  ")]) == (0, [])
    assert "hostname (web1.example.org): nothing to do" in shown


def test_a_document_without_a_generation_is_the_next_one(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    provision(machine, document(7, local_hostname="web7"))
    raw = b'{"instance-id":"i-1","local-hostname":"web8"}'
    status, shown = plan(machine, raw, capsys, "--json")
    assert (status, json.loads(shown)["generation"]) == (0, 8)


def test_json_is_one_object(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    status, shown = plan(machine, document(1, local_hostname="web1"), capsys, "--json")
    said: dict[str, Any] = json.loads(shown)
    assert (status, said["outcome"], said["changes"], said["cut"]) == (0, "planned", True, False)
    assert [item["item"] for item in said["items"]] == ["hostname"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{", "refused: bad-document"),
        (document(1, local_hostname="no name"), "refused: local-hostname: bad-document"),
        (document(6, local_hostname="web6"), "hostname: cannot be: conflict: "),
        (document(4), "refused: generation: generation-old"),
    ],
)
def test_what_cannot_be_is_said_and_is_status_1(
    machine: Machine, capsys: pytest.CaptureFixture[str], raw: bytes, words: str
) -> None:
    provision(machine, document(5, local_hostname="web5"))
    machine.write("etc/hostname", b"admins-choice\n")
    status, shown = plan(machine, raw, capsys)
    assert words in shown
    assert status == 1


def test_a_machine_that_hands_documents_on_plans_that(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    status, shown = plan(machine, document(1, local_hostname="web1"), capsys, "--hand-to", "cloud-init")
    assert status == 1
    assert shown.startswith("cloud-init: cannot be: needs-cloud-init: ")


def test_a_file_that_is_not_there_is_said(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--root", str(machine.root), "/nowhere/document.json"]) == 1
    assert "/nowhere/document.json: No such file" in capsys.readouterr().err


def test_a_hyphen_is_standard_input(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(document(1, local_hostname="web1"))))
    assert main(["plan", "--root", str(machine.root), "-"]) == 0
    assert "+web1" in capsys.readouterr().out


def test_the_largest_plan_fits_a_message(machine: Machine) -> None:
    commands: list[Change] = [RunCommand(['\\"' * 500], []) for _ in range(500)]
    plans = [Planned(f"item-{n}", Plan(commands, '"' * MAX_DETAIL), commands, {}) for n in range(16)]
    failures = {f"item-{n}": ItemError("conflict", '\\"' * MAX_DETAIL) for n in range(4, 16)}
    answer = preview(Planning(plans, failures), 2**53, machine.system)
    assert answer.cut
    assert len(messages.encode(answer)) <= messages.MAX_GUEST_MESSAGE_BYTES
    assert messages.decode_from_guest(messages.encode(answer)) == answer


def test_what_a_guest_says_is_shown_without_its_control_characters() -> None:
    hostile = messages.Planned(1, [PlannedItem("network", "conflict", "\x1b[2J", ["\x07step\u202e"])], cut=True)
    shown = "\n".join(planned.lines(hostile)) + json.dumps(planned.values(hostile)) + "\n".join(
        planned.lines(messages.Planned(0, reason="bad-document", path="\x1b", detail="\x9b"))
    )
    assert not any(ord(c) < 32 and c != "\n" for c in shown)
    assert shown.isascii()


def test_a_plan_is_possible_where_nothing_stands_in_its_way() -> None:
    assert planned.problem(messages.Planned(1, [PlannedItem("hostname", steps=["write"])])) == ""
    one_cannot = messages.Planned(1, [PlannedItem("hostname"), PlannedItem("network", "conflict", "not ours")])
    assert planned.problem(one_cannot) == "network: cannot be: conflict: not ours"
    assert planned.problem(messages.Planned(0, reason="bad-document")) == "refused: bad-document"
    assert planned.values(messages.Planned(0, reason="bad-document"))["outcome"] == "refused"
    assert planned.values(messages.Planned(1, [PlannedItem("a", "conflict")]))["outcome"] == "failed"
    assert msgspec.UNSET not in planned.values(messages.Planned(1)).values()
