# SPDX-License-Identifier: Apache-2.0
"""The ledger's values: what it knew of a VM that is met, what an ssh client may call one, and how many lines were dropped."""

from __future__ import annotations

import json
from typing import NamedTuple


class Known(NamedTuple):
    """What the ledger knew of a VM when it was met."""

    guest_key: bytes | None = None
    rival_key: bytes | None = None
    instance_id: str = ""
    generation_sent: int = 0
    digest_sent: str = ""
    #: The generation whose items are on record: what a guest answered for it, or 0.
    generation_items: int = 0
    #: An operator wants it all applied again.
    reprovision: bool = False
    #: A ledger that is damaged knew it.
    lost: bool = False


class Counted(NamedTuple):
    """Lines that were dropped since it was last counted, by reason."""

    dropped: int = 0
    echoed: int = 0
    stale: int = 0

    def plus(self, more: Counted) -> Counted:
        """And so many more."""
        return Counted(self.dropped + more.dropped, self.echoed + more.echoed, self.stale + more.stale)


class Called(NamedTuple):
    """What an ssh client may call a VM; *certified* is whether its host keys come with certificates."""

    names: list[str]
    certified: bool

    def values(self) -> tuple[str, bool]:
        """As they stand in the ledger."""
        return json.dumps(self.names), self.certified


class Meeting(NamedTuple):
    """The VM as the ledger knows it, and which other VM (by its key in the ledger) has the same guest key, if one has."""

    known: Known
    shared_with: str | None
