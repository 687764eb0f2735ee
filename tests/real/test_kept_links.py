# SPDX-License-Identifier: Apache-2.0
"""Two real QEMUs on one socket path, of which the old one removes the new one's when it ends. Needs root and QEMU."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from host_agent.channels import kept_links
from host_agent.channels.connect import open_stream
from host_agent.channels.endpoint import Domain, Endpoint
from host_agent.channels.peer import expected
from host_agent.channels.sockets import made
from host_agent.errors import Unreachable
from pv_channel.greeting import NO_UUID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE_SECONDS = 60


class Qemus:
    """QEMUs without a machine: nothing but the chardev that libxl gives a channel."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """One that listens at the path, and has got as far as answering over QMP: before, it would just die of a signal."""
        chardev = f"socket,id=libxl-channel0,path={self.path},server=on,wait=off"
        words = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "none", "-qmp", "stdio", "-chardev"]
        qemu = subprocess.Popen([*words, chardev], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._running.append(qemu)
        assert qemu.stdin is not None
        assert qemu.stdout is not None
        assert qemu.stdout.readline().startswith(b'{"QMP"')
        qemu.stdin.write(b'{"execute": "qmp_capabilities"}\n')
        qemu.stdin.flush()
        assert qemu.stdout.readline().startswith(b'{"return"')
        return qemu

    def end(self) -> None:
        for qemu in self._running:
            if qemu.poll() is None:
                qemu.kill()
            qemu.communicate()


def stop(qemu: subprocess.Popen[bytes]) -> None:
    """As libxl does: QEMU ends in good order, and removes what is at its path."""
    qemu.send_signal(signal.SIGTERM)
    qemu.wait(DEADLINE_SECONDS)


@pytest.fixture
def qemus(tmp_path: Path) -> Iterator[Qemus]:
    found = Qemus(tmp_path / "vm.sock")
    try:
        yield found
    finally:
        found.end()


def test_the_socket_that_a_dying_qemu_removes_is_its_successors_and_comes_back(qemus: Qemus) -> None:
    old = qemus.start()
    kept_links.keep(qemus.path)
    new = qemus.start()
    kept_links.keep(qemus.path)
    stop(old)
    assert not qemus.path.exists(), "this QEMU left its successor's socket alone"
    descriptor, put_back = kept_links.connect(qemus.path, expected(None))
    os.close(descriptor)
    assert put_back
    os.close(open_stream(Endpoint(qemus.path, domain=Domain(8, NO_UUID, "vm", new.pid))))
    stop(new)
    with pytest.raises(Unreachable):
        kept_links.connect(qemus.path, expected(None))
    assert list(qemus.path.parent.iterdir()) == []


def test_a_second_link_leads_to_the_old_qemu_where_the_new_one_fails(qemus: Qemus) -> None:
    old = qemus.start()
    kept_links.keep(qemus.path)
    before = made(qemus.path)
    new = qemus.start()
    kept_links.keep(qemus.path)
    stop(new)
    assert not qemus.path.exists()
    descriptor, put_back = kept_links.connect(qemus.path, expected(Domain(7, NO_UUID, "vm", old.pid)))
    os.close(descriptor)
    assert put_back
    assert made(qemus.path) == before


def test_the_kernel_names_qemu_as_the_one_that_listens(qemus: Qemus) -> None:
    """SO_PEERCRED is QEMU's own: what peer.py compares with the device model's pid in xenstore."""
    import socket
    import struct

    qemu = qemus.start()
    with socket.socket(fileno=open_stream(Endpoint(qemus.path))) as end:
        credentials = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    assert credentials[:2] == (qemu.pid, os.geteuid())
