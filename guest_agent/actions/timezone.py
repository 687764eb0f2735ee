# SPDX-License-Identifier: Apache-2.0
"""The item ``timezone``: the link /etc/localtime (localtime(5)), and /etc/timezone where the distribution has that too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.actions.plan import Plan
from guest_agent.changes.files import MakeLink
from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from pv_channel.document import Document

LOCALTIME: Final = "/etc/localtime"
#: Debian's name of the zone, for programs that do not read links.
TIMEZONE: Final = "/etc/timezone"
ZONES: Final = "/usr/share/zoneinfo"
#: tzfile(5)
_MAGIC: Final = "TZif"


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the document's zone the machine's; None where it names none. Raise `ItemError`, `OSError`."""
    if document.timezone is msgspec.UNSET:
        return None
    zone = str(document.timezone)
    if not _is_zone(draft, zone):
        raise ItemError("not-supported", f"{ZONES} has no zone {zone}; is it spelt so, and is the package tzdata installed?")
    draft.check(LOCALTIME)
    changes: list[Change] = [MakeLink(LOCALTIME, f"..{ZONES}/{zone}", owned=True)]  # relative, as timedatectl(1) makes it
    if draft.system.exists(TIMEZONE) or draft.system.exists("/etc/debian_version"):
        changes += draft.own(TIMEZONE, f"{zone}\n".encode("ascii"))
    return Plan(changes, zone)


def _is_zone(draft: Draft, zone: str) -> bool:
    try:
        return draft.system.text(f"{ZONES}/{zone}", len(_MAGIC)) == _MAGIC
    except IsADirectoryError:  # Europe, for one
        return False
