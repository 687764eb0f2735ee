# SPDX-License-Identifier: Apache-2.0
"""Changes of system files: write one, remove one, point a link, make a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from guest_agent import files
from guest_agent.changes import show
from guest_agent.failure import ItemError
from guest_agent.files import Stored
from guest_agent.system import split
from guest_agent.undo import RemoveMadeDirectory, RestoreFile

if TYPE_CHECKING:
    from guest_agent.changes.change import Change
    from guest_agent.system import System
    from guest_agent.undo import Undo

#: What a new file of a system's configuration has.
FILE_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o755


class WriteFile(NamedTuple):
    """Make *path* hold *content*. Without *mode*, *uid* or *gid*, a file that is there keeps its own; a new one is root's, 0644.

    *owned*: the file is ours from then on, and goes when no document asks for it any more. *secret*: nobody is shown its content.
    *over*: what the file held when this was planned; where it holds something else by then, it is not touched.
    """

    path: str
    content: bytes
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    owned: bool = False
    secret: bool = False
    over: bytes | None = None

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"write {self.path}"

    def show(self, system: System) -> list[str]:
        """What goes and what comes."""
        old = system.read(self.path)
        lines = show.diff(b"" if old is None else old.content, self.content, secret=self.secret)
        return [show.head("write", self.path, old, self.mode), *lines]

    def holds(self, system: System) -> bool:
        """Whether the file has this content, and the mode and owner that are asked for."""
        old = system.read(self.path)
        return (
            old is not None
            and old.content == self.content
            and self.mode in (None, old.mode)
            and self.uid in (None, old.uid)
            and self.gid in (None, old.gid)
        )

    def capture(self, system: System) -> Undo:
        """Whether there is a file."""
        old = system.read(self.path)
        if self.over is not None and (b"" if old is None else old.content) != self.over:
            raise ItemError("changed-meanwhile", f"{self.path} was changed while this was planned; send the document again")
        return RestoreFile(self.path, old is not None)

    def apply(self, system: System) -> None:
        """Replace the file; its SELinux label stays."""
        parent, name = split(self.path)
        with system.directory(parent) as opened:
            old = files.read(opened, name) or files.new_file(b"", FILE_MODE)
            mode = old.mode if self.mode is None else self.mode
            uid = old.uid if self.uid is None else self.uid
            gid = old.gid if self.gid is None else self.gid
            files.replace(opened, name, Stored(self.content, mode, uid, gid, old.label))


class RemoveFile(NamedTuple):
    """There shall be no *path*; a link is removed, not followed."""

    path: str
    secret: bool = False

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"remove {self.path}"

    def show(self, system: System) -> list[str]:
        """What goes."""
        old = None if system.link(self.path) else system.read(self.path)
        return [f"remove {self.path}", *show.diff(b"" if old is None else old.content, b"", secret=self.secret)]

    def holds(self, system: System) -> bool:
        """Whether there is none."""
        return not system.exists(self.path)

    def capture(self, system: System) -> Undo:
        """Whether there is one."""
        return RestoreFile(self.path, system.exists(self.path))

    def apply(self, system: System) -> None:
        """Remove it."""
        parent, name = split(self.path)
        with system.directory(parent) as opened:
            files.remove(opened, name)


class MakeLink(NamedTuple):
    """Make *path* a symbolic link to *target*, in place of whatever file or link is there."""

    path: str
    target: str
    owned: bool = False

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"link {self.path} to {self.target}"

    def show(self, system: System) -> list[str]:
        """Where it leads, and where it led."""
        old = system.link(self.path) or ("a file" if system.exists(self.path) else "nothing")
        return [f"link {self.path} -> {self.target} (before: {old})"]

    def holds(self, system: System) -> bool:
        """Whether it leads there."""
        return system.link(self.path) == self.target

    def capture(self, system: System) -> Undo:
        """Whether something is there."""
        return RestoreFile(self.path, system.exists(self.path))

    def apply(self, system: System) -> None:
        """Replace it."""
        parent, name = split(self.path)
        with system.directory(parent) as opened:
            files.replace_link(opened, name, self.target)


class MakeDirectory(NamedTuple):
    """Make the directory *path*, whose parent is there, or was made just before; whose, where it is not to be root's."""

    path: str
    mode: int = DIRECTORY_MODE
    uid: int | None = None
    gid: int | None = None

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The change in one line."""
        return f"make the directory {self.path}"

    def show(self, system: System) -> list[str]:  # noqa: ARG002  every Change is asked
        """The same."""
        return [self.describe()]

    def holds(self, system: System) -> bool:
        """Whether something is there; what is no directory shows when something is put into it."""
        return system.exists(self.path)

    def capture(self, system: System) -> Undo:  # noqa: ARG002  every Change is asked
        """That there was none: only a directory that is missing is made."""
        return RemoveMadeDirectory(self.path)

    def apply(self, system: System) -> None:
        """Make it, where another item of the same document has not made it meanwhile."""
        parent, name = split(self.path)
        with system.directory(parent) as opened:
            if not system.exists(self.path):
                files.make_directory(opened, name, self.mode, self.uid, self.gid)


def missing_parents(system: System, path: str) -> list[Change]:
    """What makes the directories that *path* needs and that are not there, outermost first."""
    parents: list[Change] = []
    parent = split(path)[0]
    while parent != "/" and not system.exists(parent):
        parents.append(MakeDirectory(parent))
        parent = split(parent)[0]
    return parents[::-1]
