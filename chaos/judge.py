# SPDX-License-Identifier: Apache-2.0
"""What a guest's record and its root say of whether all went well: nothing twice, nothing lost, the newest in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from chaos import guest
from guest_agent.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_STATE: Final = "var/lib/pv-guest-agent/state.json"
_BEGINS: Final = "begins"
_IN_FORCE: Final = ("applied", "unchanged")


class Entry(msgspec.Struct, frozen=True, rename="kebab"):
    """One line of a guest's record."""

    what: str
    generation: int
    digest: str
    in_force: int


def record(home: Path) -> list[Entry]:
    """The whole of it."""
    path = home / guest.RECORD
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Entry) for line in lines]


def faults_of(entries: Iterable[Entry]) -> list[str]:
    """What of a record should never be: something applied twice, an older one after a newer, or one that failed."""
    faults = []
    generation, digests = 0, set[str]()
    for entry in entries:
        name = f"generation {entry.generation}"
        if entry.what == _BEGINS:
            if entry.in_force >= entry.generation:
                faults.append(f"{name} was begun where {entry.in_force} was in force")
        elif entry.what not in _IN_FORCE:
            faults.append(f"{name}: {entry.what}")
        else:
            if entry.generation <= generation:
                faults.append(f"{name} was applied after {generation}")
            if entry.digest in digests:
                faults.append(f"{name} is a document that was applied before, by another number")
            generation = max(generation, entry.generation)
            digests.add(entry.digest)
    return faults


def in_force(home: Path) -> tuple[int, str, str]:
    """The generation and digest that a guest has, and what its file holds."""
    state, content = home / guest.ROOT / _STATE, home / guest.ROOT / guest.SERIAL_FILE.lstrip("/")
    if not state.exists() or not content.exists():
        return 0, "", ""
    target = msgspec.json.decode(state.read_bytes(), type=State).target
    return target.generation, target.digest, content.read_text(encoding="ascii")
