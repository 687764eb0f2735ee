# SPDX-License-Identifier: Apache-2.0
"""What each VM should become: a directory with a document per VM, looked at again and again.

A file that cannot be used never replaces the good one before it, and one that is still being written is left to settle.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.document_file import Wanted, read, wanted
from host_agent.errors import BadFile, shown
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIXES: Final = (".yaml", ".yml", ".json")
#: A file that changed less than this ago may be half written: YAML cut short is often valid YAML.
SETTLED_SECONDS: Final = 1.0
#: A VM's name, which stands in logs, tables and the ledger.
MAX_NAME: Final = 200
#: More VMs than any host runs.
MAX_FILES: Final = 10_000


class Changes(NamedTuple):
    """What a look at the directory found that the look before did not."""

    wanted: list[Wanted]
    errors: list[tuple[str, str]]
    removed: list[str]


class _Found(NamedTuple):
    """What stands in the directory for one VM: a file, or by mistake several; *signature* changes whenever one of them does."""

    paths: tuple[str, ...]
    signature: tuple[int, ...]
    changed: float


class Inventory:
    """The documents in *directory*, ``NAME.yaml``, ``.yml`` or ``.json`` for the VM NAME."""

    def __init__(self, directory: Path, wall: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self._wall = wall
        self._seen: dict[str, _Found] = {}
        self._read: dict[str, _Found] = {}

    def look(self) -> Changes:
        """What changed since the last look; raise `BadFile` where the directory cannot be read: then nothing has changed."""
        found = self._list()
        changes = Changes([], [], [name for name in self._seen if name not in found])
        now = self._wall()
        for name, file in found.items():
            if self._read.get(name) != file and (self._seen.get(name) == file or now - file.changed >= SETTLED_SECONDS):
                self._read[name] = file
                self._take(name, file, changes)
        self._seen = found
        self._read = {name: file for name, file in self._read.items() if name in found}
        return changes

    def _take(self, name: str, file: _Found, changes: Changes) -> None:
        path = Path(file.paths[0])
        try:
            if path.stem != name:
                raise BadFile(f"{shown(path)}: a VM's name is 1 to {MAX_NAME} printable ASCII characters")
            if len(file.paths) > 1:
                raise BadFile(f"{shown(path)}: there is {shown(file.paths[1])} for the same VM; cure: remove one")
            changes.wanted.append(wanted(read(path), path, name))
        except BadFile as exc:
            changes.errors.append((name, str(exc)))

    def _list(self) -> dict[str, _Found]:
        found: dict[str, _Found] = {}
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    name, dot, suffix = entry.name.rpartition(".")
                    if name and not name.startswith(".") and dot + suffix in SUFFIXES and len(found) < MAX_FILES:
                        _add(found, printable(name, MAX_NAME), entry)
        except OSError as exc:
            raise BadFile(f"{shown(self.directory)}: {exc.strerror}") from None
        return found


def _add(found: dict[str, _Found], name: str, entry: os.DirEntry[str]) -> None:
    try:
        status = entry.stat()
    except OSError:  # gone meanwhile, or a symlink to nothing: not there
        return
    if stat.S_ISDIR(status.st_mode):
        return
    before = found.get(name, _Found((), (), 0.0))
    found[name] = _Found(
        (*before.paths, entry.path),
        (*before.signature, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
        max(before.changed, status.st_mtime, status.st_ctime),
    )
