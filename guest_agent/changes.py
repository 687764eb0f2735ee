# SPDX-License-Identifier: Apache-2.0
"""The kinds of change: each says what it is, whether it holds already, what undoing it needs, and carries itself out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from guest_agent import files, homes
from guest_agent.command import CommandError
from guest_agent.failure import ItemError
from guest_agent.files import Stored
from guest_agent.system import split
from guest_agent.undo import RemoveMadeDirectory, RestoreFile, RestoreHostname, RestoreKeys, RunBack

if TYPE_CHECKING:
    from guest_agent.homes import Home
    from guest_agent.system import System
    from guest_agent.undo import Undo

#: What a new file of a system's configuration has.
FILE_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o755


class Change(Protocol):
    """One step towards what a document asks for."""

    @property
    def follows(self) -> bool:
        """Whether it has no state of its own, and is made where another change of its item is."""

    def describe(self) -> str:
        """The change in one line, for `--dry-run` and for errors."""

    def holds(self, system: System) -> bool:
        """Whether the system is so already; raise `OSError` or `ItemError`."""

    def capture(self, system: System) -> Undo:
        """What undoing it will need, read from the system as it is; raise `OSError` or `ItemError`."""

    def apply(self, system: System) -> None:
        """Carry it out; raise `OSError` or `ItemError`."""


class WriteFile(NamedTuple):
    """Make *path* hold *content*. Without *mode*, a file that is there keeps its own, and a new one has `FILE_MODE`."""

    path: str
    content: bytes
    mode: int | None = None

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"write {self.path}"

    def holds(self, system: System) -> bool:
        """Whether the file has this content, and this mode where one is asked for."""
        old = system.read(self.path)
        return old is not None and old.content == self.content and self.mode in (None, old.mode)

    def capture(self, system: System) -> Undo:
        """The file as it is."""
        return RestoreFile(self.path, system.read(self.path))

    def apply(self, system: System) -> None:
        """Replace the file; its owner and its SELinux label stay."""
        parent, name = split(self.path)
        with system.directory(parent) as opened:
            old = files.read(opened, name) or files.new_file(b"", FILE_MODE)
            mode = old.mode if self.mode is None else self.mode
            files.replace(opened, name, Stored(self.content, mode, old.uid, old.gid, old.label))


class RemoveFile(NamedTuple):
    """There shall be no *path*."""

    path: str

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"remove {self.path}"

    def holds(self, system: System) -> bool:
        """Whether there is none."""
        return not system.exists(self.path)

    def capture(self, system: System) -> Undo:
        """The file as it is."""
        return RestoreFile(self.path, system.read(self.path))

    def apply(self, system: System) -> None:
        """Remove the file."""
        parent, name = split(self.path)
        with system.directory(parent) as opened:
            files.remove(opened, name)


class MakeDirectory(NamedTuple):
    """Make the directory *path*, whose parent is there, or was made just before."""

    path: str

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"make the directory {self.path}"

    def holds(self, system: System) -> bool:
        """Whether something is there; what is no directory shows when something is put into it."""
        return system.exists(self.path)

    def capture(self, system: System) -> Undo:  # noqa: ARG002  every Change is asked
        """That there was none: only a directory that is missing is made."""
        return RemoveMadeDirectory(self.path)

    def apply(self, system: System) -> None:
        """Make it."""
        parent, name = split(self.path)
        with system.directory(parent) as opened:
            files.make_directory(opened, name, DIRECTORY_MODE)


class SetHostname(NamedTuple):
    """Give the running kernel *name*."""

    name: str

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"set the hostname {self.name}"

    def holds(self, system: System) -> bool:
        """Whether the kernel has the name, or is not asked."""
        return not system.live or system.kernel.hostname() == self.name

    def capture(self, system: System) -> Undo:
        """The name that the kernel has."""
        return RestoreHostname(system.kernel.hostname())

    def apply(self, system: System) -> None:
        """sethostname(2)."""
        system.kernel.set_hostname(self.name)


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


class RunCommand(NamedTuple):
    """Run *argv* when the changes before it are made, *undo_argv* when they are unmade; either may be empty.

    It has no state of its own, so it holds always: an item whose other changes hold has nothing to run either.
    It runs on a live machine only, and while *while_exists* is there.
    """

    argv: list[str]
    undo_argv: list[str]
    while_exists: str

    @property
    def follows(self) -> bool:
        """True."""
        return True

    def describe(self) -> str:
        """The change in one line."""
        return f"run {' '.join(self.argv)}" if self.argv else f"on failure run {' '.join(self.undo_argv)}"

    def holds(self, system: System) -> bool:  # noqa: ARG002  every Change is asked
        """Always."""
        return True

    def capture(self, system: System) -> Undo:  # noqa: ARG002  every Change is asked
        """The command that undoes it."""
        return RunBack(self.undo_argv, self.while_exists)

    def apply(self, system: System) -> None:
        """Run it; raise `ItemError` with what it printed where it does not end with status 0."""
        if not self.argv or not system.live or not system.exists(self.while_exists):
            return
        try:
            status, output = system.run(self.argv)
        except CommandError as exc:
            raise ItemError("command-failed", str(exc), exc.output) from None
        if status:
            raise ItemError("command-failed", f"'{' '.join(self.argv)}' ended with status {status}", output)


def missing_parents(system: System, path: str) -> list[Change]:
    """What makes the directories that *path* needs and that are not there, outermost first."""
    parents: list[Change] = []
    parent = split(path)[0]
    while parent != "/" and not system.exists(parent):
        parents.append(MakeDirectory(parent))
        parent = split(parent)[0]
    return parents[::-1]
