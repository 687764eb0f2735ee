# SPDX-License-Identifier: Apache-2.0
"""Every verb explains itself and each of its options, and says in one line what is missing on a machine that has nothing."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from host_agent.__main__ import main
from host_agent.cli import parser
from host_agent.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: For each verb, arguments that need what is not there: a ledger, a key, a file, Xen.
NEEDY = {
    "check": ["NOWHERE/web1.yaml"],
    "push": ["DOCUMENT"],
    "serve": ["--documents", "NOWHERE"],
    "status": [],
    "wait": ["web1", "--timeout", "0.1"],
    "watch": ["--until-ready", "--timeout", "0.1"],
    "events": [],
    "reprovision": ["web1"],
    "timeline": ["web1"],
    "channels": [],
    "backend": ["web1", "--documents", "NOWHERE", "--socket-path", "NOWHERE/vm1.sock"],
    "backends": [],
    "plug": ["web1", "--name", "org.example.more.1"],
    "unplug": ["web1", "org.example.more.1"],
    "dm": ["wait", "web1"],
    "fleet": ["status", "--fleet", "NOWHERE/fleet.yaml"],
    "migrate": ["--qmp", "NOWHERE", "--to", "unix:/x"],
    "incoming": ["--qmp", "NOWHERE", "--from", "unix:/x"],
    "state": ["save", "web1", "-"],
    "doctor": ["--documents", "NOWHERE", "--sockets", "NOWHERE"],
    "keys": ["show"],
    "forget-key": ["web1"],
    "known-hosts": [],
    "convert": ["--to", "v2", "NOWHERE/network.yaml"],
    "completion": ["--vms"],
    "install": ["--root", "/dev/null"],
}
#: What works everywhere.
NEEDS_NOTHING = {"schema"}
#: These report what is wrong on standard output, as what they were asked for.
REPORTS = {"backends", "check", "doctor"}
#: These wait for what is missing, until their time is over: it may be about to come.
PATIENT = {"wait", "watch"}
WITHOUT_STATE = {
    "backends", "check", "channels", "convert", "dm", "fleet", "incoming", "install", "migrate", "plug", "schema", "unplug",
}  # fmt: skip


def parsers(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """*top* and all below it."""
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    """A directory that is not there, beside a document."""
    (tmp_path / "web1.yaml").write_text("instance-id: i-1\nuuid: 0f4c6b1e-6f5b-4a53-9d1b-2f6f0a3c9e01\n")
    return tmp_path / "nowhere"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: pv-host-agent {verb} ")
    assert "--help" in said


def test_every_option_of_every_verb_has_a_help_text() -> None:
    silent = [f"{each.prog} {action.dest}" for each in parsers(parser()) for action in each._actions if not action.help]
    assert [name for name in silent if not name.endswith((" what", " verb"))] == []  # which their own verbs explain


def test_every_verb_is_tried_without_what_it_needs() -> None:
    assert NEEDY.keys() | NEEDS_NOTHING == set(VERBS)


@pytest.mark.parametrize("verb", NEEDY)
def test_a_verb_says_in_one_line_what_is_missing(verb: str, nothing: Path) -> None:
    words = {"DOCUMENT": str(nothing.parent / "web1.yaml")}
    arguments = [words.get(word, word.replace("NOWHERE", str(nothing))) for word in NEEDY[verb]]
    state = [] if verb in WITHOUT_STATE else ["--state", str(nothing)]
    command = [sys.executable, "-m", "host_agent", verb, *arguments, *state]
    without_xen = os.environ | {"XENSTORED_PATH": str(nothing / "xenstored")}
    done = subprocess.run(command, capture_output=True, text=True, env=without_xen, timeout=120)
    assert done.returncode == (2 if verb in PATIENT else 1), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    if verb in REPORTS | PATIENT:
        assert done.stdout.strip()
        return
    assert done.stdout == ""
    *progress, last = done.stderr.splitlines()
    assert last.startswith("pv-host-agent: ")
    assert not any(line.startswith("pv-host-agent: ") for line in progress)


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_option_is_wrong_usage(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--no-such-option"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ")
