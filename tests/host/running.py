# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent` as a process of its own, on a terminal or a pipe, read while it runs."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

DEADLINE_SECONDS = 60.0
TOP = Path(__file__).parents[2]


class Running:
    """The command with these words; where *terminal* is (rows, columns), on a terminal of that size."""

    def __init__(self, *words: str, terminal: tuple[int, int] | None = None) -> None:
        self._words, self._terminal = words, terminal
        self.text = ""

    def __enter__(self) -> Self:
        self._ours, theirs = os.pipe() if self._terminal is None else os.openpty()
        if self._terminal is not None:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", *self._terminal, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "host_agent", *self._words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=TOP,
            env=environment | {"TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(theirs)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def read_until(self, words: str) -> None:
        """Read what it prints into *text* until *words* are in it."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while words not in self.text:
            assert self._read(deadline), f"{words!r} did not come: {self.text!r}"

    def interrupt(self) -> int:
        """Ctrl-C; its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Read to its end; its exit status."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self._read(deadline):
            pass
        return self.process.wait(DEADLINE_SECONDS)

    def _read(self, deadline: float) -> bool:
        readable, _, _ = select.select([self._ours], [], [], max(deadline - time.monotonic(), 0))
        assert readable, f"nothing more came: {self.text!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # EIO: it was the last who had the terminal
            return False
        self.text += data.decode()
        return bool(data)
