# SPDX-License-Identifier: Apache-2.0
"""zsh and fish take our completion scripts, and complete verbs, options, files and the names of VMs by them.

Needs Debian's zsh and fish.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from host_agent.ledger.ledger import Ledger

#: For a shell to start on a machine that is busy with others.
DEADLINE_SECONDS = 60


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a `pv-host-agent` for the PATH, whose ledger has two VMs, and the scripts."""
    ledger = Ledger.open(tmp_path / "state")
    for name in ("web1", "web2"):
        ledger.want(name, name, None, "d")
    ledger.close()
    program = tmp_path / "pv-host-agent"
    state = shlex.quote(str(tmp_path / "state"))
    program.write_text(f'#!/bin/sh\ncd {Path.cwd()} && exec {shlex.quote(sys.executable)} -m host_agent "$@" --state {state}\n')
    program.chmod(0o755)
    for shell, name in (("zsh", "_pv-host-agent"), ("fish", "pv-host-agent.fish")):
        script = subprocess.run([program, "completion", shell], capture_output=True, text=True, check=True).stdout
        (tmp_path / name).write_text(script)
    return tmp_path


def program(name: str) -> str:
    """The shell *name*."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing; on Debian: apt-get install {name}")
    return found


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pv-host-agent known", ["known-hosts"]),
        ("pv-host-agent timeline w", ["web1", "web2"]),
        ("pv-host-agent timeline --r", ["--run", "--runs"]),
        ("pv-host-agent keys s", ["show", "sign"]),
        ("pv-host-agent serve --documents sta", ["state/"]),
    ],
)
def test_fish_completes(place: Path, line: str, offered: list[str]) -> None:
    asked = f"source pv-host-agent.fish; complete -C {shlex.quote(line)}"
    environment = os.environ | {"PATH": f"{place}:{os.environ['PATH']}", "HOME": str(place)}
    command = [program("fish"), "-c", asked]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, env=environment, timeout=DEADLINE_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(line.split("\t")[0] for line in done.stdout.splitlines()) == offered


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("pv-host-agent known", ["pv-host-agent known-hosts "]),
        ("pv-host-agent timeline w", ["timeline w", "web1", "web2"]),
        ("pv-host-agent timeline --sv", ["timeline --svg "]),
    ],
)
def test_zsh_completes(place: Path, typed: str, shown: list[str]) -> None:
    """A zsh at a terminal, with nothing but its own completion system, shows *shown* when Tab follows *typed*."""
    (place / ".zshrc").write_text(f"fpath=({place} $fpath); autoload -Uz compinit; compinit -u -d {place}/dump; PS1='ready> '\n")
    environment = os.environ | {"PATH": f"{place}:{os.environ['PATH']}", "ZDOTDIR": str(place), "TERM": "dumb"}
    shell = program("zsh")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(shell, ["zsh", "-o", "no_global_rcs", "-i"], environment)
    try:
        read_until(terminal, ["ready> "])
        os.write(terminal, typed.encode() + b"\t\t")
        read_until(terminal, shown)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def read_until(terminal: int, words: list[str]) -> None:
    """Read what the terminal shows until all of *words* are in it, in their order."""
    os.set_blocking(terminal, False)
    said, deadline = "", time.monotonic() + DEADLINE_SECONDS
    while not re.search(".*".join(map(re.escape, words)), said, re.DOTALL):
        assert time.monotonic() < deadline, f"{words} are not in {said!r}"
        try:
            said += os.read(terminal, 4096).decode(errors="replace")
        except BlockingIOError:
            time.sleep(0.05)
