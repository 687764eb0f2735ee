# SPDX-License-Identifier: Apache-2.0
"""What was seen, and nothing of what it means: the values that every diagnosis is a function of. No secrets are in them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from host_agent.channels.listing import path_of
from host_agent.errors import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from host_agent.channels.endpoint import Domain
    from host_agent.channels.ends import Ends
    from host_agent.channels.processes import Process
    from host_agent.channels.toolstack import Console
    from host_agent.fleet.config import Fleet


class FleetFile(NamedTuple):
    """What the fleet's file at *path* says."""

    path: Path
    fleet: Fleet


class InFleet(NamedTuple):
    """This host's part in the fleet of *file*: *place* is where documents are in etcd, *dom0* what the host is called there."""

    place: str
    file: Path
    dom0: str
    #: Why etcd could not be asked; what follows is not known then, but for the documents that were last seen.
    away: str = ""
    #: How many those are, and None where the service's memory has nothing of this fleet.
    remembered: int | None = None
    #: Whether a host of this name has a lease, and whether that is another host's.
    is_there: bool = True
    name_taken: bool = False
    #: The dom0 that may provision a VM, by the VM's key.
    owners: Mapping[str, str] = MappingProxyType({})


class Dom0(NamedTuple):
    """This machine's own side. A text is why something cannot be used as it is, and "" where it can."""

    state: Path
    documents: Path
    sockets: tuple[Path, ...] = ()
    #: Why xenstore cannot be read.
    xen: str = ""
    #: Whether it could be, and was: what is not in it is not there.
    knows_domains: bool = True
    #: Who has the lock of `serve`, which only a running service has open.
    service: Process | None = None
    state_trouble: str = ""
    key_trouble: str = ""
    has_key: bool = True
    ledger_trouble: str = ""
    documents_trouble: str = ""
    #: The directory of sockets that cannot be used, and why.
    sockets_trouble: tuple[str, str] | None = None
    #: Why the kernel does not say who uses sockets.
    peers_trouble: str = ""
    #: Bytes that are left where the ledger is, and None where that cannot be told.
    free: int | None = None
    #: How many files the service may have open.
    descriptors: int | None = None
    vms: int = 0
    #: By how many seconds the latest time in the ledger is ahead of the clock.
    ahead: float = 0.0
    #: Where documents come from etcd.
    fleet: InFleet | None = None

    @property
    def source(self) -> str:
        """Where documents come from, for people."""
        return shown(self.documents) if self.fleet is None else f"{self.fleet.place}documents/"


class Record(NamedTuple):
    """What the ledger has of a VM; times are seconds since the epoch, 0 for never."""

    state: str
    detail: str = ""
    document_error: str = ""
    outcome: str = ""
    reason: str = ""
    path: str = ""
    result_detail: str = ""
    #: Of the items that failed or were refused: the item, and why.
    failed: tuple[tuple[str, str], ...] = ()
    #: Of the document that is to be in force.
    digest: str = ""
    channel: str = ""
    sessions: int = 0
    dropped: int = 0
    echoed: int = 0
    last_heartbeat: float = 0.0


class Chardev(NamedTuple):
    """A channel's end as QEMU was told of it: its id, "socket" or "pty", and a socket's path."""

    id: str
    kind: str
    path: str = ""


class Qemu(NamedTuple):
    """The device model of a domain, by the pid that the toolstack wrote down; *process* is whatever has that pid now."""

    pid: int
    process: Process | None
    #: Whether that process is this domain's QEMU, by its command line.
    is_it: bool
    chardevs: tuple[Chardev, ...] = ()


class Case(NamedTuple):
    """One VM, and all that could be seen of it."""

    vm: str
    dom0: Dom0
    channel: str
    now: float
    #: Whether there is a document that can be used; *document_error* is why another, or the same, cannot.
    has_document: bool = False
    document_error: str = ""
    digest: str = ""
    #: Other documents that are for the same VM.
    rivals: tuple[str, ...] = ()
    record: Record | None = None
    #: The running domains that are this VM: one, or none, or by mistake several.
    domains: tuple[Domain, ...] = ()
    #: A running domain with the VM's name and another uuid than the document's.
    namesake: Domain | None = None
    wanted_uuid: str = ""
    #: The line of `xl list` that says that it is paused.
    paused: str = ""
    #: All consoles of the domain; *console* is the one that bears the channel's name.
    consoles: tuple[Console, ...] = ()
    console: Console | None = None
    #: Other channels that have the same path.
    path_owners: tuple[str, ...] = ()
    qemu: Qemu | None = None
    #: What is at the channel's place in dom0, and who uses it; None where no place is known.
    ends: Ends | None = None
    #: Who besides us may decide what stands in the directory of the channel's socket.
    directory_trouble: str = ""
    #: Who stands or listens at the channel's place and is neither root nor the domain's QEMU.
    squatted: tuple[str, ...] = ()
    #: What the VM is known by to ledger and fleet, and the dom0 that provisions it in the fleet, "" where none is known.
    key: str = ""
    owner: str = ""

    @property
    def domid(self) -> str:
        """The domain's, for a message."""
        return str(self.domains[0].domid) if self.domains else "?"

    @property
    def server(self) -> str:
        """The domain whose console the channel is: the VM's own, or its stubdomain."""
        return self.domid if self.console is None else str(self.console.domid)

    @property
    def place(self) -> str:
        """The path of the channel's socket or terminal, "" where none is known."""
        if self.console is not None:
            return path_of(self.console)
        return "" if self.ends is None else self.ends.path

    @property
    def is_running(self) -> bool:
        """Whether exactly one domain is this VM."""
        return len(self.domains) == 1

    @property
    def is_served(self) -> bool:
        """Whether the service is connected to the channel, and its turn has come."""
        service = self.dom0.service
        if service is None or self.ends is None:
            return False
        served = self.ends.holders + tuple(client for one in self.ends.listeners for client in one.clients)
        return any(client.pid == service.pid for client in served)


class Evidence(NamedTuple):
    """All of it: of the host itself, and of each VM that was asked about."""

    dom0: Dom0
    cases: tuple[Case, ...]
