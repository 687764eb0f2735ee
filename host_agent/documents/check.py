# SPDX-License-Identifier: Apache-2.0
"""What is wrong with operators' files: with single ones, or with all that a dom0 has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from host_agent.documents.directory import listing
from host_agent.documents.document_file import read, wanted
from host_agent.documents.layer import shared_of
from host_agent.documents.layers import Layers, is_shared
from host_agent.documents.text_file import text_of
from host_agent.errors import BadFile, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from host_agent.documents.document_file import Wanted
    from host_agent.documents.layers import Choice


class Verdict(NamedTuple):
    """The file at *path*: good where there is no *problem*. *is_shared* is for defaults and groups."""

    path: Path
    problem: str | None
    is_shared: bool


def check_files(paths: Sequence[Path], choice: Choice) -> Iterator[Verdict]:
    """A verdict on each."""
    for path in paths:
        yield check_shared(path) if is_shared(path, choice.documents) else Verdict(path, _problem(path, choice), is_shared=False)


def check_all(documents: Path) -> Iterator[Verdict]:
    """A verdict on every file in *documents* and on the defaults and groups beside it; raise `BadFile` where one cannot look."""
    found = listing(documents)
    layers = Layers(documents)
    layers.look()
    yield from map(check_shared, layers.files())
    holders: dict[str, Path] = {}
    for name, file in sorted(found.items()):
        path = Path(file.paths[0])
        try:
            path = file.only(name)
            _hold(wanted(read(path, layers), path, name), path, holders)
        except BadFile as exc:
            yield Verdict(path, str(exc), is_shared=False)
        else:
            yield Verdict(path, None, is_shared=False)


def check_shared(path: Path) -> Verdict:
    """A verdict on defaults or a group, as a part of a document."""
    try:
        shared_of(text_of(path), path)
    except BadFile as exc:
        return Verdict(path, str(exc), is_shared=True)
    return Verdict(path, None, is_shared=True)


def _problem(path: Path, choice: Choice) -> str | None:
    try:
        read(path, choice.layers(path))
    except BadFile as exc:
        return str(exc) if str(exc).startswith(shown(path)) else f"{shown(path)}: cannot be used: {exc}"
    return None


def _hold(what: Wanted, path: Path, holders: dict[str, Path]) -> None:
    """Raise `BadFile` where another file is for the same VM."""
    holder = holders.setdefault(what.key, path)
    if holder != path:
        raise BadFile(f"{shown(path)}: is for {what.key}, as {shown(holder)} is; cure: remove one")
