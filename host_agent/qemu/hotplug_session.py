# SPDX-License-Identifier: Apache-2.0
"""What hot-plug works with: the domain that is meant, xenstore, and its QEMU's monitor, with libxl and others kept out."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from host_agent.channels.discovery import survey
from host_agent.channels.toolstack import consoles_of
from host_agent.qemu.libxl_lock import LIBRARY, RUN_DIRECTORIES, lock_of, socket_of
from host_agent.qemu.qmp import CONNECT_SECONDS, connect
from host_agent.qemu.running_vm import named, served_by
from host_agent.stubdom.console_map import Role, role_of
from host_agent.xenstore.client import Client, socket_paths

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from host_agent.channels.discovery import Survey
    from host_agent.channels.endpoint import Domain
    from host_agent.channels.toolstack import Console
    from host_agent.qemu.qmp import Qmp


class Places(NamedTuple):
    """Where Xen's daemons and libxl have their files."""

    xenstored: Sequence[Path]
    run: Sequence[Path] = RUN_DIRECTORIES
    library: Path = LIBRARY
    connect_seconds: float = CONNECT_SECONDS

    @classmethod
    def usual(cls) -> Places:
        """On this host."""
        return cls(socket_paths())


class Session(NamedTuple):
    """One operation's, of the domain *vm*. *domain* has the consoles: *vm* itself, or the stubdomain in which its QEMU runs.

    *others* is what all domains had when it began, *consoles* are the *domain*'s own since the lock is held.
    """

    vm: Domain
    domain: Domain
    store: Client
    qmp: Qmp
    others: Survey
    consoles: list[Console]

    @property
    def stubdomain(self) -> int | None:
        """The domain that has *vm*'s channels for it, or None."""
        return None if self.vm.domid == self.domain.domid else self.domain.domid

    @property
    def channels(self) -> list[Console]:
        """Those of *consoles* that are *vm*'s channels: a stubdomain's first ones are its QEMU's own."""
        named = [each for each in self.consoles if each.name]
        if self.stubdomain is None:
            return named
        return [each for each in named if role_of(int(each.id), each.name) is Role.CHANNEL]


@asynccontextmanager
async def opened(places: Places, vm: str) -> AsyncIterator[Session]:
    """With libxl's lock held, so that nobody else plugs or migrates meanwhile; raise `HostError` where that cannot be."""
    everything = await survey(places.xenstored)
    meant = named(everything.domains, vm)
    async with await Client.connect(places.xenstored) as store:
        domain = await served_by(store, meant, everything.domains)
        monitor = socket_of(domain.domid, places.run)
        async with connect(monitor, places.connect_seconds, lock=lock_of(domain.domid, domain.uuid, places.library)) as qmp:
            yield Session(meant, domain, store, qmp, everything, await consoles_of(store, domain.domid))
