# SPDX-License-Identifier: Apache-2.0
"""A damaged ledger steps aside, whole and under a name of its own, so that a new one can be begun in its place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from host_agent.errors import LedgerDamaged, LedgerTrouble, shown
from host_agent.files import sync_directory
from host_agent.ledger.ledger import Ledger
from host_agent.ledger.schema import FILE_NAME

if TYPE_CHECKING:
    from pathlib import Path

#: Of more than these the first stay, which know the most, and the latest.
KEPT: Final = 5
_MARK: Final = ".corrupt-"
#: What SQLite keeps beside the file: first away, for what is left of them would be taken for a part of the new one.
_BESIDE: Final = ("-wal", "-shm", "")


def open_sound(directory: Path) -> tuple[Ledger, str]:
    """The ledger in *directory* after a look at all of it; where it is damaged a new one, and a sentence on that, else "".

    Raise `LedgerTrouble` where there is other trouble. Only who serves the directory may do this: others may write to the file.
    """
    try:
        ledger = Ledger.open(directory)
        try:
            ledger.check()
        except LedgerDamaged:
            ledger.abandon_file()
            raise
    except LedgerDamaged as exc:
        aside = set_aside(directory / FILE_NAME)
        ledger = Ledger.open(directory)
        ledger.replaces_another()
        return ledger, _sentence(exc, aside)
    return ledger, ""


def mend(ledger: Ledger, damage: LedgerDamaged) -> tuple[bool, str]:
    """See to *ledger*, which is in use and was found to be damaged; whether it begins a new file, and a sentence on that.

    It does where a second look finds damage, too: a disk may err for a moment. Raise `LedgerTrouble` where it fails.
    """
    try:
        ledger.abandon_file()
        ledger.reopen()
        ledger.check()
    except LedgerDamaged as exc:
        ledger.abandon_file()
        aside = set_aside(ledger.path)
        ledger.reopen()
        ledger.replaces_another()
        return True, _sentence(exc, aside)
    return False, f"{damage.why}; a second look finds nothing wrong with it, and it stays in use"


def set_aside(path: Path) -> Path:
    """Give the ledger at *path*, which nobody has open, another name, and what belongs to it; that name.

    Raise `LedgerTrouble` where it cannot be.
    """
    aside = path.with_name(f"{path.name}{_MARK}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    try:
        for suffix in _BESIDE:
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        sync_directory(path.parent)
        _keep_a_few(path)
    except OSError as exc:
        raise LedgerTrouble(f"{shown(path)}: damaged, and cannot be set aside: {exc.strerror}; cure: move it away") from None
    return aside


def _sentence(damage: LedgerDamaged, aside: Path) -> str:
    """What the operator has to know."""
    return (
        f"{damage.why}: it was set aside as {shown(aside.name)}, and a new one is begun from the documents and the guests' own"
        " answers. Lost are the guests' pinned keys, events and the audit trail: each guest's key is pinned anew, WITHOUT a"
        " check against the one before; 'pv-host-agent events' says 'met again' of each"
    )


def _keep_a_few(path: Path) -> None:
    kept = sorted(found for found in path.parent.glob(f"{path.name}{_MARK}*") if not found.name.endswith(_BESIDE[:2]))
    for aside in kept[KEPT - 1 : -1]:
        for suffix in _BESIDE:
            aside.with_name(aside.name + suffix).unlink(missing_ok=True)
