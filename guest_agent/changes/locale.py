# SPDX-License-Identifier: Apache-2.0
"""The change that makes a locale of the C library, by the distribution's own program."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from guest_agent import locales
from guest_agent.changes.running import RunCommand
from guest_agent.undo import RunBack

if TYPE_CHECKING:
    from guest_agent.system import System
    from guest_agent.undo import Undo


class MakeLocale(NamedTuple):
    """Have the locale *name*, made by *argv*, which may say that all went well where it did not. One that stays harms nobody."""

    name: str
    argv: list[str]

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"make the locale {self.name} by {' '.join(self.argv)}"

    def show(self, system: System) -> list[str]:  # noqa: ARG002  every Change is asked
        """The same."""
        return [self.describe()]

    def holds(self, system: System) -> bool:
        """Whether it is there, or nothing can be run that makes it."""
        return not system.live or locales.is_available(system, self.name)

    def capture(self, system: System) -> Undo:  # noqa: ARG002  every Change is asked
        """Nothing undoes it."""
        return RunBack([], "")

    def apply(self, system: System) -> None:
        """Run the program; raise `ItemError`."""
        RunCommand(self.argv, []).apply(system)
