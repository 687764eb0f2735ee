# SPDX-License-Identifier: Apache-2.0
"""A change of the network that waits for the host's word: until when, what the guest saw of it, and what the host said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pv_channel.messages import Confirm, Reject

if TYPE_CHECKING:
    from guest_agent.failure import ItemError
    from pv_channel.messages import Unconfirmed


class Waiting:
    """What *asked* says waits for the host's word, from *now* on."""

    def __init__(self, asked: Unconfirmed, now: float) -> None:
        self._asked, self._until = asked, now + asked.seconds
        self._word: Confirm | Reject | None = None

    def question(self, now: float) -> Unconfirmed:
        """What to say to the host *now*: the same as before, with less time."""
        return msgspec.structs.replace(self._asked, seconds=max(int(self._until - now), 0))

    def hear(self, word: Confirm | Reject) -> None:
        """The host said *word*. The first one about this generation counts."""
        if self._word is None and word.generation == self._asked.generation:
            self._word = word

    def left(self, now: float) -> float:
        """Seconds that there still are; none once the host has spoken."""
        return 0.0 if self._word is not None else max(self._until - now, 0.0)

    def refusal(self, gone: Exception | None) -> ItemError | None:
        """Why the change has to go, now that there is nothing to wait for any more; *gone* is what became of the port."""
        from guest_agent.failure import ItemError  # loaded here: the start does without

        if isinstance(self._word, Confirm):
            return None
        if self._word is not None:
            return ItemError("rejected", self._word.detail or "the host does not want it")
        if gone is not None:
            return ItemError("unconfirmed", f"the channel was cut before the host confirmed the network: {gone}")
        return ItemError("unconfirmed", f"the host did not confirm the network within {self._asked.seconds} s")
