# SPDX-License-Identifier: Apache-2.0
"""Both agents as the processes they are, a relay between them, a folder as the guest's root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from lab.demo import document, make_root
from lab.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Generous: these are processes on a machine that may be busy with others.
DEADLINE_SECONDS = 60


class Stage:
    """A relay, a guest's root, a directory of the host's state, and the processes started so far."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.root = work / "root"
        self.root.mkdir()
        make_root(self.root)
        self.sockets = work / "sockets"
        self.sockets.mkdir(mode=0o700)
        self.relay = Relay(self.sockets / "vm1.sock")
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        """A process of the project's own interpreter whose output goes to the file *log*."""
        with (self.work / log).open("ab") as output:
            process = subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.processes.append(process)
        return process

    def start_guest(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The guest agent on the relay's tty."""
        return self.start("guest_agent", "run", "--tty", self.relay.tty, "--root", str(self.root), *arguments, log="guest.log")

    def write_document(self, text: str) -> None:
        """Put *text* where the service looks for this guest's document."""
        (self.work / "documents/vm1.yaml").write_text(text, encoding="utf-8")

    def serve(self, text: str = "") -> subprocess.Popen[bytes]:
        """The host agent as a service over this one channel; with *text*, for this document."""
        documents = self.work / "documents"
        documents.mkdir(mode=0o700, exist_ok=True)
        if text:
            self.write_document(text)
        arguments = ("--documents", str(documents), "--sockets", str(self.sockets), "--state", str(self.work / "host"))
        return self.start("host_agent", "serve", "--no-xenstore", *arguments, log="serve.log")

    def push(self, text: str, *arguments: str, timeout: int = DEADLINE_SECONDS) -> tuple[int, dict[str, Any]]:
        """Push a document; the exit status and what ``--json`` printed."""
        path = self.work / "vm1.yaml"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "host_agent", "push", "--json", "--state", str(self.work / "host")]
        command += ["--socket", str(self.relay.path), "--timeout", str(timeout), *arguments, str(path)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout + DEADLINE_SECONDS)
        (self.work / "push.log").write_bytes(done.stderr)
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}

    def read(self, name: str) -> str:
        """A file of the guest's root."""
        return (self.root / name).read_text(encoding="utf-8")

    def log(self, name: str) -> str:
        """What a process wrote so far."""
        return (self.work / name).read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End what still runs, by pid."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def eventually(true: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until *true* is; fail saying *what* never was."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:g} s: {what}")
        time.sleep(0.05)


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below *root*: its modification time in nanoseconds and its content."""
    return {
        os.fspath(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Everything but the guest agent is running."""
    made = Stage(tmp_path)
    with made.relay:
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="session")
def web1() -> str:
    """A document."""
    return document("web1")
