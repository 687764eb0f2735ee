# SPDX-License-Identifier: Apache-2.0
"""Which generation a document is: the operator's number, or the host's count, so that doing it twice is doing it once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pv_channel.document import MAX_GENERATION

if TYPE_CHECKING:
    from host_agent.documents.document_file import Wanted
    from host_agent.ledger.known import Known


class InForce(NamedTuple):
    """What a guest has: its instance, the generation, and the digest of the document that it was."""

    instance_id: str
    generation: int
    digest: str


def is_settled(wanted: Wanted, guest: InForce, known: Known) -> bool:
    """Whether nothing need be sent: the guest has it in force, what became of it is on record, and nobody wants it again."""
    on_record = known.generation_items == guest.generation
    return is_in_force(wanted, guest) and on_record and not known.reprovision and not _is_under_way(wanted, guest, known)


def is_in_force(wanted: Wanted, guest: InForce) -> bool:
    """Whether the guest already is what it should become."""
    asked = wanted.generation
    return (
        guest.generation > 0
        and guest.instance_id == wanted.instance_id
        and guest.digest == wanted.digest
        and (asked is None or asked == guest.generation)
    )


def to_send(wanted: Wanted, guest: InForce, known: Known) -> int:
    """The generation to send *wanted* as.

    The document's own; else the number under which just this was sent before and has not come into force; else the guest's
    where it has just this in force, so that it says again what became of it; else one more than any that the ledger or the
    guest remembers.
    """
    if wanted.generation is not None:
        return wanted.generation
    if _is_under_way(wanted, guest, known):
        return known.generation_sent
    if is_in_force(wanted, guest) and not known.reprovision:
        return guest.generation
    return min(1 + max(known.generation_sent, guest.generation), MAX_GENERATION)  # a guest may claim any number


def _is_under_way(wanted: Wanted, guest: InForce, known: Known) -> bool:
    """Whether just this was sent under a number that has not come into force."""
    sent_before = known.digest_sent == wanted.digest and known.instance_id == wanted.instance_id
    return sent_before and known.generation_sent > guest.generation
