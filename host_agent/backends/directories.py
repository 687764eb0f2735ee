# SPDX-License-Identifier: Apache-2.0
"""Which description files are in force, by QEMU's rules of precedence: where they lie, which hides which, and in which order.

Directories go from general to specific. Of files with one name the most specific directory's is the one; where it is empty, or is
no good, there is none. The files that are left are tried in the order of their names, wherever they lie.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.backends.deciders import check_deciders
from host_agent.backends.descriptions import Convention, Description, read
from host_agent.errors import BadFile, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: Below the distribution's, the administrator's and the user's own directory of each convention.
_NAMES: Final = {Convention.CHANNELS: "pv-host-agent/backends", Convention.VHOST_USER: "qemu/vhost-user"}
SUFFIX: Final = ".json"
#: A distribution has a dozen.
MAX_FILES: Final = 1000


class Fate(Enum):
    """What becomes of a file."""

    TAKEN = "taken"
    HIDDEN = "hidden"
    EMPTY = "empty"
    SKIPPED = "skipped"


class File(NamedTuple):
    """A file, or a directory of them, what becomes of it, and why, if it is not taken; then it has no *description*."""

    path: Path
    fate: Fate
    why: str = ""
    description: Description | None = None


class Found(NamedTuple):
    """What one look found: *files* in the order of their names, the most specific of one name first; then directories."""

    files: tuple[File, ...] = ()

    @property
    def descriptions(self) -> tuple[Description, ...]:
        """What is in force, the first to be tried first."""
        return tuple(file.description for file in self.files if file.description is not None)

    @property
    def complaints(self) -> tuple[str, ...]:
        """Why files and directories are skipped: sentences that say which."""
        return tuple(dict.fromkeys(file.why for file in self.files if file.fate is Fate.SKIPPED))


def directories(convention: Convention, environment: Mapping[str, str], uid: int) -> list[Path]:
    """Where the files of *convention* are, from general to specific. root has no directory of its own: what lies in a home
    decides nothing for the machine.
    """
    name = _NAMES[convention]
    found = [Path("/usr/share") / name, Path("/etc") / name]
    if uid != 0:
        home, config = environment.get("HOME", ""), environment.get("XDG_CONFIG_HOME", "")
        if not config.startswith("/"):  # the XDG specification has a relative one ignored
            config = f"{home}/.config" if home.startswith("/") else ""
        if config:
            found.append(Path(config) / name)
    return found


def look(paths: Sequence[Path], convention: Convention) -> Found:
    """What is in the directories *paths*, from general to specific; one that is not there has nothing."""
    by_name: dict[str, list[Path]] = {}
    bad: dict[Path, str] = {}
    for directory in reversed(paths):
        try:
            names = _names(directory)
            for name in names[:MAX_FILES]:
                by_name.setdefault(name, []).append(directory / name)
            _check(directory, names)
        except BadFile as exc:
            bad[directory] = f"{exc}; nothing in {shown(directory)} is used"
    in_order = sorted(by_name.items(), key=lambda item: os.fsencode(item[0]))
    files = [file for _, same in in_order for file in _judged(same, convention, bad)]
    return Found((*files, *(File(directory, Fate.SKIPPED, why) for directory, why in bad.items())))


def _names(directory: Path) -> list[str]:
    """The names of the description files in *directory*; raise `BadFile`."""
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.name.endswith(SUFFIX) and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise BadFile(f"{shown(directory)}: {exc.strerror}") from None


def _check(directory: Path, names: Sequence[str]) -> None:
    """Raise `BadFile` where others decide what *names* there are in *directory*, or there are too many."""
    if names:
        check_deciders(directory)
    if len(names) > MAX_FILES:
        raise BadFile(f"{shown(directory)}: more than {MAX_FILES} files; cure: remove what is none of a backend program")


def _judged(same: Iterable[Path], convention: Convention, bad: Mapping[Path, str]) -> Iterator[File]:
    """The files of one name, of which the first, the most specific, is the one. One that is not used hides the others all the
    same: it may have been there to do that.
    """
    first, *others = same
    why = bad.get(first.parent)
    yield _read(first, convention) if why is None else File(first, Fate.SKIPPED, why)
    for other in others:
        yield File(other, Fate.HIDDEN, f"hidden by {shown(first)}")


def _read(path: Path, convention: Convention) -> File:
    try:
        description = read(path, convention)
    except BadFile as exc:
        return File(path, Fate.SKIPPED, str(exc))
    if description is None:
        return File(path, Fate.EMPTY, "empty: it hides files of its name in less specific directories")
    return File(path, Fate.TAKEN, "", description)
