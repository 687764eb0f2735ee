# SPDX-License-Identifier: Apache-2.0
"""Tell systemd how the agent is: sd_notify(3), and when the boot need wait for it no longer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How much longer systemd is to wait for a start that goes from one item of a first document to the next.
ITEM_SECONDS: Final = 180
#: A sleep without a watchdog and without anything else due; an arbitrary long time.
_LONG: Final = 3600.0


class Notifier:
    """systemd's notification socket, or nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if ours else ""
        #: Seconds between two signs of life: half of what systemd allows, as sd_watchdog_enabled(3) advises. 0: none wanted.
        self.watchdog_seconds = int(microseconds) / 2e6 if microseconds.isdigit() else 0.0

    def send(self, text: str) -> None:
        """Send *text*; whether anybody reads it is not the agent's concern."""
        if self._address[:1] not in ("/", "@"):
            return
        import socket  # only a started unit needs it

        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.settimeout(1)
                sock.sendto(text.encode(), address)
            except OSError:  # systemd is being re-executed, or is not what set the variable
                return


class Readiness:
    """When the boot may go on. A provisioned guest: when its port is open. Another: when it answered its first document.

    In either case after *wait* seconds; a host that turns up in time has *wait* seconds more to say what it wants.
    """

    def __init__(self, notifier: Notifier, *, provisioned: bool, wait: float, now: float) -> None:
        self._notifier = notifier
        self._provisioned, self._wait = provisioned, wait
        self._deadline = now + wait
        self._sign_of_life = now
        self._host_spoke = False
        self.ready = False

    def port_is_open(self) -> None:
        """The tty is ours."""
        self._notifier.send("STATUS=waiting for the host")
        if self._provisioned:
            self._go_on("the machine is provisioned already")

    def host_spoke(self, now: float) -> None:
        """The host proved who it is."""
        self._notifier.send("STATUS=in conversation with the host")
        if not self._host_spoke:
            self._host_spoke, self._deadline = True, now + self._wait

    def answered(self, status: str) -> None:
        """A document was answered."""
        self._notifier.send(f"STATUS={status}")
        self._go_on(status)

    def check(self, now: float, *, working: bool = False) -> float:
        """Do what is due; return the seconds until something is again. While *working* on a document the boot waits.

        Working is a word between two items, so that a start takes as long as its slowest item may.
        """
        if not self.ready and now >= self._deadline and not working:
            self._go_on(f"no document within {self._wait:g} s; the boot goes on without")
        if not self.ready and working:
            self._notifier.send(f"EXTEND_TIMEOUT_USEC={ITEM_SECONDS * 1_000_000}")
        due = _LONG if self.ready else self._deadline - now
        if self._notifier.watchdog_seconds:
            if now >= self._sign_of_life + self._notifier.watchdog_seconds:
                self._notifier.send("WATCHDOG=1")
                self._sign_of_life = now
            due = min(due, self._sign_of_life + self._notifier.watchdog_seconds - now)
        return max(due, 0.0)

    def _go_on(self, status: str) -> None:
        if not self.ready:
            self.ready = True
            self._notifier.send(f"READY=1\nSTATUS={status}")
