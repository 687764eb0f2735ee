# SPDX-License-Identifier: Apache-2.0
"""network-config, version 2: what its parts mean together, and that nothing stands on itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pv_channel.document import from_values, parse
from pv_channel.errors import BadDocument
from pv_channel.interfaces import MAX_INTERFACES, DhcpOverrides
from pv_channel.network import NetworkConfig


def network(**kinds: Any) -> NetworkConfig:
    found = from_values({"instance-id": "i-1", "network": {"version": 2, **kinds}}).network
    assert isinstance(found, NetworkConfig)
    return found


def refused(match: str, **kinds: Any) -> None:
    with pytest.raises(BadDocument, match=match):
        network(**kinds)


def test_every_interface_is_found_by_its_key_in_the_order_in_which_it_can_be_made() -> None:
    found = network(
        vlans={"v1": {"id": 1, "link": "bond0"}},
        bridges={"br0": {"interfaces": ["v1"]}},
        bonds={"bond0": {"interfaces": ["e0"]}},
        ethernets={"e0": {}},
    )
    assert list(found.all()) == ["e0", "bond0", "br0", "v1"]
    assert (found.master("e0"), found.master("v1"), found.master("bond0")) == ("bond0", "br0", None)
    assert (found.vlans_on("bond0"), found.vlans_on("e0")) == (["v1"], [])


@pytest.mark.parametrize(
    "dynamic",
    [
        {"dhcp4": True},
        {"dhcp6": True},
        {"accept-ra": True},
        {"addresses": ["10.0.0.5/24"]},
        {"gateway4": "10.0.0.1"},
        {"routes": [{"to": "10.1.0.0/16"}]},
        {"routing-policy": [{"from": "10.0.0.5", "table": 7}]},
    ],
)
def test_what_has_addresses_or_routes_is_nobody_s_member(dynamic: dict[str, Any]) -> None:
    refused("belong to 'bond0'", ethernets={"e0": dynamic}, bonds={"bond0": {"interfaces": ["e0"]}})
    refused("belong to 'br0'", ethernets={"e0": dynamic}, bridges={"br0": {"interfaces": ["e0"]}})
    assert network(ethernets={"e0": dynamic}).ethernets["e0"].has_addresses


def test_a_member_may_have_what_is_no_address() -> None:
    quiet = {"mtu": 9000, "wakeonlan": True, "accept-ra": False, "optional": True, "match": {"name": "e*"}}
    assert not network(ethernets={"e0": quiet}, bonds={"bond0": {"interfaces": ["e0"]}}).ethernets["e0"].has_addresses


def test_a_longer_circle_is_found() -> None:
    kinds = {
        "bonds": {"bond0": {"interfaces": ["v2"]}},
        "bridges": {"br0": {"interfaces": ["v1"]}},
        "vlans": {"v1": {"id": 1, "link": "bond0"}, "v2": {"id": 2, "link": "br0"}, "v3": {"id": 3, "link": "br0"}},
    }
    refused("stands on itself", **kinds)
    assert network(**(kinds | {"bonds": {"bond0": {}}})).vlans["v3"].link == "br0"


def test_one_id_on_two_links_and_two_ids_on_one_are_good() -> None:
    vlans = {"a": {"id": 7, "link": "e0"}, "b": {"id": 7, "link": "e1"}, "c": {"id": 8, "link": "e0"}}
    assert len(network(ethernets={"e0": {}, "e1": {}}, vlans=vlans).vlans) == 3


def test_an_ethernet_may_be_called_what_its_own_key_is() -> None:
    match = {"match": {"macaddress": "00:16:3e:00:00:01"}, "set-name": "lan0"}
    assert network(ethernets={"lan0": match}).ethernets["lan0"].set_name == "lan0"


def test_a_name_that_a_card_loses_may_be_another_s() -> None:
    swapped = {
        "eth0": {"match": {"macaddress": "00:16:3e:00:00:01"}, "set-name": "eth1"},
        "eth1": {"match": {"macaddress": "00:16:3e:00:00:02"}, "set-name": "eth0"},
    }
    assert [ethernet.set_name for ethernet in network(ethernets=swapped).ethernets.values()] == ["eth1", "eth0"]


def test_two_families_of_rules_know_theirs() -> None:
    rules = [{"from": "10.0.0.5", "table": 7}, {"to": "FD00::/8", "table": 7}]
    found = network(ethernets={"e0": {"routing-policy": rules}}).ethernets["e0"].routing_policy
    assert [(rule.version, rule.source, rule.to) for rule in found] == [
        (4, "10.0.0.5/32", msgspec.UNSET),
        (6, msgspec.UNSET, "fd00::/8"),
    ]


@pytest.mark.parametrize("said", [True, False, "route"])
def test_dhcp_s_domains_are_used_or_not_or_only_to_route(said: bool | str) -> None:
    overrides = network(ethernets={"e0": {"dhcp4-overrides": {"use-domains": said}}}).ethernets["e0"].dhcp4_overrides
    assert isinstance(overrides, DhcpOverrides)
    assert overrides.use_domains == said


@pytest.mark.parametrize("key", ["port-priority", "path-cost"])
def test_a_bridge_s_members_have_values_of_their_own_and_strangers_none(key: str) -> None:
    ports: dict[str, Any] = {"e0": {}, "e1": {}}
    bridge = {"interfaces": ["e0"], "parameters": {key: {"e0": 5}}}
    assert network(ethernets=ports, bridges={"br0": bridge})
    refused("'e1', which is none", ethernets=ports, bridges={"br0": bridge | {"parameters": {key: {"e1": 5}}}})


def test_there_is_a_most_of_each_kind() -> None:
    ethernets: dict[str, Any] = {f"e{number}": {} for number in range(MAX_INTERFACES)}
    full = {
        "ethernets": ethernets,
        "vlans": {f"v{number}": {"id": number, "link": f"e{number}"} for number in range(MAX_INTERFACES)},
        "bonds": {f"bond{number}": {} for number in range(MAX_INTERFACES)},
        "bridges": {f"br{number}": {"interfaces": [f"v{number}"]} for number in range(MAX_INTERFACES)},
    }
    assert len(network(**full).all()) == 4 * MAX_INTERFACES
    for kind, more in (("ethernets", {}), ("vlans", {"id": 1, "link": "e0"}), ("bonds", {}), ("bridges", {})):
        refused(f"network.{kind}: .*<= 64", **(full | {kind: {**full[kind], "more": more}}))


keys = st.sampled_from(["a", "b", "c", "d", "e"])
members = st.lists(keys, max_size=2)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(keys, max_size=3, unique=True),
    st.dictionaries(keys, members, max_size=2),
    st.dictionaries(keys, members, max_size=2),
    st.dictionaries(keys, st.tuples(st.integers(0, 2), keys), max_size=3),
)
def test_what_is_taken_can_be_built_from_the_ground(
    ethernets: list[str], bonds: dict[str, list[str]], bridges: dict[str, list[str]], vlans: dict[str, tuple[int, str]]
) -> None:
    values = {
        "ethernets": {name: {} for name in ethernets},
        "bonds": {name: {"interfaces": names} for name, names in bonds.items()},
        "bridges": {name: {"interfaces": names} for name, names in bridges.items()},
        "vlans": {name: {"id": number, "link": link} for name, (number, link) in vlans.items()},
    }
    try:
        found = network(**values)
    except BadDocument:
        return
    below = {**{name: set[str]() for name in ethernets}, **{name: set(of) for name, of in (bonds | bridges).items()}}
    below |= {name: {link} for name, (_, link) in vlans.items()}
    built: set[str] = set()
    while ready := {name for name, needs in below.items() if needs <= built} - built:
        built |= ready
    assert built == set(found.all())
    assert all(sum(member in group for group in (bonds | bridges).values()) <= 1 for member in built)
    document = from_values({"instance-id": "i-1", "network": {"version": 2, **values}})
    assert parse(document.encode()) == document
