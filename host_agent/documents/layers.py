# SPDX-License-Identifier: Apache-2.0
"""What lies below the VMs' own files: ``defaults.yaml`` and ``groups/GROUP.yaml`` beside the directory of the documents.

Each file is read once for as long as it stands unchanged, and not while somebody may be writing it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.documents.directory import Found, listing, named
from host_agent.documents.layer import DEFAULTS, INHERIT, Layer, shared_of
from host_agent.documents.stack import Stack
from host_agent.documents.text_file import text_of
from host_agent.errors import BadFile, shown
from host_agent.files import check_writers

if TYPE_CHECKING:
    from host_agent.documents.layer import Own

GROUPS: Final = "groups"


class Unsettled(Exception):  # noqa: N818 -- it says what the file is
    """A file is being written; look again in a moment."""


class _Read(NamedTuple):
    """What a file was when it was read, and what came of it: a layer, or what is wrong with it."""

    file: Found
    result: Layer | str


def names(own: Own) -> tuple[str, ...]:
    """What shall lie below *own*, the lowest first: ``defaults``, ``groups/GROUP``."""
    return (*((DEFAULTS,) if own.has_defaults else ()), *(f"{GROUPS}/{group}" for group in own.inherit))


def is_shared(path: Path, documents: Path) -> bool:
    """Whether the file at *path* is defaults or a group by its place, and not a VM's own."""
    return not _lies_in(path, documents) and (path.absolute().parent.name == GROUPS or path.stem == DEFAULTS)


def _lies_in(path: Path, documents: Path) -> bool:
    return path.absolute().parent.resolve() == documents.resolve()


class Choice:
    """Which layers lie below a file that an operator names: those beside *documents* where it lies there, or *everywhere*."""

    def __init__(self, documents: Path, *, everywhere: bool) -> None:
        self.documents = documents
        self._is_everywhere = everywhere
        self._layers: Layers | None = None

    def layers(self, path: Path) -> Layers | None:
        """What is below the file at *path*; None where it stands alone. Raise `BadFile` where one cannot look."""
        if not self._is_everywhere and not _lies_in(path, self.documents):
            return None
        if self._layers is None:
            self._layers = Layers(self.documents)
            self._layers.look()
        return self._layers


class Layers:
    """The defaults and the groups beside the directory *documents*, as they were at the last `look`."""

    def __init__(self, documents: Path) -> None:
        self._top = documents.absolute().parent
        self._seen: dict[str, Found] = {}
        self._settled: dict[str, Found] = {}
        self._read: dict[str, _Read] = {}

    def look(self, now: float = math.inf) -> set[str]:
        """The names of those that have come, changed or gone, and settled by *now*; raise `BadFile` where one cannot look."""
        found = self._list()
        changed = set()
        for name in {*found, *self._settled}:
            file = found.get(name)
            is_settled = file == self._seen.get(name) or (file is not None and file.is_old(now))
            if is_settled and file != self._settled.get(name):
                changed.add(name)
        self._seen = found
        self._settled = {name: file for name, file in self._settled.items() if name not in changed}
        self._settled |= {name: found[name] for name in changed if name in found}
        self._read = {name: read for name, read in self._read.items() if self._settled.get(name) == read.file}
        return changed

    def check_places(self) -> None:
        """Raise `BadFile` where others than root can say what VMs become."""
        for directory in {Path(file.paths[0]).parent for file in self._seen.values()}:
            check_writers(directory)

    def files(self) -> list[Path]:
        """All that there are, used or not."""
        return sorted(Path(path) for file in self._seen.values() for path in file.paths)

    def stack(self, own: Own) -> Stack:
        """*own* over its layers; raise `BadFile` where one of them is bad or missing, `Unsettled` where one is being written."""
        below = (self._layer(name) for name in names(own))
        return Stack((*(layer for layer in below if layer is not None), own.layer))

    def _layer(self, name: str) -> Layer | None:
        """The layer called *name*; None where there are no defaults."""
        file = self._settled.get(name)
        if file is None:
            self._check_missing(name)
            return None
        read = self._read.get(name) or _Read(file, _result(name, file))
        self._read[name] = read
        if isinstance(read.result, str):
            raise BadFile(read.result)
        return read.result

    def _check_missing(self, name: str) -> None:
        if name in self._seen:
            raise Unsettled
        if name != DEFAULTS:
            path = shown(self._top / f"{name}.yaml")
            raise BadFile(f"{path}: there is no such group, and '{INHERIT}' names it; cure: write it, or take it out")

    def _list(self) -> dict[str, Found]:
        groups = self._top / GROUPS
        found = {f"{GROUPS}/{name}": file for name, file in listing(groups).items()} if groups.is_dir() else {}
        return found | named(self._top, DEFAULTS)


def _result(name: str, file: Found) -> Layer | str:
    """What is in the *file* of the layer *name*, or what is wrong with it; raise `Unsettled` where it has changed meanwhile."""
    result: Layer | str
    try:
        path = file.only(name.rpartition("/")[2])
        result = shared_of(text_of(path), path)
    except BadFile as exc:
        result = str(exc)
    if not file.is_still_there():
        raise Unsettled
    return result
