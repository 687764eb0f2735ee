# SPDX-License-Identifier: Apache-2.0
"""Run scripts in a guest through the root shell on its hvc0: no network, which is what the tests are about."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: xenconsoled writes what each domain prints here; a domain on its way in by migration has the second name.
CONSOLES = Path("/var/log/xen/console")
LOG_NAMES = ("guest-{}.log", "guest-{}--incoming.log")

#: A terminal line in a guest holds 4095 bytes; the rest is cut without a word.
PIECE = 3000

#: What is typed can fall into a shell that just restarted, and a kernel message into the middle of an answer.
ATTEMPTS = 5

#: How long the shell may take to say that it is there before it is asked again.
HELLO_SECONDS = 2.0

#: Between two looks into the console's log.
LOOK_SECONDS = 0.03


def logs_of(name: str) -> list[Path]:
    """Return where xenconsoled writes what guest *name* prints on hvc0; not each need exist."""
    return [CONSOLES / pattern.format(name) for pattern in LOG_NAMES]


def terminal_of(name: str) -> str:
    """Return the terminal that leads to hvc0 of guest *name* as it runs now; RuntimeError when it does not."""
    domid = _line("xl", "domid", name)
    return _line("xenstore-read", f"/local/domain/{domid}/console/tty")


def printed_by(name: str) -> bytes:
    """Return all that guest *name*, in all its lives, has printed on hvc0."""
    return b"".join(log.read_bytes() for log in logs_of(name) if log.exists())


class GuestShell:
    """The root shell on a guest's hvc0 (lab-shell), typed to through xenconsoled's terminal."""

    def __init__(
        self, find_terminal: Callable[[], str], logs: list[Path], deadline: float, still_wanted: Callable[[], None]
    ) -> None:
        self._find_terminal, self._logs, self._deadline, self._still_wanted = find_terminal, logs, deadline, still_wanted
        self._token = os.urandom(6).hex()
        self._terminal = ""

    def run(self, script: bytes) -> tuple[int, bytes]:
        """Run *script* in the guest and return its status and output; TimeoutError past the deadline."""
        self._ask("hello", "hello", patience=HELLO_SECONDS)
        text = base64.b64encode(script).decode()
        seconds = max(1, int(self._deadline - time.monotonic()))
        for _ in range(ATTEMPTS):
            self._type("new")
            for at in range(0, len(text), PIECE):
                self._type("add", text[at : at + PIECE])
            said = self._ask("run", "end", str(seconds), hashlib.sha256(script).hexdigest())
            for _ in range(ATTEMPTS):
                *lines, last = said
                if last[2:3] != ["garbled"] and (answer := self._decoded(lines, last)):
                    return answer
                if last[2:3] == ["garbled"]:
                    break
                said = self._ask("show", "end")
        raise RuntimeError("the guest's console garbled every attempt")

    @staticmethod
    def _decoded(lines: list[list[str]], last: list[str]) -> tuple[int, bytes] | None:
        with contextlib.suppress(ValueError, IndexError):
            output = base64.b64decode("".join(words[0] for words in lines if len(words) == 1), validate=True)
            if hashlib.sha256(output).hexdigest() == last[4]:
                return int(last[3]), output
        return None

    def _ask(self, command: str, until: str, *words: str, patience: float | None = None) -> list[list[str]]:
        """Type *command*, again every *patience* seconds; return the answer's lines as words, up to the one saying *until*."""
        while True:
            if command == "hello":  # Each reboot and migration has a terminal of its own.
                self._terminal = self._find_terminal()
            marks = {log: log.stat().st_size if log.exists() else 0 for log in self._logs}
            self._type(command, *words)
            give_up = self._deadline if patience is None else min(self._deadline, time.monotonic() + patience)
            while time.monotonic() < give_up:
                for log, mark in marks.items():
                    if (lines := self._between(log, mark, until)) is not None:
                        return lines
                time.sleep(LOOK_SECONDS)
                self._still_wanted()
            if time.monotonic() >= self._deadline:
                raise TimeoutError(f"no answer to '{command}' from the shell on hvc0")

    def _between(self, log: Path, mark: int, until: str) -> list[list[str]] | None:
        if not log.exists():
            return None
        with log.open("rb") as file:
            file.seek(mark)
            lines = [line.split() for line in file.read().decode("ascii", "replace").split("\n")[:-1]]
        ours = ["lab", self._token]
        ends = [number for number, words in enumerate(lines) if words[:2] == ours and words[2:3] in ([until], ["garbled"])]
        if not ends:
            return None
        begins = [number for number, words in enumerate(lines) if [*ours, "begin"] == words]
        return lines[begins[-1] + 1 if begins else ends[0] : ends[0] + 1]

    def _type(self, command: str, *words: str) -> None:
        with Path(self._terminal).open("wb", buffering=0) as terminal:
            terminal.write(" ".join([command, self._token, *words]).encode() + b"\n")


def _line(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout.strip()
