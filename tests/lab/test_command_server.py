# SPDX-License-Identifier: Apache-2.0
"""dom0's command server, asked by the client that the lab uses, over the loopback instead of an emulated card."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import dom0
from lab.dom0 import Dom0
from lab.errors import LabError
from lab.inside import command_server
from lab.machine import Address, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Nothing here takes a second; a machine busy with other things may.
PATIENCE_SECONDS = 60.0


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dom0]:
    """A client of a server on a port of the loopback; the "machine" is this process."""
    monkeypatch.setattr(command_server, "SCRIPTS", str(tmp_path))
    monkeypatch.setattr(command_server, "HOME", str(tmp_path))
    monkeypatch.setattr(dom0, "LOOK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=command_server.serve, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        started = Path("/proc/self/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[19]
        yield Dom0(Machine(Address(os.getpid(), started, listener.getsockname()[1], tmp_path)))
        listener.shutdown(socket.SHUT_RDWR)


def wait_until_gone(pid: int) -> None:
    """Return when there is no process *pid*."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < give_up, f"process {pid} is still there"
        time.sleep(0.02)


def test_a_script_returns_its_status_and_both_of_its_outputs(asked: Dom0) -> None:
    done = asked.run("echo out; echo err >&2; exit 5", check=False)
    assert (done.status, done.output) == (5, "out\nerr\n")


def test_a_script_that_fails_is_an_error_that_shows_it_and_what_it_printed(asked: Dom0) -> None:
    with pytest.raises(LabError, match=r"(?s)status 1 of.*false.*printed:\nwhy"):
        asked.run("echo why; false")


def test_output_comes_while_the_script_runs(asked: Dom0, tmp_path: Path) -> None:
    heard: list[str] = []

    def hear(text: str) -> None:
        heard.append(text)
        (tmp_path / "go-on").touch()

    done = asked.run(f"echo one; while [ ! -e {tmp_path}/go-on ]; do sleep 0.02; done; echo two", live=hear)
    assert heard[0] == "one\n"
    assert done.output == "one\ntwo\n"


def test_a_script_ends_though_what_it_left_running_holds_its_output(asked: Dom0) -> None:
    done = asked.run("sleep 300 & echo $!")
    pid = int(done.output)
    assert Path(f"/proc/{pid}").exists()
    asked.run(f"kill {pid}")


def test_a_script_that_takes_too_long_is_ended(asked: Dom0, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"(?s)over 1 s.*begun"):
        asked.run(f"echo begun; echo $$ >{tmp_path}/pid; sleep 300", timeout=1)
    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_a_script_larger_than_an_argument_may_be_runs(asked: Dom0) -> None:
    assert asked.run("#" * 500_000 + "\necho ran").output == "ran\n"


def test_files_arrive_whole_with_their_mode(asked: Dom0, tmp_path: Path) -> None:
    noise = os.urandom(200_000)
    asked.put(str(tmp_path / "deep/noise"), noise, mode=0o600)
    assert asked.get(str(tmp_path / "deep/noise")) == noise
    assert (tmp_path / "deep/noise").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["noise"]


def test_a_file_that_is_not_there_is_an_error_that_says_so(asked: Dom0, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="No such file"):
        asked.get(str(tmp_path / "missing"))


def test_a_background_process_has_a_log_and_ends_with_what_it_started(asked: Dom0, tmp_path: Path) -> None:
    with asked.spawn(f"sleep 300 & echo $! >{tmp_path}/child; echo said; wait", log=str(tmp_path / "log")) as background:
        assert background.poll() is None
        give_up = time.monotonic() + PATIENCE_SECONDS
        while background.output() != "said\n":
            assert time.monotonic() < give_up
            time.sleep(0.02)
    assert background.poll() is not None
    wait_until_gone(int((tmp_path / "child").read_text()))


def test_nonsense_is_answered_and_the_server_goes_on(asked: Dom0) -> None:
    with pytest.raises(LabError, match="no operation nonsense"):
        asked._ask({"op": "nonsense"}, b"", 5)
    with pytest.raises(LabError, match="KeyError"):
        asked._ask({"op": "put"}, b"", 5)
    assert asked.run("echo on").output == "on\n"
