# SPDX-License-Identifier: Apache-2.0
"""Where the VMs stand, as the one line that `systemctl status` shows."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from host_agent.errors import LedgerTrouble
from host_agent.ledger.standing import State

if TYPE_CHECKING:
    from collections.abc import Collection

    from host_agent.ledger.ledger import Ledger


class Summary:
    """Counts states in *ledger*, and only where it has changed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._of = (-1, 0)
        self._counts: Counter[str] = Counter()

    def line(self, keys: Collection[str]) -> str:
        """Of the VMs that have these *keys*."""
        of = (self._ledger.changes, len(keys))
        if of != self._of:
            self._of = of
            with suppress(LedgerTrouble):  # which is said by whoever writes next
                self._counts = Counter(state for key, state in self._ledger.states() if key in keys)
        counts = self._counts + Counter({State.UNREACHABLE: len(keys) - self._counts.total()})
        parts = ", ".join(f"{count} {state}" for state, count in sorted(counts.items(), key=_ready_first))
        return f"serving {vms(len(keys))}{': ' if parts else ''}{parts}"


def vms(number: int) -> str:
    """So many of them."""
    return "1 VM" if number == 1 else f"{number} VMs"


def _ready_first(item: tuple[str, int]) -> tuple[bool, int, str]:
    state, count = item
    return state != State.READY, -count, state
