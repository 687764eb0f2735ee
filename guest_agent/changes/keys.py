# SPDX-License-Identifier: Apache-2.0
"""The change of a user's authorized_keys, made as that user."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from guest_agent import homes
from guest_agent.changes import show
from guest_agent.undo import RestoreKeys

if TYPE_CHECKING:
    from guest_agent.homes import Home
    from guest_agent.system import System
    from guest_agent.undo import Undo


class WriteKeys(NamedTuple):
    """Make the authorized_keys of *home*'s user hold *content*, as that user."""

    home: Home
    content: bytes

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"write {self.home.path}/.ssh/authorized_keys"

    def show(self, system: System) -> list[str]:
        """What goes and what comes."""
        _, file = homes.read(system, self.home)
        path = f"{self.home.path}/.ssh/authorized_keys"
        lines = show.diff(b"" if file is None else file.content, self.content, secret=False)
        return [show.head("write", path, file, homes.KEYS_MODE), *lines]

    def holds(self, system: System) -> bool:
        """Whether file and directory are so, and private."""
        mode, file = homes.read(system, self.home)
        return mode == homes.SSH_MODE and file is not None and (file.content, file.mode) == (self.content, homes.KEYS_MODE)

    def capture(self, system: System) -> Undo:
        """File and directory as they are."""
        return RestoreKeys(self.home, homes.read(system, self.home))

    def apply(self, system: System) -> None:
        """Replace the file as the user."""
        homes.write(system, self.home, self.content)
