# SPDX-License-Identifier: Apache-2.0
"""A bond's parameters by the kernel's names (Documentation/networking/bonding.rst), which most managers pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from guest_agent.renderers.interfaces import called

if TYPE_CHECKING:
    from guest_agent.system import System
    from pv_channel.interfaces import Bond
    from pv_channel.network import NetworkConfig

#: What the document calls them.
_OPTIONS: Final = {
    "lacp_rate": "lacp_rate",
    "miimon": "mii_monitor_interval",
    "min_links": "min_links",
    "xmit_hash_policy": "transmit_hash_policy",
    "ad_select": "ad_select",
    "all_slaves_active": "all_slaves_active",
    "arp_interval": "arp_interval",
    "arp_validate": "arp_validate",
    "arp_all_targets": "arp_all_targets",
    "updelay": "up_delay",
    "downdelay": "down_delay",
    "fail_over_mac": "fail_over_mac_policy",
    "num_grat_arp": "gratuitous_arp",
    "packets_per_slave": "packets_per_slave",
    "primary_reselect": "primary_reselect_policy",
    "lp_interval": "learn_packet_interval",
}


def options(bond: Bond, network: NetworkConfig, system: System) -> dict[str, str]:
    """The mode first, then what the document says; several values have commas between. Raise `ItemError` as `called` does."""
    parameters = bond.parameters
    if parameters is msgspec.UNSET:
        return {"mode": "balance-rr"}
    found = {"mode": str(parameters.mode)}
    for option, field in _OPTIONS.items():
        value = getattr(parameters, field)
        if value is not msgspec.UNSET:
            found[option] = str(int(value)) if isinstance(value, bool) else str(value)
    if parameters.arp_ip_targets:
        found["arp_ip_target"] = ",".join(parameters.arp_ip_targets)
    if parameters.primary is not msgspec.UNSET:
        found["primary"] = called(system, network, parameters.primary)
    return found
