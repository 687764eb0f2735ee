# SPDX-License-Identifier: Apache-2.0
"""What a conversation tells whoever started it. The texts are safe to print: a guest's words went through `printable`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pv_channel.greeting import Refusal
    from pv_channel.messages import Result


class What(Enum):
    """The kinds of notice."""

    GREETING = "greeting"
    REFUSED = "refused"
    MET = "met"
    KEY_CHANGED = "key-changed"
    KEY_SHARED = "key-shared"
    SENDING = "sending"
    WORKING = "working"
    SETTLED = "settled"
    LOST = "lost"


class Settlement(NamedTuple):
    """How a document ended. Without *result* the guest had it in force already, and nothing was sent."""

    generation: int
    result: Result | None

    @property
    def outcome(self) -> str:
        """The outcome of the whole, as one word."""
        return "unchanged" if self.result is None else self.result.outcome.value

    @property
    def good(self) -> bool:
        """Whether the guest now is what it should become."""
        return self.outcome in ("applied", "unchanged")


class Notice(NamedTuple):
    """One thing that happened, as a sentence."""

    what: What
    text: str
    settlement: Settlement | None = None
    refusal: Refusal | None = None
