# SPDX-License-Identifier: Apache-2.0
"""What is wrong with VMs' documents, each fault once: one in a file that many of them share would else be said for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent.documents.directory import MAX_NAME
from host_agent.errors import shown
from pv_channel.text import printable

if TYPE_CHECKING:
    from pathlib import Path


class Faults:
    """Problems, and the VMs' own files that each of them keeps from being used."""

    def __init__(self) -> None:
        self._paths: dict[str, list[Path]] = {}

    def add(self, problem: str, path: Path) -> None:
        """The VM whose own file is at *path* has the *problem*, which may be that of another file."""
        self._paths.setdefault(problem, []).append(path)

    def lines(self, note: str = "") -> list[str]:
        """A line for each problem, with the VMs that have it and *note* where it is not that of one VM's own file."""
        return [_line(problem, paths, note) for problem, paths in self._paths.items()]


def _line(problem: str, paths: list[Path], note: str) -> str:
    if len(paths) == 1 and problem.startswith(shown(paths[0])):
        return problem
    more = len(paths) - 1
    others = f" and {more} more {'VM' if more == 1 else 'VMs'}" if more else ""
    return f"{problem} ({printable(paths[0].stem, MAX_NAME)}{others}{note})"
