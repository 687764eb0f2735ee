# SPDX-License-Identifier: Apache-2.0
"""The directories of one host, and a service over them in this process: the same code as the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from host_agent.channels.discovery import Discovery
from host_agent.channels.sources import Sources
from host_agent.errors import LedgerTrouble
from host_agent.keys import Identity
from host_agent.ledger.ledger import Ledger
from host_agent.service import Service
from host_agent.talk.timing import Timing
from host_agent.views.status import View
from pv_channel.noise import KeyPair
from tests.host.fakes import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from host_agent.channels.sources import Follower
    from host_agent.errors import BadFile
    from host_agent.service import Beside
    from tests.host.fakes import FakeGuest

#: As the daemon's, but it looks at the directories more often, and loses patience sooner.
TIMING = Timing(
    look_every=0.03, between_looks=0.01, between_greetings=0.02, first_greetings=(0.05,), greeting_every=0.1, after_refusal=0.2,
    missing=0.2, unread=0.3, answer=0.5,
)  # fmt: skip
IDENTITY = Identity(KeyPair.generate())
DEADLINE_SECONDS = 20.0


class Dom0:
    """The directories of one host; *work* is where they are."""

    def __init__(self, work: Path) -> None:
        self.documents, self.sockets, self.state = work / "documents", work / "sockets", work / "state"
        self.libvirts, self.xenstored = work / "libvirts", work / "xenstored"
        for directory in (self.documents, self.sockets):
            directory.mkdir(mode=0o700)
        self.identity = IDENTITY
        #: Why its key cannot be read now.
        self.trouble: BadFile | None = None
        self.ledger: type[Ledger] = Ledger
        self.timing = TIMING
        self.discover: Callable[[Callable[[], None]], Follower] | None = None
        #: What is at work beside the service.
        self.beside: list[Beside] = []

    def with_xen(self) -> None:
        """Follow the xenstore daemon at `xenstored`."""
        self.discover = partial(Discovery, paths=[self.xenstored])

    def document(self, name: str, hostname: str, **more: str) -> None:
        extra = "".join(f"{key}: {value}\n" for key, value in more.items())
        (self.documents / f"{name}.yaml").write_text(f"instance-id: i-{name}\nlocal-hostname: {hostname}\n{extra}")

    def vm(self, name: str) -> dict[str, Any]:
        """What is on record of a VM, by its name or uuid."""
        try:
            view = View(self.state)
        except LedgerTrouble:
            return {}
        try:
            return view.one(name) or {}
        finally:
            view.close()

    def stands(self, name: str, state: str, *words: str) -> bool:
        """Whether a VM stands at *state*, for a reason that has all of *words*."""
        vm = self.vm(name)
        return vm.get("state") == state and all(word in vm["detail"] for word in words)

    def identify(self) -> Identity:
        """As `serve` reads its key."""
        if self.trouble is not None:
            raise self.trouble
        return self.identity

    def serve(self, story: Callable[[], Awaitable[None]]) -> None:
        """Serve while *story* goes on, until SIGTERM."""
        asyncio.run(self._serve(story))

    async def _serve(self, story: Callable[[], Awaitable[None]]) -> None:
        ledger = self.ledger.open(self.state)
        sources = Sources([self.sockets], CHANNEL.decode(), self.discover, self.libvirts)
        service = Service(self.documents, sources, CHANNEL, self.identify, ledger, self.timing, self.beside)
        task = asyncio.create_task(service.run())
        try:
            await asyncio.sleep(0)
            await story()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await task
            ledger.close()


async def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait until *true* is; fail saying *what* never was."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def hostnames(guest: FakeGuest) -> list[str]:
    """What a guest has become, one after the other."""
    return [str(document.local_hostname) for document in guest.applied]
