# SPDX-License-Identifier: Apache-2.0
"""The item ``network``: files for the network manager that is in charge, and none left for one that is not any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.actions.plan import Plan

if TYPE_CHECKING:
    from guest_agent.actions.draft import Draft
    from guest_agent.changes.change import Change
    from guest_agent.reach import Reach
    from guest_agent.renderers.choose import Renderer
    from guest_agent.system import System
    from pv_channel.document import Document
    from pv_channel.network import NetworkConfig
    from pv_channel.routes import Route

#: RT_TABLE_MAIN (rtnetlink(7)): where routes go that name no table.
_MAIN_TABLE: Final = 254


def plan(document: Document, draft: Draft) -> Plan | None:
    """What makes the interfaces be what the document says; None where it says nothing. Raise `ItemError`, `OSError`."""
    if document.network is msgspec.UNSET:
        return None
    from guest_agent.actions.draft import paths
    from guest_agent.renderers import cloud_init
    from guest_agent.renderers.choose import choose

    system, network = draft.system, document.network
    renderer = choose(system)
    stopped = cloud_init.stopped(draft)
    draft.take(stopped)
    made = [change for change in renderer.plan(network, draft) if change not in stopped]
    # Where both have the same name for a file, as with RHEL and SUSE, ours takes the place of cloud-init's.
    changes = [*(change for change in stopped if not paths([change]) & paths(made)), *made]
    # What another manager had goes first: netplan, say, must not find it when it is told to look.
    changes = [*_left(renderer, changes, draft), *changes]
    remarks = renderer.remarks(network, system) + cloud_init.remark(system)
    reach = _reach(network, system) if renderer.is_running(system) else None
    return Plan(changes, f"by {renderer.NAME}{remarks}", reach=reach)


def _reach(network: NetworkConfig, system: System) -> Reach:
    """What is there when all went well, as far as the document says it: not what is ``optional``, nor a router's doing.

    Where both kinds of DHCP are asked for, IPv4's has to answer: few networks have the other.
    """
    from guest_agent.reach import Reach
    from guest_agent.renderers.interfaces import names_after

    reach = Reach([], [], [])
    for key, interface in network.all().items():
        if interface.optional:
            continue
        alone = key in network.bridges and not network.bridges[key].interfaces  # without ports it has nobody to be up with
        for name in names_after(system, network, key) or [key]:  # one that is missing is not up
            reach.links.extend([] if alone else [name])
            reach.addresses.extend((name, address.address) for address in interface.addresses)
            leased = "dhcp4" if interface.dhcp4 else "dhcp6" if interface.dhcp6 else ""
            if leased and not any(address.version == int(leased[-1]) for address in interface.addresses):
                reach.addresses.append((name, leased))
            reach.gateways.extend((name, str(route.via)) for route in interface.all_routes() if _is_way_out(route))
    return reach


def _is_way_out(route: Route) -> bool:
    return route.is_default and route.table in (msgspec.UNSET, _MAIN_TABLE)


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
