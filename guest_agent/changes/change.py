# SPDX-License-Identifier: Apache-2.0
"""What every kind of change can be asked: the same object is shown by a dry run, journalled, applied and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from guest_agent.system import System
    from guest_agent.undo import Undo


class Change(Protocol):
    """One step towards what a document asks for."""

    @property
    def follows(self) -> bool:
        """Whether it has no state of its own, and is made where another change of its item is."""

    def describe(self) -> str:
        """The change in one line, for errors."""

    def show(self, system: System) -> list[str]:
        """The change as lines for people: what it is, and a diff where it has one. Nothing secret is in them."""

    def holds(self, system: System) -> bool:
        """Whether the system is so already; raise `OSError` or `ItemError`."""

    def capture(self, system: System) -> Undo:
        """What undoing it will need, read from the system as it is; raise `OSError` or `ItemError`."""

    def apply(self, system: System) -> None:
        """Carry it out; raise `OSError` or `ItemError`."""
