# SPDX-License-Identifier: Apache-2.0
"""The change of passwd, shadow, group and their kin: all of them at once, under the lock that other programs take too."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from guest_agent import files
from guest_agent.accounts.lock import locked
from guest_agent.accounts.restore import Edited, digest_of
from guest_agent.accounts.table import lines_of
from guest_agent.changes import show
from guest_agent.failure import ItemError
from guest_agent.system import split
from guest_agent.undo import RestoreAccounts

if TYPE_CHECKING:
    from guest_agent.system import System
    from guest_agent.undo import Undo


class Edit(NamedTuple):
    """One file: what it held when this was planned, what it shall hold, and whose lines differ."""

    path: str
    old: bytes
    new: bytes
    names: tuple[str, ...]
    secret: bool = False


class EditAccounts(NamedTuple):
    """Make the account files hold what *edits* say; mode, owner and label of each stay."""

    edits: tuple[Edit, ...]

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"write {', '.join(edit.path for edit in self.edits)}"

    def show(self, system: System) -> list[str]:
        """What goes and what comes, file by file; of passwords only that something does."""
        lines = []
        for edit in self.edits:
            old = system.read(edit.path)
            lines.append(show.head("write", edit.path, old, None))
            lines += show.diff(edit.old, edit.new, secret=edit.secret)
        return lines

    def holds(self, system: System) -> bool:
        """Whether our lines are as they shall be: what others do to their own is theirs."""
        return all(lines_of(_content(system, edit), edit.names) == lines_of(edit.new, edit.names) for edit in self.edits)

    def capture(self, system: System) -> Undo:  # noqa: ARG002  every Change is asked
        """Which lines of which files we change."""
        return RestoreAccounts([Edited(edit.path, digest_of(edit.new), list(edit.names)) for edit in self.edits])

    def apply(self, system: System) -> None:
        """Replace the files, where nobody has changed them since they were planned."""
        try:
            with locked(system):
                for edit in self.edits:
                    if _content(system, edit) != edit.old:
                        raise ItemError("changed-meanwhile", f"{edit.path} was changed while this was planned; send it again")
                for edit in self.edits:
                    _replace(system, edit)
        except OSError as exc:
            if exc.errno == errno.EAGAIN:
                raise ItemError("accounts-locked", exc.strerror or str(exc)) from None
            raise


def _content(system: System, edit: Edit) -> bytes:
    stored = system.read(edit.path)
    return b"" if stored is None else stored.content


def _replace(system: System, edit: Edit) -> None:
    parent, name = split(edit.path)
    with system.directory(parent) as opened:
        old = files.read(opened, name)
        if old is None:
            raise OSError(errno.ENOENT, "the file has gone", edit.path)
        files.replace(opened, name, msgspec.structs.replace(old, content=edit.new))
