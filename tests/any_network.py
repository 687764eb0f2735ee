# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: whole documents' ``network``s that parse, with every field of every kind of interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.networks import MAC0, MAC1, MAC2

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

numbers = st.sampled_from([0, 1, 7, 100, 2**31 - 1])
metrics = st.sampled_from([0, 1, 100, 2**32 - 1])
tables = st.sampled_from([1, 101, 253, 2**32 - 1])
names = st.sampled_from(["web1", "a-b.example.org", "X" * 63])
macs = st.sampled_from(["02:00:00:00:00:01", "FE:00:00:00:00:02"])
V4, V6 = ["10.0.0.5/24", "10.0.1.5/31", "192.0.2.9/32"], ["fd00::5/64", "2001:db8::1/128"]


def some(**fields: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    """A mapping with any of *fields*; an underscore stands for a hyphen, one at the end for nothing."""
    return st.fixed_dictionaries({}, optional={name.rstrip("_").replace("_", "-"): value for name, value in fields.items()})


def _route(to: list[str], via: str, source: str) -> SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"to": st.sampled_from(to), "via": st.just(via)},
        optional={"metric": metrics, "table": tables, "on-link": st.booleans(), "from": st.just(source)},
    )


routes = st.one_of(
    _route(["default", "0.0.0.0/0", "10.1.0.0/16", "192.0.2.1/32"], "10.0.0.1", "10.0.0.5"),
    _route(["default", "::/0", "fd09::/48"], "fe80::1", "fd00::5"),
    st.fixed_dictionaries({"to": st.sampled_from(["10.2.0.0/16", "fd08::/48"])}, optional={"metric": metrics, "table": tables}),
)
rules = st.fixed_dictionaries(
    {"table": tables, "from": st.sampled_from(["10.0.0.5", "10.0.0.0/8", "fd00::/8"])},
    optional={"priority": metrics, "mark": metrics, "type-of-service": st.sampled_from([0, 4, 16, 255])},
)
overrides = some(
    use_dns=st.booleans(),
    use_domains=st.sampled_from([True, False, "route"]),
    use_hostname=st.booleans(),
    use_mtu=st.booleans(),
    use_ntp=st.booleans(),
    use_routes=st.booleans(),
    send_hostname=st.booleans(),
    hostname=names,
    route_metric=metrics,
)
nameservers = some(
    addresses=st.lists(st.sampled_from(["10.0.0.53", "fd00::53", "9.9.9.9", "8.8.8.8"]), unique=True),
    search=st.lists(st.sampled_from(["a.example", "b-c.example.org"]), unique=True),
)
frames = {"macaddress": macs, "mtu": st.integers(1280, 9000), "optional": st.booleans()}
packets = {
    "dhcp4": st.booleans(),
    "dhcp6": st.booleans(),
    "dhcp4_overrides": overrides,
    "dhcp6_overrides": overrides,
    "accept_ra": st.booleans(),
    "addresses": st.lists(st.sampled_from(V4 + V6), unique=True),
    "gateway4": st.just("10.0.0.1"),
    "gateway6": st.sampled_from(["fd00::1", "fe80::1"]),
    "routes": st.lists(routes, max_size=4),
    "routing_policy": st.lists(rules, max_size=3),
    "nameservers": nameservers,
}
bond_parameters = some(
    mode=st.sampled_from(["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]),
    lacp_rate=st.sampled_from(["slow", "fast"]),
    mii_monitor_interval=numbers,
    min_links=st.integers(0, 64),
    transmit_hash_policy=st.sampled_from(["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"]),
    ad_select=st.sampled_from(["stable", "bandwidth", "count"]),
    all_slaves_active=st.booleans(),
    arp_interval=numbers,
    arp_ip_targets=st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2"]), unique=True),
    arp_validate=st.sampled_from(["none", "active", "backup", "all"]),
    arp_all_targets=st.sampled_from(["any", "all"]),
    up_delay=numbers,
    down_delay=numbers,
    fail_over_mac_policy=st.sampled_from(["none", "active", "follow"]),
    gratuitous_arp=st.integers(0, 255),
    packets_per_slave=st.integers(0, 65535),
    primary_reselect_policy=st.sampled_from(["always", "better", "failure"]),
    learn_packet_interval=numbers.filter(bool),
    primary=st.just("first"),
)
bridge_parameters = some(
    ageing_time=numbers,
    priority=st.integers(0, 65535),
    port_priority=some(second=st.integers(0, 63)),
    forward_delay=numbers,
    hello_time=numbers,
    max_age=numbers,
    path_cost=some(second=st.integers(1, 65535), bond0=st.integers(1, 65535)),
    stp=st.booleans(),
)


@st.composite
def networks(draw: Callable[[SearchStrategy[Any]], Any]) -> dict[str, Any]:
    """Four cards; a bond of the first, a bridge of the second and the bond, a VLAN, each perhaps."""
    bonded, bridged = draw(st.booleans()), draw(st.booleans())
    bond_bridged = bonded and bridged and draw(st.booleans())

    def interface(member: bool, **more: SearchStrategy[Any]) -> dict[str, Any]:
        found: dict[str, Any] = draw(some(**frames, **more, **({} if member else packets)))
        return found

    wake = {"wakeonlan": st.booleans()}
    found: dict[str, Any] = {
        "ethernets": {
            "first": interface(bonded, **wake) | {"match": {"macaddress": MAC0}},
            "second": interface(bridged, **wake) | {"match": {"macaddress": MAC1}, "set-name": "wan0"},
            "third": interface(False, **wake) | {"match": {"macaddress": MAC2, "name": "eth*"}},
            "eth3": interface(False, **wake),
        }
    }
    if bonded:
        found["bonds"] = {"bond0": interface(bond_bridged, parameters=bond_parameters) | {"interfaces": ["first"]}}
    if bridged:
        members = ["second", *(["bond0"] if bond_bridged else [])]
        bridge = interface(False, parameters=bridge_parameters) | {"interfaces": members}
        if not bond_bridged:
            bridge.get("parameters", {}).get("path-cost", {}).pop("bond0", None)
        found["bridges"] = {"br0": bridge}
    if draw(st.booleans()):
        found["vlans"] = {"eth3.15": interface(False) | {"id": 15, "link": "eth3"}}
    return found
