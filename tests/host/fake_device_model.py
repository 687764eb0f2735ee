# SPDX-License-Identifier: Apache-2.0
"""A process that passes for a domain's QEMU: its command line, and the sockets of channels that it listens on; no Xen, no guest.

Run as a program it is that process: its arguments are ``deaf`` or ``hearing``, then QEMU's own. It serves one client at a time,
as QEMU does, reads what that one says (unless it is deaf) and answers nothing.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class FakeDeviceModel:
    """The QEMU of *domid*, in a `with`: it has a chardev for each of *paths*, and listens on those in *listens* (all of them)."""

    def __init__(self, domid: int, paths: Sequence[Path], listens: Sequence[Path] | None = None, *, deaf: bool = False) -> None:
        self._listens = list(paths if listens is None else listens)
        self._argv = ["-xen-domid", str(domid), "-chardev", f"socket,id=libxl-cmd,path=/run/xen/qmp-libxl-{domid},server=on"]
        for index, path in enumerate(paths):
            self._argv += ["-chardev", f"socket,id=libxl-channel{index},path={path},server=on,wait=off"]
        self._deaf = deaf

    @property
    def pid(self) -> int:
        """The process's."""
        return self._process.pid

    def __enter__(self) -> Self:
        words = ["deaf" if self._deaf else "hearing", str(len(self._listens)), *map(str, self._listens)]
        python = [sys.executable, "-I", "-S", __file__]
        self._process = subprocess.Popen([*python, *words, *self._argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def wait(self) -> None:
        """Until it has ended, by itself or because somebody killed it."""
        self._process.wait()


def _serve(paths: Sequence[str], *, deaf: bool) -> None:
    """Until standard input ends: one client of each path at a time."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    for path in paths:
        Path(path).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        selector.register(listener, selectors.EVENT_READ)
    print("ready", flush=True)
    listener_of: dict[socket.socket, socket.socket] = {}
    while True:
        for key, _ in selector.select():
            end = key.fileobj
            if not isinstance(end, socket.socket):
                return
            if end not in listener_of:
                client, _ = end.accept()
                listener_of[client] = end
                selector.unregister(end)
                if not deaf:
                    selector.register(client, selectors.EVENT_READ)
            elif not end.recv(65536):
                selector.unregister(end)
                selector.register(listener_of.pop(end), selectors.EVENT_READ)
                end.close()


if __name__ == "__main__":
    _serve(sys.argv[3 : 3 + int(sys.argv[2])], deaf=sys.argv[1] == "deaf")
