# SPDX-License-Identifier: Apache-2.0
"""The running domain that an operator means by a name or a uuid, and which QEMU of dom0's serves its channels."""

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


async def served_by(store: Client, domain: Domain, domains: Sequence[Domain]) -> Domain:
    """The one of *domains* whose QEMU in dom0 serves the consoles that are *domain*'s channels: itself, or its stubdomain.

    Raise `HostError` where there is no such QEMU.
    """
    stubdomain = await _stubdomain(store, domain, domains)
    if stubdomain is None:
        if domain.device_model is None:
            raise HostError(
                f"{shown(domain)} has no QEMU to plug a channel into: it was created with neither a channel nor a frame buffer;"
                " cure: give its configuration a channel and create it anew"
            )
        return domain
    within = f"{shown(domain)}: its QEMU runs in the stubdomain {printable(stubdomain, 20)}"
    found = next((each for each in domains if str(each.domid) == stubdomain), None)
    if found is None:
        raise HostError(f"{within}, and no such domain runs: its device model is gone; cure: restart the VM")
    if found.target != domain.domid:
        whose = found.target or "nobody"
        raise HostError(f"{within}, whose node target names {whose}; cure: pv-host-agent dm argv, or restart the VM")
    if found.device_model is None:
        raise HostError(
            f"{within}, {shown(found)}, and that one has no QEMU in dom0 to plug a channel into;"
            " cure: give the stubdomain's configuration a channel and create it anew"
        )
    return found


async def _stubdomain(store: Client, domain: Domain, domains: Sequence[Domain]) -> str | None:
    """Where its QEMU runs, in the toolstack's words; None for dom0."""
    if domain.stubdomain is not None:
        return str(domain.stubdomain)
    for home in (f"/local/domain/{domain.domid}", f"/vm/{uuid_text(domain.uuid)}"):
        try:
            return printable(await store.read(f"{home}/image/device-model-domid"), 20)
        except NoEntry:
            continue
    of_it = [each for each in domains if each.target == domain.domid] if domain.device_model is None else []
    return str(of_it[0].domid) if len(of_it) == 1 else None


def shown(domain: Domain) -> str:
    """The domain as it stands in a message."""
    return f"domain {printable(domain.name, 100)} ({domain.domid})"


def _uuid(text: str) -> bytes | None:
    try:
        return uuid_bytes(text)
    except LocalError:
        return None
