# SPDX-License-Identifier: Apache-2.0
"""The ledger looked at again and again: also one that is not there yet, or that was set aside and begun anew meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.errors import LedgerTrouble
from host_agent.ledger.schema import FILE_NAME
from host_agent.views.status import View, is_there

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

#: How often who waits or watches looks: as often as a person can follow.
LOOK_EVERY_SECONDS: Final = 0.25


class Follow:
    """The ledger in *directory*; *view* while there is one. `news` may raise `LedgerTrouble`, but not because there is none."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._path = directory, directory / FILE_NAME
        self.view: View | None = None
        self._file = (0, 0)
        self._version = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def news(self) -> View | None:
        """The ledger, where something was written since the last call; None where nothing was, or there is none."""
        is_another = self._attend()
        if self.view is None:
            return None
        version = self.view.version_of_data()
        if version == self._version and not is_another:
            return None
        self._version = version
        return self.view

    def _attend(self) -> bool:
        """Have the file open that stands there now; whether it is another one than before."""
        try:
            status = self._path.stat() if is_there(self._path) else None
        except FileNotFoundError:  # set aside between the two
            status = None
        if status is None:
            self._leave()
            return False
        if self.view is not None and self._file == (status.st_dev, status.st_ino):
            return False
        self._leave()
        try:
            self.view = View(self._directory)
        except LedgerTrouble:
            if is_there(self._path):
                raise
            return False
        self._file = (status.st_dev, status.st_ino)
        return True

    def _leave(self) -> None:
        if self.view is not None:
            self.view.close()
            self.view = None
