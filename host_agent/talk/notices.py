# SPDX-License-Identifier: Apache-2.0
"""What a conversation tells whoever started it. The texts are safe to print: a guest's words went through `printable`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from pv_channel.messages import Outcome

if TYPE_CHECKING:
    from pv_channel.greeting import Refusal
    from pv_channel.messages import ItemResult, Planned, Result

#: What an outcome of the whole is where the guest is what it should become.
GOOD: Final = ("applied", "unchanged")
#: The word for a generation that is in force, an item of which has failed since.
DEGRADED: Final = "degraded"


class What(Enum):
    """The kinds of notice."""

    GREETING = "greeting"
    REFUSED = "refused"
    MET = "met"
    KEY_CHANGED = "key-changed"
    KEY_SHARED = "key-shared"
    SENDING = "sending"
    WITHHELD = "withheld"
    WORKING = "working"
    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    SETTLED = "settled"
    REPORTED = "reported"
    FACTS = "facts"
    NOT_AGAIN = "not-again"
    PLANNED = "planned"
    LOST = "lost"


class Settlement(NamedTuple):
    """How a document ended. Without *result* the guest had it in force already, and nothing was sent.

    *reported* is what became later of items that were pending.
    """

    generation: int
    result: Result | None
    reported: tuple[ItemResult, ...] = ()

    @property
    def items(self) -> list[ItemResult]:
        """What became of each item, as far as it is known."""
        known = {item.item: item for item in ([] if self.result is None else self.result.items)}
        return list((known | {item.item: item for item in self.reported}).values())

    @property
    def pending(self) -> list[str]:
        """The items that are under way, where the generation is in force."""
        return [item.item for item in self.items if item.outcome is Outcome.PENDING] if self.good else []

    @property
    def outcome(self) -> str:
        """The outcome of the whole, as one word."""
        whole = "unchanged" if self.result is None else self.result.outcome.value
        failed = any(item.outcome in (Outcome.FAILED, Outcome.REFUSED) for item in self.items)
        return DEGRADED if whole in GOOD and failed else whole

    @property
    def good(self) -> bool:
        """Whether the guest now is what it should become."""
        return self.outcome in GOOD

    def knowing(self, items: list[ItemResult]) -> Settlement:
        """The same, with what was reported of *items* since."""
        if not items:
            return self
        return self._replace(reported=tuple(({i.item: i for i in self.reported} | {i.item: i for i in items}).values()))


class Notice(NamedTuple):
    """One thing that happened, as a sentence, and what of it programs want."""

    what: What
    text: str
    settlement: Settlement | None = None
    refusal: Refusal | None = None
    reported: list[ItemResult] | None = None
    planned: Planned | None = None
    #: Which generation it is about, where it is about one.
    generation: int = 0
    #: A guest that was never met before.
    is_first: bool = False
