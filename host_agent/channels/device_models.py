# SPDX-License-Identifier: Apache-2.0
"""Whose channels a stubdomain's consoles are: those past its own are of the guest whose device model it is.

All of it is by what dom0 wrote down: the stubdomain's node ``target``, and the target's ``image/device-model-domid``, which
decides where several stubdomains name one target. A target that is gone has no channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent.stubdom.console_map import Role, role_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from host_agent.channels.endpoint import Domain
    from host_agent.channels.toolstack import Console, Found


def with_owners(found: Mapping[int, Found]) -> dict[int, Found]:
    """What was *found*, with each channel of a stubdomain's target as its target's, served by the stubdomain's own QEMU."""
    domains = {domid: each.domain for domid, each in found.items()}
    return {domid: _with_owner(each, domains) for domid, each in found.items()}


def owned(console: Console, domains: Mapping[int, Domain]) -> Console:
    """*console* with the target that it is a channel of, if it is one."""
    stubdomain = domains.get(console.domid)
    target = None if stubdomain is None or not _is_channel(console.id, console.name) else target_of(stubdomain, domains)
    return console if target is None else console._replace(target=target.domid)


def target_of(stubdomain: Domain, domains: Mapping[int, Domain]) -> Domain | None:
    """The running domain whose device model *stubdomain* is, or None."""
    target = None if stubdomain.target is None else domains.get(stubdomain.target)
    if target is None or target.domid == stubdomain.domid or target.stubdomain not in (None, stubdomain.domid):
        return None
    return target


def _with_owner(found: Found, domains: Mapping[int, Domain]) -> Found:
    if found.domain.target is None:
        return found
    target = target_of(found.domain, domains)
    owner = None if target is None else target._replace(device_model=found.domain.device_model)
    endpoints = {
        console: endpoint._replace(domain=owner) if _is_channel(console, endpoint.channel) else endpoint
        for console, endpoint in found.endpoints.items()
        if owner is not None or not _is_channel(console, endpoint.channel)
    }
    return found._replace(endpoints=endpoints)


def _is_channel(console: str, name: str) -> bool:
    return role_of(int(console), name) is Role.CHANNEL
