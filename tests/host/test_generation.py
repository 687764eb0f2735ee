# SPDX-License-Identifier: Apache-2.0
"""Which generation a document is sent as, and when it is not sent."""

from __future__ import annotations

import pytest

from host_agent.ledger.known import Known
from host_agent.talk.generation import InForce, is_settled, to_send
from tests.host.fakes import PLAIN
from tests.host.talk import wanted

WANTED = wanted()
NEW = InForce("", 0, "")


def has(generation: int) -> InForce:
    """A guest that is what is wanted, as that generation."""
    return InForce("i-1", generation, WANTED.digest)


def sent(generation: int, *, items: int = 0, reprovision: bool = False) -> Known:
    """A ledger that sent what is wanted as that generation, and has the items of another on record."""
    return Known(None, None, "i-1", generation, WANTED.digest, items, reprovision)


@pytest.mark.parametrize(
    ("guest", "known", "number"),
    [
        (NEW, Known(), 1),
        (NEW, sent(1), 1),  # the answer was lost before it was in force
        (has(1), sent(1), 1),  # the answer was lost
        (has(7), Known(), 7),  # the ledger was
        (has(7), sent(3), 7),
        (has(1), Known(None, None, "i-1", 2, "another", 2), 1),  # the guest is back at what it had
        (has(1), sent(1, items=1, reprovision=True), 2),
        (has(1), sent(2, items=1), 2),  # what was to be applied again has not come into force
        (has(1), sent(2, items=2), 2),
        (InForce("i-1", 5, "another"), sent(5), 6),
    ],
)
def test_what_is_not_settled_is_sent_as_this(guest: InForce, known: Known, number: int) -> None:
    assert not is_settled(WANTED, guest, known)
    assert to_send(WANTED, guest, known) == number


@pytest.mark.parametrize("generation", [1, 7])
def test_what_is_in_force_and_on_record_is_settled(generation: int) -> None:
    assert is_settled(WANTED, has(generation), sent(generation, items=generation))


def test_a_number_of_the_operator_s_is_always_used() -> None:
    numbered = wanted({**PLAIN, "generation": 41})
    assert to_send(numbered, has(7), sent(9, reprovision=True)) == 41
