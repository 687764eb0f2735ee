# SPDX-License-Identifier: Apache-2.0
"""Tell systemd how we are: sd_notify(3). Where no systemd asked, do nothing."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """systemd's notification socket, or nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if ours else ""
        #: Between two signs of life: half of what systemd allows, as sd_watchdog_enabled(3) advises. None: none is wanted.
        self.watchdog_seconds = int(microseconds) / 2e6 if microseconds.isdecimal() and int(microseconds) else None

    def ready(self, status: str) -> None:
        """Up, or done with reloading."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(f"STATUS={text}")

    def reloading(self) -> None:
        """Until the next `ready`. Since when is for Type=notify-reload, which not every systemd has."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        """A sign of life, for the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """On the way out."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, text: str) -> None:
        """Send *text*; a notify socket that is gone, or full, is no reason to stop or to wait."""
        if self._address[:1] not in ("/", "@"):
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
            try:
                end.setblocking(False)
                end.sendto(text.encode(), address)
            except OSError:  # systemd restarts; it asks again by itself
                return
