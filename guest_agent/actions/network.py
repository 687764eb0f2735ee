# SPDX-License-Identifier: Apache-2.0
"""The item ``network``: files for the network manager that is in charge, and none left for one that is not any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent.actions.plan import Plan

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.renderers.choose import Renderer
    from pv_channel.document import Document


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the interfaces be what the document says; None where it says nothing. Raise `ItemError`, `OSError`."""
    if document.network is msgspec.UNSET:
        return None
    from guest_agent.renderers.choose import choose

    system, network = draft.system, document.network
    renderer = choose(system)
    changes = renderer.plan(network, draft)
    # What another manager had goes first: netplan, say, must not find it when it is told to look.
    return Plan([*_left(renderer, changes, draft), *changes], f"by {renderer.NAME}{renderer.remarks(network, system)}")


def _left(renderer: Renderer, changes: list[Change], draft: Draft) -> list[Change]:
    """What removes the files that an earlier generation made, or that we made for managers that are in charge no more, unless
    *changes* write or remove them too."""
    from guest_agent.actions.draft import paths
    from guest_agent.changes.files import RemoveFile
    from guest_agent.renderers.choose import RENDERERS

    others = [other for other in RENDERERS if other is not renderer]
    left = sorted({*draft.before, *(path for other in others for path in other.ours(draft.system))} - paths(changes))
    for path in left:
        draft.check(path)
    return [RemoveFile(path) for path in left]
