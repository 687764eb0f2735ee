# SPDX-License-Identifier: Apache-2.0
"""What of a conversation is logged: the sentence, its level, what happened, and the fields that the journal finds it by."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.log.happenings import Fields, Happening
from host_agent.talk.answer import why
from host_agent.talk.notices import DEGRADED, What
from pv_channel.messages import Outcome
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from host_agent.documents.document_file import Wanted
    from host_agent.talk.notices import Notice, Settlement
    from pv_channel.messages import ItemResult

_BAD: Final = (Outcome.FAILED, Outcome.REFUSED)
#: An item's name is a guest's word.
_MAX_ITEM: Final = 40

_NOTED: Final = {
    What.REFUSED: (logging.WARNING, Happening.REFUSED),
    What.KEY_CHANGED: (logging.ERROR, Happening.KEY_CHANGED),
    What.KEY_SHARED: (logging.ERROR, Happening.KEY_SHARED),
    What.SENDING: (logging.INFO, Happening.SENT),
    What.WITHHELD: (logging.WARNING, Happening.WITHHELD),
    What.NOT_AGAIN: (logging.WARNING, Happening.NOT_AGAIN),
    What.FACTS: (logging.INFO, Happening.FACTS),
    What.UNCONFIRMED: (logging.INFO, Happening.UNCONFIRMED),
    What.CONFIRMED: (logging.INFO, Happening.CONFIRMED),
    What.REJECTED: (logging.WARNING, Happening.REJECTED),
    What.LOST: (logging.WARNING, Happening.LOST),
}
#: What may come again and again without anything having changed.
_ONCE: Final = (What.LOST, What.REFUSED, What.WITHHELD, What.KEY_CHANGED, What.KEY_SHARED)


class Telling(NamedTuple):
    """A line to log. *once*: not again until something has changed; *is_news*: something has."""

    level: int
    text: str
    happening: Happening
    fields: Fields
    once: bool = False
    is_news: bool = False


def telling(notice: Notice, wanted: Wanted) -> Telling | None:
    """What to log of *notice*, about a VM that shall become *wanted*; None for what is not worth a line."""
    if notice.settlement is not None:
        return _of_settlement(notice.text, notice.settlement, wanted)
    if notice.reported is not None:
        return _of_report(notice, notice.reported)
    if notice.what is What.MET:
        happening = Happening.MET if notice.is_first else Happening.SEALED
        return Telling(logging.INFO, notice.text, happening, {}, is_news=True)
    if notice.what not in _NOTED:
        return None
    level, happening = _NOTED[notice.what]
    fields = Fields(generation=notice.generation) if notice.generation else Fields()
    if notice.what is What.SENDING:
        fields["instance_id"] = wanted.instance_id
    return Telling(level, notice.text, happening, fields, notice.what in _ONCE, notice.what is What.SENDING)


def _of_settlement(text: str, settlement: Settlement, wanted: Wanted) -> Telling:
    fields = Fields(
        generation=settlement.generation, outcome=settlement.outcome, instance_id=wanted.instance_id,
        item=_bad(settlement.items),
    )  # fmt: skip
    if settlement.good:
        under_way = ", ".join(printable(item, _MAX_ITEM) for item in settlement.pending)
        more = f"; under way: {under_way}" if under_way else ""
        return Telling(logging.INFO, text + more, Happening.APPLIED, fields)
    happening = Happening.REPORTED if settlement.outcome == DEGRADED else Happening.FAILED
    return Telling(logging.WARNING, f"{text}: {why(settlement)}", happening, fields)


def _of_report(notice: Notice, items: list[ItemResult]) -> Telling:
    bad = _bad(items)
    fields = Fields(generation=notice.generation, outcome=(Outcome.FAILED if bad else Outcome.APPLIED).value, item=bad)
    return Telling(logging.WARNING if bad else logging.INFO, notice.text, Happening.REPORTED, fields)


def _bad(items: Iterable[ItemResult]) -> list[str]:
    """The items at fault."""
    return [printable(item.item, _MAX_ITEM) for item in items if item.outcome in _BAD]
