# SPDX-License-Identifier: Apache-2.0
"""Which network manager is the active one: the service that is enabled or runs decides, not what happens to be installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.failure import ItemError
from guest_agent.renderers import ifupdown, networkd, units

if TYPE_CHECKING:
    from guest_agent.system import System

_NETPLAN: Final = ("/usr/sbin/netplan", "/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate")
_NETWORK_MANAGER: Final = "NetworkManager.service"


def choose(system: System) -> str:
    """``networkd.NAME`` or ``ifupdown.NAME``; raise `ItemError` where another manager is in charge, or none."""
    if is_netplan(system):
        raise _unsupported("netplan", "/etc/netplan has *.yaml; remove them where systemd-networkd alone shall be in charge")
    if networkd.is_active(system):
        return networkd.NAME
    if units.is_enabled(system, _NETWORK_MANAGER) or system.exists("/run/NetworkManager"):
        raise _unsupported("NetworkManager", "it is enabled or runs; enable systemd-networkd, or use ifupdown, in its place")
    if ifupdown.is_active(system):
        return ifupdown.NAME
    raise ItemError(
        "no-manager",
        "no network manager is in charge here: systemd-networkd is not enabled, and ifupdown's networking.service is not "
        "enabled or /etc/network/interfaces has no 'source' line for interfaces.d",
    )


def _unsupported(name: str, why: str) -> ItemError:
    return ItemError("manager-unsupported", f"{name} is in charge of the network, and this agent cannot write for it yet: {why}")


def is_netplan(system: System) -> bool:
    """Whether netplan writes the configuration of whatever manager runs."""
    return any(map(system.exists, _NETPLAN)) and any(name.endswith(".yaml") for name in system.names("/etc/netplan"))
