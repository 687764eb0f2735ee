# SPDX-License-Identifier: Apache-2.0
"""The ``.netdev`` file (systemd.netdev(5)) that makes networkd create a bond, a bridge or a VLAN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from guest_agent.renderers import sections
from guest_agent.renderers.sections import given

if TYPE_CHECKING:
    from pv_channel.interfaces import Bond, Bridge
    from pv_channel.network import NetworkConfig


def render(key: str, network: NetworkConfig) -> str | None:
    """The whole file, or None for what is not made of software."""
    if key in network.bonds:
        return _file(key, network, "bond", _bond(network.bonds[key]))
    if key in network.bridges:
        return _file(key, network, "bridge", _bridge(network.bridges[key]))
    if key in network.vlans:
        return _file(key, network, "vlan", ["[VLAN]", f"Id={network.vlans[key].id}"])
    return None


def _file(key: str, network: NetworkConfig, kind: str, section: list[str]) -> str:
    interface = network.all()[key]
    device = ["[NetDev]", f"Name={key}", f"Kind={kind}"]
    return sections.text(
        [[*device, *given("MTUBytes", interface.mtu), *given("MACAddress", interface.macaddress)], section]
    )


def _bond(bond: Bond) -> list[str]:
    lines = ["[Bond]"]
    if bond.parameters is msgspec.UNSET:
        return lines
    wanted = bond.parameters
    lines += [
        f"Mode={wanted.mode}",
        *given("LACPTransmitRate", wanted.lacp_rate),
        *_milliseconds("MIIMonitorSec", wanted.mii_monitor_interval),
        *given("MinLinks", wanted.min_links),
        *given("TransmitHashPolicy", wanted.transmit_hash_policy),
        *given("AdSelect", wanted.ad_select),
        *given("AllSlavesActive", wanted.all_slaves_active),
        *_milliseconds("ARPIntervalSec", wanted.arp_interval),
    ]
    if wanted.arp_ip_targets:
        lines.append(f"ARPIPTargets={' '.join(wanted.arp_ip_targets)}")
    return [
        *lines,
        *given("ARPValidate", wanted.arp_validate),
        *given("ARPAllTargets", wanted.arp_all_targets),
        *_milliseconds("UpDelaySec", wanted.up_delay),
        *_milliseconds("DownDelaySec", wanted.down_delay),
        *given("FailOverMACPolicy", wanted.fail_over_mac_policy),
        *given("GratuitousARP", wanted.gratuitous_arp),
        *given("PacketsPerSlave", wanted.packets_per_slave),
        *given("PrimaryReselectPolicy", wanted.primary_reselect_policy),
        *given("LearnPacketIntervalSec", wanted.learn_packet_interval),
    ]


def _bridge(bridge: Bridge) -> list[str]:
    lines = ["[Bridge]"]
    if bridge.parameters is msgspec.UNSET:
        return lines
    wanted = bridge.parameters
    return [
        *lines,
        *given("AgeingTimeSec", wanted.ageing_time),
        *given("Priority", wanted.priority),
        *given("ForwardDelaySec", wanted.forward_delay),
        *given("HelloTimeSec", wanted.hello_time),
        *given("MaxAgeSec", wanted.max_age),
        *given("STP", wanted.stp),
    ]


def _milliseconds(key: str, value: int | msgspec.UnsetType) -> list[str]:
    return [] if value is msgspec.UNSET else [f"{key}={value}ms"]
