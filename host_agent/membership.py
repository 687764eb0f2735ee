# SPDX-License-Identifier: Apache-2.0
"""Whose the VMs are that a service serves: all that have a document in its directory, or this host's part of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from host_agent.documents.inventory import Inventory
from host_agent.errors import shown

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from host_agent.channels.whereabouts import Whereabouts
    from host_agent.documents.inventory import Changes


class Health(NamedTuple):
    """How a host stands in its fleet: whether etcd answers and its lease holds, and of the VMs here how many are its own."""

    answers: bool
    leased: bool
    here: int
    owned: int


class Membership(Protocol):
    """What the service asks and tells, in the loop; nothing of it waits."""

    @property
    def said(self) -> str:
        """Where documents are, for people."""

    @property
    def health(self) -> Health | None:
        """How this host stands in its fleet, if it is in one."""

    def follow(self, changed: Callable[[], None]) -> list[asyncio.Task[None]]:
        """Begin, and call *changed* when a look may find something; the tasks to cancel in the end."""

    def look(self, here: Whereabouts) -> Changes:
        """What has changed, where *here* says what runs on this host; raise `BadFile` where one cannot look."""

    def begin_anew(self) -> None:
        """The ledger was begun anew: the next looks tell of every document once more."""

    def withheld(self, key: str) -> str:
        """Why no generation may be sent to the VM *key* now, or ""."""

    def noted(self, key: str) -> None:
        """Something of the VM *key* is on record, or will be with the next commit."""


class Alone:
    """A host that shares its VMs with nobody: it serves what has a document in *directory*."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._inventory = directory, Inventory(directory)

    @property
    def said(self) -> str:
        """Where documents are, for people."""
        return f"documents in {shown(self._directory)}"

    @property
    def health(self) -> None:
        """It is in none."""

    def follow(self, changed: Callable[[], None]) -> list[asyncio.Task[None]]:  # noqa: ARG002 -- looking again is enough
        """There is nothing to follow."""
        return []

    def look(self, here: Whereabouts) -> Changes:  # noqa: ARG002 -- a VM that is off has a document all the same
        """What has changed in the directory; raise `BadFile`."""
        return self._inventory.look()

    def begin_anew(self) -> None:
        """Tell of everything once more."""
        self._inventory = Inventory(self._directory)

    def withheld(self, key: str) -> str:  # noqa: ARG002
        """Nobody else sends anything."""
        return ""

    def noted(self, key: str) -> None:
        """Nobody else wants to know."""
