# SPDX-License-Identifier: Apache-2.0
"""The item ``network``: files for the network manager that is in charge, and none left for one that is not any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent.actions.plan import Plan
from guest_agent.changes.files import RemoveFile
from guest_agent.renderers import ifupdown, networkd
from guest_agent.renderers.choose import choose

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from pv_channel.document import Document


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the interfaces be what the document says; None where it says nothing. Raise `ItemError`, `OSError`."""
    if document.network is msgspec.UNSET:
        return None
    system = draft.system
    if choose(system) == networkd.NAME:
        changes = networkd.plan(document.network, system)
        return Plan([*changes, *map(RemoveFile, ifupdown.ours(system))], f"by {networkd.NAME}")
    changes = ifupdown.plan(document.network, system)
    remarks = ifupdown.remarks(document.network, system)
    return Plan([*changes, *map(RemoveFile, networkd.ours(system))], f"by {ifupdown.NAME}{remarks}")
