# SPDX-License-Identifier: Apache-2.0
"""What hot-plug works with: the domain that is meant, xenstore, and its QEMU's monitor, with libxl and others kept out."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from host_agent.channels.discovery import survey
from host_agent.channels.toolstack import consoles_of
from host_agent.qemu.libxl_lock import LIBRARY, RUN_DIRECTORIES, lock_of, socket_of
from host_agent.qemu.qmp import CONNECT_SECONDS, connect
from host_agent.qemu.running_vm import check_device_model, named
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
    """One operation's; *others* is what all domains had when it began, *consoles* are the domain's own since the lock is held."""

    domain: Domain
    store: Client
    qmp: Qmp
    others: Survey
    consoles: list[Console]


@asynccontextmanager
async def opened(places: Places, vm: str) -> AsyncIterator[Session]:
    """With libxl's lock held, so that nobody else plugs or migrates meanwhile; raise `HostError` where that cannot be."""
    everything = await survey(places.xenstored)
    domain = named(everything.domains, vm)
    async with await Client.connect(places.xenstored) as store:
        await check_device_model(store, domain)
        monitor = socket_of(domain.domid, places.run)
        async with connect(monitor, places.connect_seconds, lock=lock_of(domain.domid, domain.uuid, places.library)) as qmp:
            yield Session(domain, store, qmp, everything, await consoles_of(store, domain.domid))
