# SPDX-License-Identifier: Apache-2.0
"""What is logged of a VM: by which words, at which level, with which fields; and never more than it may fill a log with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from host_agent.log.happenings import Happening
from host_agent.log.teller import BURST, Teller
from host_agent.log.telling import telling
from host_agent.talk.notices import Notice, Settlement, What
from pv_channel.messages import ItemResult, Outcome, Result
from tests.host.talk import wanted

if TYPE_CHECKING:
    from tests.host.talk import Talk


def test_what_became_of_a_generation_names_the_items_at_fault() -> None:
    items = [
        ItemResult("hostname", Outcome.ROLLED_BACK), ItemResult("network\nPRIORITY=0", Outcome.FAILED, "command-failed", "x"),
    ]  # fmt: skip
    told = telling(Notice(What.SETTLED, "generation 2: failed", Settlement(2, Result(2, Outcome.FAILED, items))), wanted())
    assert told is not None
    assert (told.level, told.happening) == (logging.WARNING, Happening.FAILED)
    assert told.fields == {"generation": 2, "outcome": "failed", "instance_id": "i-1", "item": ["network\\nPRIORITY=0"]}


def test_what_was_in_force_already_is_unchanged() -> None:
    told = telling(Notice(What.SETTLED, "generation 2 is in force already", Settlement(2, None)), wanted())
    assert told is not None
    assert (told.level, told.happening, told.fields["outcome"]) == (logging.INFO, Happening.APPLIED, "unchanged")


@pytest.mark.parametrize(("outcome", "level"), [(Outcome.FAILED, logging.WARNING), (Outcome.APPLIED, logging.INFO)])
def test_what_ended_later_is_reported(outcome: Outcome, level: int) -> None:
    told = telling(Notice(What.REPORTED, "x", reported=[ItemResult("user-data", outcome)], generation=3), wanted())
    assert told is not None
    bad = ["user-data"] if outcome is Outcome.FAILED else []
    assert (told.level, told.happening) == (level, Happening.REPORTED)
    assert told.fields == {"generation": 3, "outcome": outcome.value, "item": bad}


def test_every_step_of_a_first_boot_is_noted_by_its_own_id(talk: Talk) -> None:
    talk.begin()
    talk.run()
    told = [telling(notice, wanted()) for notice in talk.notices]
    assert [each.happening for each in told if each] == [Happening.MET, Happening.SENT, Happening.APPLIED]
    assert [each.fields.get("generation") for each in told if each] == [None, 1, 1]
    talk.notices.clear()
    talk.guest.restart()
    talk.begin()
    talk.run()
    told = [telling(notice, wanted()) for notice in talk.notices]
    assert [each.happening for each in told if each] == [Happening.SEALED, Happening.APPLIED]


def test_every_line_of_a_vm_says_which_vm_it_is_about(caplog: pytest.LogCaptureFixture) -> None:
    teller = Teller("vm1", lambda text: None, lambda: 0.0)
    teller.about |= {"uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f", "domid": 7}
    with caplog.at_level(logging.INFO):
        teller.tell_once(logging.INFO, "a word", Happening.SENT, generation=3)
        teller.tell_once(logging.INFO, "a word", Happening.SENT, generation=3)
        teller.tell(logging.INFO, "another")
    first, second = caplog.records
    about = {"vm": "vm1", "uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f", "domid": 7}
    assert (first.__dict__["happening"], first.__dict__["fields"]) == (Happening.SENT, {**about, "generation": 3})
    assert (second.__dict__["happening"], second.__dict__["fields"]) == (None, about)


def test_a_vm_that_misbehaves_fills_no_log_and_what_was_left_out_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    now, recorded = 0.0, list[str]()
    teller = Teller("vm1", recorded.append, lambda: now)
    with caplog.at_level(logging.INFO):
        for number in range(1000):
            teller.tell(logging.INFO, f"line {number}", Happening.LOST)
        assert len(caplog.records) == len(recorded) == BURST
        now = 3600.0
        teller.tell(logging.INFO, "later")
    assert caplog.messages[-1] == f"vm1: later (and {1000 - BURST} lines that were not logged)"
