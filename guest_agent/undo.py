# SPDX-License-Identifier: Apache-2.0
"""How a change is undone: values that the journal keeps, each of which may be carried out again and again."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Final

import msgspec

from guest_agent import files, homes, new_homes
from guest_agent.accounts import restore
from guest_agent.command import CommandError
from guest_agent.failure import ItemError, of_os_error
from guest_agent.system import System, split

#: Errors of the machine itself. Any other that a home gives is its user's doing, who must not be able to hold us up for ever.
_MACHINE: Final = (errno.EIO, errno.ENOSPC, errno.EROFS)


class _Undo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="undo", rename="kebab"):
    """`undo` carries it out, raises `OSError` where it has to be tried again, and returns a note for the log, or nothing.

    `prepare` keeps what going back needs, before anything changes; `release` forgets it when there is no way back any more.
    Both are durable when *directory* is.
    """

    @property
    def directory(self) -> str:
        """Where something is kept; empty where nothing is."""
        return ""

    def prepare(self, system: System) -> None:
        """Keep it; raise `OSError`."""

    def release(self, system: System) -> None:
        """Forget it; raise `OSError`."""


class RestoreFile(_Undo, frozen=True, tag="file"):
    """Give *path* back the file or link that it was, or none."""

    path: str
    existed: bool

    @property
    def directory(self) -> str:
        """The file's own."""
        return split(self.path)[0] if self.existed else ""

    def prepare(self, system: System) -> None:
        """Give the file a second name."""
        if self.existed:
            parent, name = split(self.path)
            with system.directory(parent) as opened:
                files.keep(opened, name)

    def release(self, system: System) -> None:
        """Take the second name away."""
        if self.existed:
            parent, name = split(self.path)
            with suppress(FileNotFoundError), system.directory(parent) as opened:
                files.release(opened, name)

    def undo(self, system: System) -> str:
        """Restore the file where it is not as it was."""
        parent, name = split(self.path)
        try:
            with system.directory(parent) as opened:
                files.sweep(opened, name)
                if self.existed:
                    files.put_back(opened, name)
                else:
                    files.remove(opened, name)
        except FileNotFoundError:
            if self.existed:
                raise
        return ""


class RemoveMadeDirectory(_Undo, frozen=True, tag="directory"):
    """Remove *path*, a directory that was not there."""

    path: str

    def undo(self, system: System) -> str:
        """Remove the directory unless somebody has put something into it."""
        parent, name = split(self.path)
        try:
            with system.directory(parent) as opened:
                files.remove_directory(opened, name)
        except FileNotFoundError:
            return ""
        return ""


class RestoreHostname(_Undo, frozen=True, tag="hostname"):
    """Give the running kernel its old name back."""

    name: str

    def undo(self, system: System) -> str:
        """Set the name, where the kernel is asked at all."""
        if system.live and system.kernel.hostname() != self.name:
            system.kernel.set_hostname(self.name)
        return ""


class RestoreKeys(_Undo, frozen=True, tag="keys"):
    """Give a user's ~/.ssh back what it had."""

    home: homes.Home
    old: homes.Keys

    def undo(self, system: System) -> str:
        """Restore the file as the user; what the user put in the way is noted and left."""
        try:
            homes.restore(system, self.home, self.old)
        except ItemError as exc:
            return exc.detail
        except OSError as exc:
            if exc.errno in _MACHINE:
                raise
            return of_os_error(exc, f"restore the keys of {self.home.user}").detail
        return ""


class RunBack(_Undo, frozen=True, tag="command"):
    """Run *argv* (none: nothing), on a live machine and while *while_exists* is there: after a reboot nothing is left to undo."""

    argv: list[str]
    while_exists: str

    def undo(self, system: System) -> str:
        """Run it. Its failure is a note: the files are what counts, and a retry would fail again."""
        if not self.argv or not system.live or (self.while_exists and not system.exists(self.while_exists)):
            return ""
        try:
            status = system.run(self.argv).status
        except CommandError as exc:
            return str(exc)
        return f"'{' '.join(self.argv)}' ended with status {status}" if status else ""


class RestoreAccounts(_Undo, frozen=True, tag="accounts"):
    """Give the account files back the lines that we change."""

    edits: list[restore.Edited]

    @property
    def directory(self) -> str:
        """The one that they are all in."""
        return split(self.edits[0].path)[0] if self.edits else ""

    def prepare(self, system: System) -> None:
        """Give each file a second name."""
        for edit in self.edits:
            RestoreFile(edit.path, existed=True).prepare(system)

    def release(self, system: System) -> None:
        """Take the second names away."""
        for edit in self.edits:
            RestoreFile(edit.path, existed=True).release(system)

    def undo(self, system: System) -> str:
        """Restore them under the lock that other programs take too; `OSError` where that is not to be had."""
        restore.restore(system, self.edits)
        return ""


class RemoveMadeHome(_Undo, frozen=True, tag="home"):
    """Remove a home that was not there."""

    home: homes.Home

    def undo(self, system: System) -> str:
        """Remove it as its user; what the user cannot remove is noted and left."""
        new_homes.remove(system, self.home)
        return f"{self.home.path} could not be removed whole" if system.exists(self.home.path) else ""


class DeleteDevice(_Undo, frozen=True, tag="device"):
    """Delete a network device that was made by files that are no more."""

    name: str

    def undo(self, system: System) -> str:
        """Delete it where it is there. Its failure is a note: after a reboot there is none."""
        from guest_agent import network_devices  # loaded here: only a change of the network needs it

        if not network_devices.is_there(system, self.name):
            return ""
        try:
            network_devices.delete(system, self.name)
        except ItemError as exc:
            return exc.detail
        return ""


Undo = (
    RestoreFile | RemoveMadeDirectory | RestoreHostname | RestoreKeys | RunBack | RestoreAccounts | RemoveMadeHome | DeleteDevice
)
