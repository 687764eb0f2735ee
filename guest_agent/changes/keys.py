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
    """Make the authorized_keys of *home*'s user hold *content*, as that user.

    *owned*: a block in it is ours from then on. *made*: the home is made by a change before this one.
    """

    home: Home
    content: bytes
    owned: bool = True
    made: bool = False

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"write {homes.keys_path(self.home)}"

    def show(self, system: System) -> list[str]:
        """What goes and what comes."""
        _, file = self._read(system)
        path = homes.keys_path(self.home)
        lines = show.diff(b"" if file is None else file.content, self.content, secret=False)
        return [show.head("write", path, file, homes.KEYS_MODE), *lines]

    def holds(self, system: System) -> bool:
        """Whether file and directory are so, and private."""
        mode, file = self._read(system)
        return mode == homes.SSH_MODE and file is not None and (file.content, file.mode) == (self.content, homes.KEYS_MODE)

    def capture(self, system: System) -> Undo:
        """File and directory as they are."""
        return RestoreKeys(self.home, self._read(system))

    def apply(self, system: System) -> None:
        """Replace the file as the user."""
        homes.write(system, self.home, self.content)

    def _read(self, system: System) -> homes.Keys:
        if self.made and not system.exists(self.home.path):
            return homes.Keys(None, None)
        return homes.read(system, self.home)
