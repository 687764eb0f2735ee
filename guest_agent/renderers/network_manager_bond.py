# SPDX-License-Identifier: Apache-2.0
"""A bond's options for a NetworkManager profile, and which of them it takes together: it ignores a profile with one too many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.renderers import bonding
from guest_agent.renderers.unsupported import unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest_agent.system import System
    from pv_channel.network import NetworkConfig

_BALANCES_BY_LOAD: Final = ("balance-tlb", "balance-alb")


def section(key: str, network: NetworkConfig, system: System) -> dict[str, str]:
    """The section [bond]; raise `ItemError` where NetworkManager would not take it."""
    options = bonding.options(network.bonds[key], network, system)
    for field, why in _complaints(options):
        raise unsupported("NetworkManager", key, field, why)
    return options


def _complaints(options: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What libnm's own check would say (nm_setting_bond_verify)."""
    mode = options["mode"]
    on = {option for option in ("miimon", "arp_interval", "updelay", "downdelay") if options.get(option, "0") != "0"}
    if "arp_interval" in on and mode in (*_BALANCES_BY_LOAD, "802.3ad"):
        yield "arp-interval", f"not with the mode {mode}"
    if "arp_interval" in on and "arp_ip_target" not in options:
        yield "arp-interval", "only with 'arp-ip-targets'"
    if "arp_ip_target" in options and "arp_interval" not in on:
        yield "arp-ip-targets", "only with 'arp-interval'"
    if on & {"updelay", "downdelay"} and "miimon" not in on and ("miimon" in options or "arp_interval" in on):
        yield "up-delay", "this and 'down-delay' only with 'mii-monitor-interval'"
    if options.get("lacp_rate", "slow") != "slow" and mode != "802.3ad":
        yield "lacp-rate", "only with the mode 802.3ad"
    if "primary" in options and mode not in ("active-backup", *_BALANCES_BY_LOAD):
        yield "primary", "only with the modes active-backup, balance-tlb and balance-alb"
