# SPDX-License-Identifier: Apache-2.0
"""The host's end of a pty: a channel for an agent that is measured, and the host that gives it one document."""

from __future__ import annotations

import os
import pty
import select
from typing import TYPE_CHECKING, Self

import msgspec

from pv_channel.messages import Provision, Result
from pv_channel.session import FromGuest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pv_channel.document import Document
    from pv_channel.session import Host

#: Generous: a process that takes this long has hung.
DEADLINE_SECONDS = 30


class Tty:
    """A pty whose far end stays open in its first, cooked state, as hvc is."""

    def __enter__(self) -> Self:
        self.master, self._slave = pty.openpty()
        self.name = os.ttyname(self._slave)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.master)
        os.close(self._slave)

    def has_something(self, seconds: float) -> bool:
        """Whether something comes within *seconds*."""
        return bool(select.select([self.master], [], [], seconds)[0])

    def read(self) -> bytes:
        """What comes next; raise `RuntimeError` where nothing comes any more."""
        if not self.has_something(DEADLINE_SECONDS):
            raise RuntimeError(f"the measured process said nothing for {DEADLINE_SECONDS} s")
        return os.read(self.master, 65536)

    def read_until(self, done: Callable[[bytes], bool]) -> bytes:
        """Everything up to where it is *done*."""
        data = b""
        while not done(data):
            data += self.read()
        return data


def provision(host: Host, tty: Tty, wanted: Document) -> Result:
    """Give the guest a document, over a session that stands; its answer."""
    host.send(Provision(msgspec.Raw(wanted.encode())))
    os.write(tty.master, host.data_to_send())
    while True:
        for event in host.receive(tty.read()):
            if isinstance(event, FromGuest) and isinstance(event.message, Result):
                os.write(tty.master, host.data_to_send())
                return event.message
        os.write(tty.master, host.data_to_send())
