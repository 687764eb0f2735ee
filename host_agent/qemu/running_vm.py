# SPDX-License-Identifier: Apache-2.0
"""The running domain that an operator means by a name or a uuid, and whether it has a QEMU that can be spoken to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent.errors import HostError
from host_agent.xenstore.errors import NoEntry
from pv_channel.errors import LocalError
from pv_channel.greeting import NO_UUID, uuid_bytes, uuid_text
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.channels.endpoint import Domain
    from host_agent.xenstore.client import Client


def named(domains: Sequence[Domain], vm: str) -> Domain:
    """The one of *domains* that has *vm* for its uuid or name; raise `HostError`."""
    found = [domain for domain in domains if vm == domain.name or (domain.uuid != NO_UUID and domain.uuid == _uuid(vm))]
    if not found:
        there = ", ".join(sorted(printable(domain.name, 60) for domain in domains[:20])) or "none"
        raise HostError(f"no running domain has the name or uuid {printable(vm, 100)}; running: {there}")
    if len(found) > 1:
        all_of_them = ", ".join(f"{uuid_text(domain.uuid)} ({domain.domid})" for domain in found[:4])
        raise HostError(f"{len(found)} running domains are called {printable(vm, 100)}: {all_of_them}; say which by its uuid")
    return found[0]


async def check_device_model(store: Client, domain: Domain) -> None:
    """Raise `HostError` where the domain has no QEMU in this dom0."""
    if domain.device_model is None:
        raise HostError(
            f"{shown(domain)} has no QEMU to plug a channel into: it was created with neither a channel nor a frame buffer;"
            " cure: give its configuration a channel and create it anew"
        )
    for home in (f"/local/domain/{domain.domid}", f"/vm/{uuid_text(domain.uuid)}"):
        try:
            stubdomain = await store.read(f"{home}/image/device-model-domid")
        except NoEntry:
            continue
        raise HostError(
            f"{shown(domain)}: its QEMU runs in the stubdomain {printable(stubdomain, 20)}, and would make a socket there,"
            " out of dom0's reach; cure: give its configuration a channel and create it anew"
        )


def shown(domain: Domain) -> str:
    """The domain as it stands in a message."""
    return f"domain {printable(domain.name, 100)} ({domain.domid})"


def _uuid(text: str) -> bytes | None:
    try:
        return uuid_bytes(text)
    except LocalError:
        return None
