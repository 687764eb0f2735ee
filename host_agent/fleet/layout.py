# SPDX-License-Identifier: Apache-2.0
"""Where things of a fleet are in etcd: what operators write, what dom0s write, and what ends with a dom0's lease."""

from __future__ import annotations

from typing import Final

from host_agent.documents.directory import MAX_NAME
from host_agent.documents.layer import DEFAULTS
from host_agent.documents.layers import GROUPS
from host_agent.etcd.wire import Range, below
from pv_channel.text import printable

DOCUMENTS: Final = "documents"


class Layout:
    """The keys below *prefix*, which ends with a slash. A VM's *key* is the ledger's: its uuid, or else its name."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        #: What operators write: each VM's document, and what lies below those.
        self.written = (self._below(DOCUMENTS), Range(self.of(DEFAULTS)), self._below(GROUPS))
        #: What dom0s write under their leases: who is there, how the VMs are that are served now, and whose they are.
        self.dom0s, self.vms = self._below("dom0s"), self._below("vms")
        self.owners = self._below("owners")
        #: The same of all VMs that ever were.
        self.lasts = self._below("last")

    def of(self, name: str) -> bytes:
        """The key of something that an operator writes: ``documents/NAME``, ``defaults``, ``groups/GROUP``."""
        return (self.prefix + name).encode()

    def name(self, key: bytes) -> str | None:
        """What an operator wrote at *key*, as `of` takes it; None where that can be nothing of ours."""
        try:
            name = key.decode("ascii").removeprefix(self.prefix)
        except UnicodeDecodeError:
            return None
        kind, slash, rest = name.partition("/")
        if name == DEFAULTS:
            return name
        good = rest and "/" not in rest and len(rest) <= MAX_NAME and printable(rest, MAX_NAME) == rest
        return name if slash and good and kind in (DOCUMENTS, GROUPS) else None

    def dom0(self, name: str) -> bytes:
        """That a dom0 is there, and how far it is; under its lease."""
        return self.of(f"dom0s/{name}")

    def owner(self, key: str) -> bytes:
        """Which dom0 may provision a VM, under its lease: the revision at which this was made is the fencing token."""
        return self.of(f"owners/{key}")

    def vm(self, key: str) -> bytes:
        """How a VM is, under the lease of the dom0 that serves it."""
        return self.of(f"vms/{key}")

    def last(self, key: str) -> bytes:
        """How it was when that was last known."""
        return self.of(f"last/{key}")

    def entry(self, key: str) -> bytes:
        """What the ledger of the dom0 that served it last has of it (`ledger.entry`)."""
        return self.of(f"entries/{key}")

    def _below(self, part: str) -> Range:
        return below(self.of(f"{part}/"))
