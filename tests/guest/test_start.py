# SPDX-License-Identifier: Apache-2.0
"""The start is a budget: what must not be loaded before the first greeting is answered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pv_channel import CHANNEL_NAME
from pv_channel.greeting import NO_UUID
from pv_channel.noise import KeyPair
from pv_channel.session import Host

TOP = Path(__file__).parent.parent.parent

#: Answer one greeting and say what is loaded by then; the pty's far end is this process.
CODE = """
import os, pty, sys, threading
from guest_agent.__main__ import main
master, slave = pty.openpty()
os.write(master, bytes.fromhex(sys.argv[1]))
def end():
    heard = b""
    while b"\\n< " not in heard:
        heard += os.read(master, 65536)
    sys.stdout.write("\\n".join(sorted(sys.modules)))
    sys.stdout.flush()
    os._exit(0)
threading.Thread(target=end).start()
main(["run", "--tty", os.ttyname(slave), "--root", sys.argv[2]])
"""

#: Milliseconds each, by -X importtime, on the machine where this was written: 1 to 60.
UNWANTED = (
    "asyncio",
    "dataclasses",
    "hashlib",
    "host_agent",
    "importlib.metadata",
    "json",
    "logging",
    "pathlib",
    "pv_channel.document",
    "pv_channel.host",
    "pyudev",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "yaml",
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """The modules of an agent that has answered its first greeting."""
    host = Host(channel=CHANNEL_NAME.encode(), uuid=NO_UUID, key=KeyPair.generate(), random_bytes=os.urandom)
    host.greet()
    command = [sys.executable, "-c", CODE, host.data_to_send().hex(), str(tmp_path_factory.mktemp("root"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOP, timeout=60)
    assert "guest_agent.run" in done.stdout, done.stderr
    return frozenset(done.stdout.split())


@pytest.mark.parametrize("module", UNWANTED)
def test_the_first_greeting_is_answered_without(loaded: frozenset[str], module: str) -> None:
    assert module not in loaded
