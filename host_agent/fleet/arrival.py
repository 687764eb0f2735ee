# SPDX-License-Identifier: Apache-2.0
"""A VM becomes this host's: what its last owner knew of it goes into this host's ledger, unless this host was its last owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError
from host_agent.ledger import entry as ledger_entry
from host_agent.ledger import travel
from host_agent.ledger.schema import FILE_NAME
from host_agent.ledger.travel import Manner
from host_agent.views.status import View, is_there
from pv_channel.text import printable

if TYPE_CHECKING:
    from pathlib import Path

#: In the audit trail, as who had the guest's key pinned.
WHO: Final = "fleet"


class NotTaken(HostError):  # noqa: N818 -- it says what became of the entry
    """What is known of a VM cannot be taken into the ledger; nothing has changed there."""


def take(state: Path, key: str, entry: bytes, dom0: str) -> str:
    """Have in the ledger in *state* what the fleet knows of the VM *key*, and say what that was; "" where it was nothing new.

    The last owner's word counts against whatever this host knew before. Raise `NotTaken`, or `LedgerTrouble`.
    """
    if not entry:
        return ""
    found = ledger_entry.decode(entry)
    if found.key != key:
        raise NotTaken(f"{printable(key)}: its entry in the fleet is that of {printable(found.key)}; cure: remove its entry")
    if found.host == dom0 and _knows(state, key):
        return ""
    try:
        return travel.load(state, found, key, Manner(WHO, force=True, as_document=False)).text
    except travel.Refused as exc:
        raise NotTaken(str(exc)) from None


def _knows(state: Path, key: str) -> bool:
    """Whether the ledger has the VM: what this host itself has told the fleet is not newer than that."""
    if not is_there(state / FILE_NAME):
        return False
    with View(state) as view:
        return next(view.each("SELECT 1 FROM vm WHERE key=?", (key,)), None) is not None
