# SPDX-License-Identifier: Apache-2.0
"""The change of a file whose content is made at random: what a dry run makes is not what will be, so it is not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guest_agent.changes import show
from guest_agent.changes.files import WriteFile

if TYPE_CHECKING:
    from guest_agent.system import System


class WriteRandom(WriteFile):
    """A `WriteFile` whose content nobody is shown: a private key, or what would be another one by the time it is applied."""

    __slots__ = ()

    def show(self, system: System) -> list[str]:
        """The path."""
        return [show.head("write", self.path, system.read(self.path), self.mode), "  (made anew when it is applied)"]
