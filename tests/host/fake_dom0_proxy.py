# SPDX-License-Identifier: Apache-2.0
"""A fake of Xen's vchan-socket-proxy, dom0's end, without a hypervisor: its vchan is the unix socket of a QEMU's monitor.

Run as a program it is that process; its arguments are the monitor's socket and then the real one's. It keeps what was seen of
the real one: it serves one client at a time, says that it runs once it could, ends without a word when a client leaves replies
unread, and where there is no QEMU, or no longer one, its client hangs. Python's own library is all that it needs.
"""

from __future__ import annotations

import os
import selectors
import shlex
import socket
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_WRITE = 11


def program(directory: Path, monitor: Path) -> Path:
    """An executable file in *directory* that is the proxy to *monitor*."""
    path = directory / "vchan-socket-proxy"
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-I", "-S", __file__, str(monitor)])} "$@"\n')
    path.chmod(0o700)
    return path


def _say_running(node: str) -> None:
    payload = node.encode() + b"\0running"
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(os.environ["XENSTORED_PATH"])
        end.sendall(struct.pack("=IIII", _WRITE, 1, 0, len(payload)) + payload)
        end.recv(4096)


def _serve(monitor: str, listener: socket.socket) -> None:
    while True:
        client, _ = listener.accept()
        with client, socket.socket(socket.AF_UNIX) as qemu:
            try:
                qemu.connect(monitor)
            except OSError:
                _await_leaving(client)
                continue
            if _relay(client, qemu):
                _await_leaving(client)


def _relay(client: socket.socket, qemu: socket.socket) -> bool:
    """Bytes both ways until one of them leaves; whether that was QEMU."""
    with selectors.DefaultSelector() as selector:
        for end in (client, qemu):
            selector.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                data = key.fileobj.recv(8192)  # type: ignore[union-attr]  # both are sockets
                if not data:
                    return key.fileobj is qemu
                try:
                    (qemu if key.fileobj is client else client).sendall(data)
                except BrokenPipeError:  # by SIGPIPE
                    os._exit(141)


def _await_leaving(client: socket.socket) -> None:
    while client.recv(8192):
        pass


def _main(monitor: str, *arguments: str) -> None:
    options = [each for each in arguments if each.startswith("-")]
    _domid, _node, place = [each for each in arguments if not each.startswith("-")]
    listener = socket.socket(fileno=int(place))
    for option in options:
        if option.startswith("--state-path="):
            _say_running(option.partition("=")[2])
    _serve(monitor, listener)


if __name__ == "__main__":
    _main(*sys.argv[1:])
