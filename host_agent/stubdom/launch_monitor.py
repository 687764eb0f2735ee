# SPDX-License-Identifier: Apache-2.0
"""The launcher's own monitor of QEMU, a socket without a name: the toolstack has the other, which takes one client at a time."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Final

#: QEMU's greeting and answers have a few hundred bytes.
MAX_LINE_BYTES: Final = 64 * 1024


class Monitor:
    """Our end, and QEMU's until `handed_over`. It never blocks: ask `taken` when `descriptor` can be read."""

    def __init__(self) -> None:
        self._ours, self.qemus = socket.socketpair()
        self._ours.setblocking(False)
        self._buffer = b""
        self._closed = False

    @property
    def descriptor(self) -> int | None:
        """Can be read when there is something new; None once there will be nothing any more."""
        return None if self._closed else self._ours.fileno()

    def handed_over(self) -> None:
        """QEMU has its end; ours tells from now on when QEMU closes it."""
        self.qemus.close()

    def close(self) -> None:
        """Have done with it. QEMU goes on."""
        self._ours.close()
        self.qemus.close()

    def ask(self, command: str) -> None:
        """Send *command*, which has no arguments. What keeps it from being sent is told by QEMU's end."""
        with suppress(OSError):
            self._ours.send(json.dumps({"execute": command}).encode("ascii") + b"\r\n")

    def taken(self) -> list[dict[str, object]]:
        """What QEMU said since the last time; nothing from a line that is not an object."""
        try:
            data = self._ours.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return []
        except OSError:  # QEMU died with something of ours unread
            data = b""
        self._closed = not data
        *lines, rest = (self._buffer + data).split(b"\n")
        self._buffer = rest[-MAX_LINE_BYTES:]
        return [said for line in lines if isinstance(said := _read(line), dict)]


def _read(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
