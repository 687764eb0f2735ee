# SPDX-License-Identifier: Apache-2.0
"""Which of a directory's files are an operator's YAML or JSON, by name, and whether one of them has changed or still changes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import BadFile, shown
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

SUFFIXES: Final = (".yaml", ".yml", ".json")
#: A file that changed less than this ago may be half written: YAML cut short is often valid YAML.
SETTLED_SECONDS: Final = 1.0
#: A VM's or a group's name, which stands in logs, tables and the ledger.
MAX_NAME: Final = 200
#: More VMs than any host runs.
MAX_FILES: Final = 10_000


class Found(NamedTuple):
    """What stands in a directory under one name: a file, or by mistake several; *signature* changes whenever one of them does."""

    paths: tuple[str, ...]
    signature: int
    changed: float

    def is_old(self, now: float) -> bool:
        """Whether it has not changed for so long that nobody is writing it."""
        return now - self.changed >= SETTLED_SECONDS

    def only(self, name: str) -> Path:
        """The one file that is called *name*; raise `BadFile` where there are several, or one whose name cannot be printed."""
        path = Path(self.paths[0])
        if path.stem != name:
            raise BadFile(f"{shown(path)}: a name here is 1 to {MAX_NAME} printable ASCII characters")
        if len(self.paths) > 1:
            raise BadFile(f"{shown(path)}: {shown(self.paths[1])} has the same name; cure: remove one")
        return path

    def is_still_there(self) -> bool:
        """Whether nothing has changed since: what was read meanwhile is what was found."""
        again = NOTHING
        for path in self.paths:
            again = again.and_file(path)
        return again == self

    def is_just(self, entry: os.DirEntry[str]) -> bool:
        """Whether this is one file, and *entry* is that file, and it has not changed."""
        if self.paths != (entry.path,):
            return False
        try:
            return self.signature == _signature(entry.stat())
        except OSError:  # gone meanwhile
            return False

    def and_file(self, path: str) -> Found:
        """This and the file at *path*; where that is none, this alone."""
        try:
            status = os.stat(path)  # noqa: PTH116 -- of ten thousand files, again and again
        except OSError:  # gone meanwhile, or a symlink to nothing: not there
            return self
        if stat.S_ISDIR(status.st_mode):
            return self
        return Found(
            (*self.paths, path),
            _signature(status, self.signature),
            max(self.changed, status.st_mtime, status.st_ctime),
        )


NOTHING: Final = Found((), 0, 0.0)


def listing(directory: Path, before: Mapping[str, Found] = MappingProxyType({})) -> dict[str, Found]:
    """What stands in *directory*, ``NAME.yaml``, ``.yml`` or ``.json`` each by its NAME, hidden files aside; raise `BadFile`.

    What is as it was *before* is the same object: of ten thousand files, nothing is made anew at each look.
    """
    found: dict[str, Found] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                name, dot, suffix = entry.name.rpartition(".")
                if name and not name.startswith(".") and dot + suffix in SUFFIXES and len(found) < MAX_FILES:
                    name = printable(name, MAX_NAME)
                    known = before.get(name)
                    if known is not None and known.is_just(entry):
                        found[name] = known
                    else:
                        _put(found, name, entry.path)
    except OSError as exc:
        raise BadFile(f"{shown(directory)}: {exc.strerror}") from None
    return found


def named(directory: Path, name: str) -> dict[str, Found]:
    """The same of the one *name*, without listing all that the directory may hold."""
    found: dict[str, Found] = {}
    for suffix in SUFFIXES:
        _put(found, name, str(directory / f"{name}{suffix}"))
    return found


def _put(found: dict[str, Found], name: str, path: str) -> None:
    file = found.get(name, NOTHING).and_file(path)
    if file.paths:
        found[name] = file


def _signature(status: os.stat_result, before: int = NOTHING.signature) -> int:
    """What tells a file from its next version, behind the files *before* it, as one number: four take five times as much."""
    return hash((before, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
