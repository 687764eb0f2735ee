# SPDX-License-Identifier: Apache-2.0
"""What happens in the service: each kind with the id by which the journal finds it for ever (systemd.journal-fields(7))."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack


class Happening(Enum):
    """The id, made once and never changed, and the line by which systemd/pv-channel-agents.catalog heads its explanation."""

    STARTED = ("eac0fa40124542b5856bdfa91a1c041f", "The service for PV channels has started")
    STOPPED = ("d807ab6e0c454189ae7e9b7b230f3ad1", "The service for PV channels has stopped")
    RELOADED = ("ea35047142934d15a3566dd241e69d77", "Documents and this host's key were read again")
    SEEN = ("11c139c8447e40b68eb51ed0ebb3298a", "A VM's channel is there")
    MET = ("05071c3da51e4d3fba3a9e18d3335834", "A guest was met for the first time")
    SEALED = ("2bceb3e19c8f44409ef8bd252fb1b8a9", "A session with a guest has begun")
    KEY_CHANGED = ("4b8e88000e1c4eabaa781f0dca648c27", "A guest shows another key than at first contact")
    KEY_SHARED = ("da6034110fd94e1f8c9291de36f4d699", "Two VMs have the same key")
    REFUSED = ("640cc7aaced74dceb2c7fd2cee0f3659", "A guest refuses this host")
    SENT = ("209fde948bbd4ca38db7cbed3d51b1bc", "A generation was sent to its guest")
    NOT_AGAIN = ("d8c82da727054fcbb2068692ec0f6eb6", "A document was not applied again")
    APPLIED = ("757e357428cf4e45a7d6b545e1dfbb15", "A VM is what its document says")
    FAILED = ("86aedd925b624655b805164820d7344b", "A document could not be applied")
    REPORTED = ("fa7169963f684306a0e403d0b8750cdb", "Items that took longer have come to their end")
    FACTS = ("75001e354c8c4d54bf4828efc0203fa6", "A guest's machine has changed")
    UNCONFIRMED = ("54391ae0dd5d4dc2a9d55b19f206562b", "A guest's changed network waits to be confirmed")
    CONFIRMED = ("855f0f6546e64365a955f5bb18bb6e90", "A guest's changed network is confirmed")
    REJECTED = ("aa1398a151da46a6b5b2cb4217e21d56", "A guest's changed network is put back")
    LOST = ("f9f0256ad5c24f20b9b34595feb0f445", "A session with a guest is over")
    UNREACHABLE = ("41c2b2afbd7b46a29c5230835cd0dfcb", "There is no stream to a VM")
    SILENT = ("341d1631c9b444f6a81c1d4025f7c9d4", "Nobody answers on a VM's channel")
    SQUATTED = ("84a6d5bb77eb4d9c8ec25c03186a2fbf", "Somebody else is at a VM's channel")
    KEY_BAD = ("86db7d4dcc0e4a0caf1dc7bfa8e9f1d3", "This host's key could not be read again")
    DOCUMENT_BAD = ("9421420a42db4379a1ee615869d9e9a5", "A document cannot be used")
    WITHHELD = ("00f395ddd6f14ce8b5ddd57b6962abf3", "A generation is withheld from its guest")
    FLEET = ("e21bfd046aab46b8b229d89bf16c7a44", "The fleet's etcd cannot be used")
    DESCRIPTION_BAD = ("b40e47e0f81f4c4f8669b7c5bb61d43b", "A backend program cannot be used")
    PROGRAM_STARTED = ("6214e4abf3e1492bb0bd131735572d84", "Another application's program serves its channel")
    PROGRAM_ENDED = ("c4ce0f81efc44e49b21cb4129f26d4f6", "Another application's channel is not served")
    LEDGER_TROUBLE = ("ecb37ebb9fef4c14ba35621c6210c126", "The ledger cannot be read or written")
    LEDGER_SET_ASIDE = ("acdc267076774039903d94b2c76df193", "A damaged ledger was set aside")
    FAULT = ("51ff1c7516734cf5b4fe220ab80b2d07", "A fault in pv-host-agent itself")
    NOT_LOGGED = ("e9eefe285a0742eabb8a23d6d66f342c", "The journal did not take everything")

    def __init__(self, message_id: str, subject: str) -> None:
        self.message_id, self.subject = message_id, subject


class Fields(TypedDict, total=False):
    """What the journal is told beside the sentence: each as PV_ and its name in capitals, an item a field of its own."""

    vm: str
    uuid: str
    domid: int | None
    generation: int
    outcome: str
    item: Sequence[str]
    instance_id: str


def noted(happening: Happening | None = None, **fields: Unpack[Fields]) -> dict[str, Any]:
    """The *extra* of a call to the logger that says *happening* of what *fields* name."""
    return {"happening": happening, "fields": fields}
