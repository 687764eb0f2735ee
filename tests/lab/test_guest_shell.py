# SPDX-License-Identifier: Apache-2.0
"""The root shell on hvc0 and whoever types to it, over a pty that stands in for the ring and xenconsoled."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.guests import READY, readable
from lab.inside.guest_shell import GuestShell
from lab.kernel import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The shell answers in milliseconds; a machine busy with other things may take longer.
PATIENCE_SECONDS = 60.0


class Console:
    """A lab-shell on a tty, and a log of what it prints there."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "guest.log"
        self.noise = b""
        self._master, tty = pty.openpty()
        self.terminal = f"/proc/self/fd/{self._pipe()}"
        self._shell = subprocess.Popen(
            ["bash", FILES / "lab-shell"],
            stdin=tty,
            stdout=tty,
            env={**os.environ, "LAB_SHELL_DIRECTORY": str(directory / "shell")},
        )
        os.close(tty)
        threading.Thread(target=self._write_log, daemon=True).start()

    def _pipe(self) -> int:
        """What is typed goes through a pipe, as bytes go through xenconsoled: the tty's own settings are the guest's alone."""
        read_end, self._typed = os.pipe()

        def pass_on() -> None:
            while data := os.read(read_end, 4096):
                os.write(self._master, data)
            os.close(read_end)

        self._passing = threading.Thread(target=pass_on, daemon=True)
        self._passing.start()
        return self._typed

    def _write_log(self) -> None:
        with self.log.open("ab", buffering=0) as log:
            while True:
                try:
                    data = os.read(self._master, 512)
                except OSError:  # EIO: the shell is gone
                    return
                if self.noise and b" begin\n" in data:
                    data, self.noise = data.replace(b" begin\n", b" begin\n" + self.noise), b""
                log.write(data)

    def ask(self, script: str, seconds: float = PATIENCE_SECONDS) -> tuple[int, bytes]:
        """Run *script* there."""
        return GuestShell(lambda: self.terminal, [self.log], time.monotonic() + seconds, lambda: None).run(script.encode())

    def close(self) -> None:
        """End the shell."""
        self._shell.kill()
        self._shell.wait()
        os.close(self._typed)
        self._passing.join()
        os.close(self._master)


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    """A console with a shell on it."""
    opened = Console(tmp_path)
    yield opened
    opened.close()


def test_a_script_returns_its_status_and_every_byte(console: Console) -> None:
    assert console.ask("exit 7") == (7, b"")
    assert console.ask("printf 'a\\tb\\r\\n\\000\\377'; echo err >&2") == (0, b"a\tb\r\n\x00\xffer" + b"r\n")


def test_scripts_and_outputs_longer_than_a_terminal_line_pass(console: Console) -> None:
    script = "\n".join(f"# {number:060}" for number in range(300)) + "\nseq 5000\n"
    assert console.ask(script) == (0, "".join(f"{number}\n" for number in range(1, 5001)).encode())


def test_a_kernel_message_in_the_middle_of_an_answer_is_left_out_or_asked_around(console: Console) -> None:
    console.noise = b"[   12.345678] xenbus: something of no matter\n"
    assert console.ask("echo one") == (0, b"one\n")
    console.noise = b"garbage"
    assert console.ask("echo two") == (0, b"two\n")


def test_what_is_no_command_is_dropped(console: Console) -> None:
    with Path(console.terminal).open("wb", buffering=0) as terminal:
        terminal.write(b"AT+GCAP\r\nrun\nrun ; reboot\n" + b"x" * 3000 + b"\n")
    assert console.ask("echo here") == (0, b"here\n")


def test_a_script_that_takes_too_long_is_ended_and_the_shell_goes_on(console: Console) -> None:
    assert console.ask("sleep 300", seconds=3)[0] == 124
    assert console.ask("echo on") == (0, b"on\n")


def test_no_answer_is_a_timeout(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    with pytest.raises(TimeoutError, match="hello"):
        GuestShell(lambda: os.devnull, [tmp_path / "log"], time.monotonic() + 0.2, lambda: None).run(b"true")


def test_a_reader_of_a_console_is_spared_the_labs_own_traffic(console: Console) -> None:
    console.ask("seq 100")
    printed = b"before\r\n" + console.log.read_bytes() + b"\nDOMU READY running at uptime 20.5\r\nafter\r\n"
    assert readable(printed) == "before\n\nDOMU READY running at uptime 20.5\nafter\n"


def test_what_a_guest_says_in_the_middle_of_an_answer_is_read(console: Console) -> None:
    console.noise = b"MTk5\nDOMU READY running at uptime 20.5\n"
    assert console.ask("seq 100")[0] == 0
    found = READY.search(readable(console.log.read_bytes()))
    assert found is not None
    assert found.group(1) == "running"
