# SPDX-License-Identifier: Apache-2.0
"""The steps of sealing: changes that are never undone, and the two kinds that only sealing has."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from guest_agent import files, trees
from guest_agent.changes.files import RemoveFile, WriteFile, missing_parents
from guest_agent.failure import of_os_error
from guest_agent.state import STATE, Store
from guest_agent.system import split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from guest_agent.system import System

#: What earlier documents made ours, from the moment that no document is in force any more until all of it is gone.
NOTE: Final = "sealing.json"

Owned = dict[str, dict[str, str]]


class Step(Protocol):
    """The part of `guest_agent.changes.change.Change` that needs no way back."""

    @property
    def follows(self) -> bool:
        """Whether it has no state of its own, and is made where another step is."""

    def describe(self) -> str:
        """The step in one line."""

    def show(self, system: System) -> list[str]:
        """The step as lines for people."""

    def holds(self, system: System) -> bool:
        """Whether it is done already; raise `OSError` or `ItemError`."""

    def apply(self, system: System) -> None:
        """Do it; raise `OSError` or `ItemError`."""


class Part(NamedTuple):
    """Steps with one purpose, which *title* says."""

    title: str
    steps: list[Step]


class Clear(NamedTuple):
    """There shall be nothing in the directory *path*, or nothing but directories."""

    path: str
    keep_directories: bool = False

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The step in one line."""
        return f"remove every file below {self.path}" if self.keep_directories else f"remove everything in {self.path}"

    def show(self, system: System) -> list[str]:
        """How much goes."""
        count = self._clear(system, dry=True)
        return [f"{self.describe()} ({count} {'entry' if count == 1 else 'entries'})"]

    def holds(self, system: System) -> bool:
        """Whether nothing is there to remove."""
        return not self._clear(system, dry=True)

    def apply(self, system: System) -> None:
        """Remove it."""
        self._clear(system, dry=False)

    def _clear(self, system: System, *, dry: bool) -> int:
        parent, name = split(self.path)
        try:
            with system.directory(parent) as above:
                opened = files.open_directory(above, name)
        except FileNotFoundError:
            return 0
        try:
            return trees.clear(opened, keep_directories=self.keep_directories, dry=dry)
        finally:
            os.close(opened)


class Forget(NamedTuple):
    """No document shall be in force; what earlier ones made ours is still known until it is gone."""

    owned: Owned

    @property
    def follows(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The step in one line."""
        return "forget the document that is in force"

    def show(self, system: System) -> list[str]:  # noqa: ARG002  every Step is asked
        """The same."""
        return [self.describe()]

    def holds(self, system: System) -> bool:
        """Whether none is."""
        return not Store(system).exists(STATE)

    def apply(self, system: System) -> None:
        """First the note, then the state: who is started between the two is as before, and after them unprovisioned."""
        store = Store(system)
        store.write(NOTE, msgspec.json.encode(self.owned))
        store.remove(STATE)


def remembered(system: System) -> Owned:
    """What earlier documents made ours, by item: paths and digests. A damaged file tells nothing; raise `OSError`."""
    store = Store(system)
    found: Owned = {}
    try:
        state = store.state()
        found = {} if state is None else dict(state.owned)
    except ValueError:
        pass
    try:
        note = msgspec.json.decode(store.read(NOTE) or b"{}", type=Owned)
    except ValueError:
        note = {}
    return {item: note.get(item, {}) | found.get(item, {}) for item in {**note, **found}}


def removals(system: System, paths: Iterable[str]) -> list[Step]:
    """What removes those of *paths* that are there."""
    return [RemoveFile(path, secret=True) for path in dict.fromkeys(paths) if split(path)[1] in _names(system, split(path)[0])]


def matching(system: System, directory: str, wanted: Callable[[str], object]) -> list[str]:
    """The paths in *directory* whose names are *wanted*."""
    return [f"{directory}/{name}" for name in _names(system, directory) if wanted(name)]


def _names(system: System, directory: str) -> list[str]:
    """What is in *directory*; nothing where the way there leads out of the machine's root."""
    try:
        with system.directory(directory) as opened:
            return sorted(os.listdir(opened))  # noqa: PTH208  an open directory has no path
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return []


def write(system: System, path: str, content: bytes, mode: int | None = None) -> list[Step]:
    """What makes *path* hold *content*, its directories made; nothing where it does."""
    step = WriteFile(path, content, mode)
    return [] if step.holds(system) else [*missing_parents(system, path), step]


def lines(step: Step, system: System) -> list[str]:
    """A step as lines for people: what goes is named, what is written is shown."""
    if isinstance(step, RemoveFile):
        return [step.describe()]
    try:
        return step.show(system)
    except OSError as exc:
        return [str(of_os_error(exc, step.describe()))]
