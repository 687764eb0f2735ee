# SPDX-License-Identifier: Apache-2.0
"""What a network manager cannot express is a failure that names it; nothing of a document is dropped in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent.failure import ItemError

if TYPE_CHECKING:
    from pv_channel.interfaces import DhcpOverrides, Interface


def unsupported(manager: str, key: str, field: str, why: str) -> ItemError:
    """The error for *field* of the interface *key*, with *why*: what the manager lacks, or what it takes instead."""
    return ItemError("not-supported", f"'{key}' has '{field}', which {manager} cannot do: {why}")


def check_member(manager: str, key: str, interface: Interface, master: str) -> None:
    """Raise `ItemError` where a member of *master* has nameservers: the manager knows none of an interface without addresses."""
    if interface.nameservers is not msgspec.UNSET:
        raise unsupported(manager, key, "nameservers", f"it is a member of '{master}'; give them to that")


def check_domains(manager: str, key: str, field: str, overrides: DhcpOverrides) -> None:
    """Raise `ItemError` where DHCP's domains are to be used without its nameservers, or those without them."""
    if overrides.use_domains not in (msgspec.UNSET, overrides.use_dns is not False):
        raise unsupported(manager, key, f"{field}.use-domains", "it takes DHCP's domains with its nameservers, or neither")
