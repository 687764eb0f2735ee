# SPDX-License-Identifier: Apache-2.0
"""How a VM is, and how far a dom0 is, as a fleet's dom0s write it for everybody to read; and read again, whoever wrote it.

No document's content, no key, no log is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from host_agent import VERSION
from host_agent.ledger.standing import State
from pv_channel.messages import MAX_ITEMS, UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

_Word = Annotated[str, msgspec.Meta(max_length=2048)]
#: More than any ledger's or etcd's number.
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Item(msgspec.Struct, frozen=True, rename="kebab"):
    """What became of one item of a document."""

    item: _Word
    outcome: _Word
    reason: _Word = ""
    detail: _Word = ""


class Report(msgspec.Struct, frozen=True, rename="kebab"):
    """How a VM is, by the ledger of *dom0*, as `status --json` has it; *time* is when that was written."""

    vm: _Word
    key: _Word
    dom0: _Word
    standing: _Word
    verdict: _Word
    why: _Word
    state: _Word
    time: float
    since: _Word = ""
    detail: _Word = ""
    document_error: _Word = ""
    instance_id: _Word = ""
    generation_wanted: _Number | None = None
    generation_sent: _Number = 0
    generation_applied: _Number = 0
    outcome: _Word = ""
    reason: _Word = ""
    milliseconds: _Number = 0
    address: _Word = ""
    items: Annotated[list[Item], msgspec.Meta(max_length=MAX_ITEMS)] = []

    def encode(self) -> bytes:
        """As it stands in etcd."""
        return msgspec.json.encode(self)

    def same_as(self, other: Report | None) -> bool:
        """Whether it says the same, at whatever time."""
        return other is not None and msgspec.structs.replace(other, time=self.time) == self

    @property
    def is_removed(self) -> bool:
        """Whether no document was there for it."""
        return self.state == State.REMOVED


class Presence(msgspec.Struct, frozen=True):
    """That a dom0 is there. Up to the revision *seen* it has taken up all documents, and said how its VMs are with them."""

    dom0: _Word
    version: _Word = VERSION
    seen: _Number = 0
    vms: _Number = 0

    def encode(self) -> bytes:
        """As it stands in etcd."""
        return msgspec.json.encode(self)


_SAME: Final = (
    "vm", "key", "standing", "verdict", "why", "state", "since", "detail", "document-error", "instance-id", "generation-wanted",
    "generation-sent", "generation-applied", "outcome", "reason", "milliseconds",
)  # fmt: skip


def of_values(values: Mapping[str, Any], dom0: str, now: float) -> Report:
    """The report of a VM with these *values* of `View.one`."""
    address = (values["facts"]["addresses"] or [""])[0].partition("/")[0]
    items = [{name: item[name] for name in ("item", "outcome", "reason", "detail")} for item in values["items"]]
    same = {name: values[name] for name in _SAME}
    return msgspec.convert({**same, "items": items, "address": address, "dom0": dom0, "time": now}, Report)


def decode(data: bytes) -> Report | None:
    """The report that these bytes are; None where they are none."""
    try:
        return msgspec.json.decode(data, type=Report)
    except UNDECODABLE:
        return None


def presence(data: bytes) -> Presence | None:
    """The presence that these bytes are; None where they are none."""
    try:
        return msgspec.json.decode(data, type=Presence)
    except UNDECODABLE:
        return None
