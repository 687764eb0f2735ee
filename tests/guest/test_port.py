# SPDX-License-Identifier: Apache-2.0
"""The port on a real pty: nothing that was written before the open is lost, and every end of it is one error."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import serial

from guest_agent.port import DRAIN_BYTES, Port, PortBusy, PortGone, PortRefused
from tests.guest.channel_ends import Tty

if TYPE_CHECKING:
    from collections.abc import Iterator

GREETING = b"\n> a greeting that waits\n"


@pytest.fixture
def tty() -> Iterator[Tty]:
    """A cooked pty."""
    with Tty() as made:
        yield made


def read_for(port: Port, size: int) -> bytes:
    """At least *size* bytes."""
    data, deadline = b"", time.monotonic() + 10
    while len(data) < size and time.monotonic() < deadline:
        data += port.read(0.2)
    return data


def test_what_was_written_before_the_open_arrives(tty: Tty) -> None:
    os.write(tty.master, GREETING)
    with Port(tty.path) as port:
        assert read_for(port, len(GREETING)) == GREETING


def test_what_was_written_before_the_open_is_lost_by_pyserials_own_open(tty: Tty) -> None:
    """The control of the test above: if pyserial stops flushing, ours has no reason to differ."""
    os.write(tty.master, GREETING)
    with serial.Serial(tty.path, timeout=0.3) as port:
        assert port.read(100) == b""


def test_a_line_without_an_end_that_was_written_before_the_open_arrives_too(tty: Tty) -> None:
    os.write(tty.master, b"> half a gree")
    with Port(tty.path) as port:
        assert read_for(port, 13) == b"> half a gree"


def test_an_open_port_changes_no_byte_in_either_direction(tty: Tty) -> None:
    every = bytes(range(256))
    with Port(tty.path) as port:
        os.write(tty.master, every)
        assert read_for(port, 256) == every
        port.write(every)
        assert os.read(tty.master, 1000) == every


def test_an_open_port_does_not_echo(tty: Tty) -> None:
    with Port(tty.path) as port:
        os.write(tty.master, b"hello\n")
        read_for(port, 6)
        port.write(b"answer")
        assert os.read(tty.master, 1000) == b"answer"


def test_raw_is_raw(tty: Tty) -> None:
    with Port(tty.path) as port:
        iflag, oflag, cflag, lflag, _, _, cc = termios.tcgetattr(os.open(port.path, os.O_RDWR | os.O_NOCTTY))
        assert (iflag, oflag, lflag) == (0, 0, 0)
        assert cflag & termios.CSIZE == termios.CS8
        assert cc[termios.VMIN] == 1


def test_a_second_open_is_refused_and_harms_nothing(tty: Tty) -> None:
    with Port(tty.path) as port:
        with pytest.raises(PortBusy, match="another program holds it"):
            Port(tty.path)
        os.write(tty.master, b"still here")
        assert read_for(port, 10) == b"still here"


def test_a_closed_port_can_be_opened_again(tty: Tty) -> None:
    Port(tty.path).close()
    Port(tty.path).close()


def test_the_tty_does_not_become_the_controlling_terminal(tty: Tty) -> None:
    code = "import os, sys; os.setsid(); from guest_agent.port import Port; Port(sys.argv[1]); os.open('/dev/tty', os.O_RDWR)"
    done = subprocess.run([sys.executable, "-c", code, tty.path], capture_output=True, text=True)
    assert "No such device or address: '/dev/tty'" in done.stderr


def test_nothing_comes_back_as_nothing(tty: Tty) -> None:
    with Port(tty.path) as port:
        assert port.read(0.01) == b""


def test_one_read_takes_all_that_waits(tty: Tty) -> None:
    """Of many queued greetings only the last shall be answered."""
    lines = b"".join(b"> greeting %4d\n" % number for number in range(200))
    with Port(tty.path) as port:
        os.write(tty.master, lines)
        time.sleep(0.1)
        assert port.read(1) == lines


def test_one_read_ends_although_the_host_never_does(tty: Tty) -> None:
    code = "import os, sys\nwhile True: os.write(int(sys.argv[1]), b'A' * 4096)"
    with Port(tty.path) as port:
        flood = subprocess.Popen([sys.executable, "-c", code, str(tty.master)], pass_fds=[tty.master])
        try:
            for _ in range(20):
                assert len(port.read(5)) <= DRAIN_BYTES
        finally:
            flood.kill()
            flood.wait()


def test_a_hang_up_is_a_port_that_is_gone(tty: Tty) -> None:
    with Port(tty.path) as port:
        tty.hang_up()
        with pytest.raises(PortGone):
            port.read(1)
        with pytest.raises(PortGone):
            port.write(b"anybody?")


class FakeRead:
    """os.read of a tty that gives these answers in turn: how a kernel says that a tty is gone differs from kernel to kernel."""

    def __init__(self, *answers: bytes | OSError) -> None:
        self._answers = list(answers)

    def __call__(self, _descriptor: int, _size: int) -> bytes:
        answer = self._answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.mark.parametrize("end", [b"", *(OSError(number, "gone") for number in (errno.EIO, errno.ENODEV, errno.ENXIO))], ids=repr)
def test_every_end_of_a_tty_is_the_same_end_and_what_came_before_it_is_read_first(
    tty: Tty, monkeypatch: pytest.MonkeyPatch, end: bytes | OSError
) -> None:
    """After a restore an open hvc returns ``b''`` for ever; unplugged it is ENODEV; a hung-up tty is EIO."""
    with Port(tty.path) as port:
        os.write(tty.master, b"something")
        monkeypatch.setattr("os.read", FakeRead(b"last words", end, end))
        assert port.read(1) == b"last words"
        with pytest.raises(PortGone, match=tty.path):
            port.read(1)


def test_a_write_that_nobody_takes_ends(tty: Tty) -> None:
    with Port(tty.path) as port:
        began = time.monotonic()
        with pytest.raises(PortGone, match="not taken within"):
            port.write(bytes(1024 * 1024), seconds=0.3)
        assert time.monotonic() - began < 5


def test_the_primary_console_is_refused_by_any_name(tmp_path: Path) -> None:
    alias = tmp_path / "channel"
    alias.symlink_to("/dev/hvc0")
    for path in ("/dev/hvc0", "/dev/../dev/hvc0", str(alias)):
        with pytest.raises(PortRefused, match="primary console"):
            Port(path)


def test_the_primary_console_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch, tty: Tty) -> None:
    """A device node of another name; making a real one takes root."""
    number = Path(tty.path).stat().st_rdev
    monkeypatch.setattr("guest_agent.port._HVC_MAJOR", os.major(number))
    monkeypatch.setattr("os.makedev", lambda _major, _minor: number)
    with pytest.raises(PortRefused, match="primary console"):
        Port(tty.path)


def test_what_is_no_tty_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(PortRefused, match="expected a tty"):
        Port(str(path))


def test_a_tty_that_is_not_there_yet_is_gone_and_not_refused(tmp_path: Path) -> None:
    with pytest.raises(PortGone):
        Port(str(tmp_path / "hvc1"))


def test_a_failed_open_leaves_no_descriptor_open(tty: Tty) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with Port(tty.path):
        before = count()
        for _ in range(5):
            with pytest.raises(PortBusy):
                Port(tty.path)
        assert count() == before


def test_a_flock_by_somebody_else_is_respected(tty: Tty) -> None:
    other = os.open(tty.path, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(other, fcntl.LOCK_EX)
    try:
        with pytest.raises(PortBusy):
            Port(tty.path)
    finally:
        os.close(other)
