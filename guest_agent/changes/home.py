# SPDX-License-Identifier: Apache-2.0
"""The change that makes a user's home where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from guest_agent import new_homes
from guest_agent.failure import ItemError
from guest_agent.undo import RemoveMadeHome

if TYPE_CHECKING:
    from guest_agent.homes import Home
    from guest_agent.system import System
    from guest_agent.undo import Undo


class MakeHome(NamedTuple):
    """Make *home* from *skeleton*, with *mode*; it is planned only where nothing has its path."""

    home: Home
    mode: int
    skeleton: str

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"make the home {self.home.path}"

    def show(self, system: System) -> list[str]:  # noqa: ARG002  every Change is asked
        """The change, with whose it is."""
        return [f"{self.describe()} of {self.home.user} ({self.mode:04o}) from {self.skeleton}"]

    def holds(self, system: System) -> bool:
        """Whether something is there; a home that is there is its user's affair."""
        return system.exists(self.home.path)

    def capture(self, system: System) -> Undo:
        """That there was none, and so whatever is there later may go."""
        if system.exists(self.home.path):
            raise ItemError("changed-meanwhile", f"{self.home.path} was made while this was planned; send the document again")
        return RemoveMadeHome(self.home)

    def apply(self, system: System) -> None:
        """Make it."""
        new_homes.make(system, self.home, self.mode, self.skeleton)
