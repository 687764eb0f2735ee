# SPDX-License-Identifier: Apache-2.0
"""A program of another user where a VM's QEMU should be: it is told of, and gets not one byte. Needs root."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from host_agent.channels.connect import open_stream
from host_agent.channels.endpoint import Domain, Endpoint
from host_agent.errors import Unreachable
from pv_channel.greeting import NO_UUID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = 65534
DEADLINE_SECONDS = 60
#: Binds as root and listens as nobody, or does both as nobody; then says so, and writes down what it is sent.
SQUATTER = """
import os, socket, sys
path, heard, first = sys.argv[1], sys.argv[2], sys.argv[3]
output = open(heard, "ab", buffering=0)
end = socket.socket(socket.AF_UNIX)
os.chdir(os.path.dirname(path))
if first == "give-up-root":
    os.setresuid(65534, 65534, 65534)
end.bind(os.path.basename(path))
if first == "bind":
    os.setresuid(65534, 65534, 65534)
end.listen(8)
print("listening", flush=True)
while True:
    client, _ = end.accept()
    while data := client.recv(65536):
        output.write(data)
    output.write(b".")
"""


class Squatter:
    """A process of user nobody that listens at *path*, bound there by root or by itself."""

    def __init__(self, path: Path, heard: Path, first: str) -> None:
        self.path, self._heard = path, heard
        words = [sys.executable, "-c", SQUATTER, str(path), str(heard), first]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"listening\n"

    def heard(self) -> bytes:
        """All that it was sent, with a dot for each connection that ended: there has been one more now."""
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(os.fspath(self.path))
            last.sendall(b"last")
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._heard.read_bytes().endswith(b"last."):
            assert time.monotonic() < deadline, "the squatter heard nothing of us at all"
        return self._heard.read_bytes().removesuffix(b"last.")

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Squatter]]:
    if os.geteuid() != 0:
        pytest.fail("these tests need root")
    made: list[Squatter] = []
    yield made
    for each in made:
        each.end()


def word_of(endpoint: Endpoint) -> tuple[str, str]:
    with pytest.raises(Unreachable) as caught:
        os.close(open_stream(endpoint))
    return caught.value.word, str(caught.value)


def test_a_program_of_another_user_behind_roots_socket_is_left_before_a_byte(tmp_path: Path, started: list[Squatter]) -> None:
    squatter = Squatter(tmp_path / "vm.sock", tmp_path / "heard", "bind")
    started.append(squatter)
    word, text = word_of(Endpoint(squatter.path))
    assert word == "squatted"
    assert f"process {squatter.process.pid} of uid {NOBODY} listens here" in text
    assert squatter.heard() == b"."


def test_a_socket_that_another_user_made_is_not_even_connected_to(tmp_path: Path, started: list[Squatter]) -> None:
    (tmp_path / "open").mkdir()
    os.chown(tmp_path / "open", NOBODY, NOBODY)
    squatter = Squatter(tmp_path / "open/vm.sock", tmp_path / "heard", "give-up-root")
    started.append(squatter)
    word, text = word_of(Endpoint(squatter.path))
    assert (word, f"a file of uid {NOBODY}" in text) == ("squatted", True)
    os.chown(squatter.path, 0, 0)
    word, text = word_of(Endpoint(squatter.path))
    assert (word, f"belongs to uid {NOBODY}" in text) == ("squatted", True)
    assert squatter.heard() == b""


def test_a_directory_that_a_group_may_write_to_is_not_used(tmp_path: Path, started: list[Squatter]) -> None:
    squatter = Squatter(tmp_path / "vm.sock", tmp_path / "heard", "as-root")
    started.append(squatter)
    os.close(open_stream(Endpoint(squatter.path)))
    os.chown(tmp_path, 0, NOBODY)
    tmp_path.chmod(0o770)
    word, text = word_of(Endpoint(squatter.path))
    assert (word, f"the group {NOBODY} may write there" in text) == ("squatted", True)


def test_a_qemu_that_gave_up_root_before_it_listened_is_known_by_its_pid(tmp_path: Path, started: list[Squatter]) -> None:
    qemu = Squatter(tmp_path / "vm.sock", tmp_path / "heard", "bind")
    started.append(qemu)
    os.chown(qemu.path, NOBODY, NOBODY)
    its_own = Domain(7, NO_UUID, "vm", qemu.process.pid)
    os.close(open_stream(Endpoint(qemu.path, domain=its_own)))
    assert word_of(Endpoint(qemu.path, domain=its_own._replace(device_model=os.getpid())))[0] == "squatted"


def test_a_push_to_a_squatter_ends_at_once_and_says_who_it_is(tmp_path: Path, started: list[Squatter]) -> None:
    squatter = Squatter(tmp_path / "vm.sock", tmp_path / "heard", "bind")
    started.append(squatter)
    (tmp_path / "vm.yaml").write_text("instance-id: i-1\nlocal-hostname: web1\n")
    words = ["push", "--json", "--socket", str(squatter.path), "--state", str(tmp_path / "state"), str(tmp_path / "vm.yaml")]
    done = subprocess.run([sys.executable, "-m", "host_agent", *words], capture_output=True, timeout=120)
    result = json.loads(done.stdout)
    assert (done.returncode, result["outcome"]) == (1, "unreachable")
    assert f"process {squatter.process.pid} of uid {NOBODY}" in result["error"]
    assert squatter.heard() == b"."
