# SPDX-License-Identifier: Apache-2.0
"""What the streams of all VMs have carried and brought about since the service started: sums, none of which is a single VM's."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host_agent.talk.notices import Notice, What
    from pv_channel.greeting import Refusal


class Counts:
    """Of one service. However many VMs there are and whatever their guests say, it has as many counts as there are words for."""

    def __init__(self) -> None:
        #: Streams that are open now, and all that ever were.
        self.streams = self.opened = 0
        #: Bytes.
        self.received = self.sent = 0
        #: Commits that the ledger did not take, and on whose account nothing was sent.
        self.not_recorded = 0
        self.notices: Counter[What] = Counter()
        #: Guests that were met for the first time.
        self.first_met = 0
        self.refusals: Counter[Refusal] = Counter()
        #: Guests' answers to documents, by the outcome of the whole.
        self.answers: Counter[str] = Counter()
        #: Attempts to have a stream that failed, by `errors.Unreachable`'s word.
        self.unreachable: Counter[str] = Counter()

    def heard(self, notice: Notice) -> None:
        """This happened on one of the streams."""
        self.notices[notice.what] += 1
        self.first_met += notice.is_first
        if notice.refusal is not None:
            self.refusals[notice.refusal] += 1
        if notice.settlement is not None and notice.settlement.result is not None:
            self.answers[notice.settlement.result.outcome.value] += 1
