# SPDX-License-Identifier: Apache-2.0
"""What the planning of one document knows: the machine, what the items before are about to change, and what was ours before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent import files
from guest_agent.changes.accounts import EditAccounts
from guest_agent.changes.files import MakeLink, RemoveFile, WriteFile, missing_parents
from guest_agent.changes.home import MakeHome
from guest_agent.changes.keys import WriteKeys
from guest_agent.failure import ItemError
from guest_agent.homes import keys_path
from pv_channel.digest import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guest_agent.changes.change import Change
    from guest_agent.files import Stored
    from guest_agent.state import State
    from guest_agent.system import System
    from pv_channel.document import Document


class Draft:
    """One document's planning on *system*. *item* is the one that is being planned."""

    def __init__(self, system: System, document: Document, state: State | None) -> None:
        self.system, self._state = system, state
        self.item = ""
        self._overwrite = frozenset[str](document.overwrite)
        #: Whether this instance-id is news here: a clone, or a first boot.
        self.new_instance = state is None or state.target.instance_id != document.instance_id
        self._files: dict[str, Stored | None] = {}
        #: Homes that an item before is about to make.
        self.new_homes: set[str] = set()

    def read(self, path: str) -> Stored | None:
        """The file *path* as it will be when the items before are made; raise `OSError` as `System.read` does."""
        return self._files[path] if path in self._files else self.system.read(path)

    def text(self, path: str) -> str:
        """`read` as text, empty where there is none, what is not UTF-8 replaced; links followed."""
        if path in self._files:
            stored = self._files[path]
            return "" if stored is None else stored.content.decode("utf-8", "replace")
        return self.system.text(path)

    def take(self, changes: Iterable[Change]) -> None:
        """Count *changes* as made, for the items that follow."""
        for change in changes:
            match change:
                case WriteFile():
                    old = self.read(change.path) or files.new_file(b"", 0o644)
                    mode = old.mode if change.mode is None else change.mode
                    self._files[change.path] = msgspec.structs.replace(old, content=change.content, mode=mode)
                case RemoveFile():
                    self._files[change.path] = None
                case EditAccounts():
                    self.take(WriteFile(edit.path, edit.new) for edit in change.edits)
                case MakeHome():
                    self.new_homes.add(change.home.path)

    @property
    def before(self) -> dict[str, str]:
        """The paths that an earlier generation made ours under this item, with the digests of what we wrote."""
        return {} if self._state is None else dict(self._state.owned.get(self.item, {}))

    def own(self, path: str, content: bytes, mode: int | None = None, *, secret: bool = False) -> list[Change]:
        """What makes *path* ours with *content*; raise `ItemError` where somebody has changed what we wrote there."""
        self.check(path)
        return [*missing_parents(self.system, path), WriteFile(path, content, mode, owned=True, secret=secret)]

    def gone(self, wanted: Iterable[str]) -> list[Change]:
        """What removes the files of this item that were ours and are none of *wanted* any more."""
        left = sorted(set(self.before) - set(wanted))
        for path in left:
            self.check(path)
        return [RemoveFile(path) for path in left]

    def check(self, path: str) -> None:
        """Raise `ItemError` where *path* was ours and somebody else has changed it since. A new instance begins anew."""
        digest = self.before.get(path)
        if digest is None or self.new_instance or self.item in self._overwrite or not self.system.exists(path):
            return
        link = self.system.link(path)
        stored = None if link else self.system.read(path)
        now = _digest_of_link(link) if stored is None else digest_of(stored.content)
        if now != digest:
            self.conflict(path, f"somebody has changed it since generation {self._state.target.generation if self._state else 0}")

    def conflict(self, path: str, whose: str) -> None:
        """Raise the `ItemError` for *path*, which somebody else owns, unless the document says to overwrite this item's."""
        if self.item not in self._overwrite:
            raise ItemError("conflict", f"{path}: {whose}; to have the document's: 'overwrite: [{self.item}]'")


def digest_of(content: bytes) -> str:
    """By what a file of ours is known again: 32 hexadecimal digits."""
    return sha256(content).hex()[:32]


def _digest_of_link(target: str) -> str:
    return digest_of(f"-> {target}".encode())


def owned(changes: Iterable[Change]) -> dict[str, str]:
    """The paths that *changes* make ours, with the digests of what they hold then; where it is a block of keys, with its user."""
    found: dict[str, str] = {}
    for change in changes:
        if isinstance(change, WriteFile) and change.owned:
            found[change.path] = digest_of(change.content)
        elif isinstance(change, MakeLink) and change.owned:
            found[change.path] = _digest_of_link(change.target)
        elif isinstance(change, WriteKeys) and change.owned:
            found[keys_path(change.home)] = change.home.user
    return found


def paths(changes: Iterable[Change]) -> set[str]:
    """The files and links that *changes* are about; not their directories, which several items may make."""
    edited = {edit.path for change in changes if isinstance(change, EditAccounts) for edit in change.edits}
    keys = {keys_path(change.home) for change in changes if isinstance(change, WriteKeys)}
    return {change.path for change in changes if isinstance(change, WriteFile | RemoveFile | MakeLink)} | edited | keys
