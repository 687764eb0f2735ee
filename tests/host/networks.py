# SPDX-License-Identifier: Apache-2.0
"""Networks for the host's tests: what cloud-init and OpenStack publish as examples, and every network that can be."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from host_agent.documents.formats.formats import converted
from pv_channel.document import from_values

#: cloud-init's own examples of version 1 ("Networking config Version 1"), and what they mean in version 2.
VERSION1: dict[str, tuple[str, dict[str, Any]]] = {
    "one card by DHCP": (
        """
network:
  version: 1
  config:
    - type: physical
      name: eth0
      subnets: [{type: dhcp}]
""",
        {"ethernets": {"eth0": {"dhcp4": True}}},
    ),
    "three cards": (
        """
network:
  version: 1
  config:
    - {type: physical, name: interface0, mac_address: '00:11:22:33:44:55'}
    - {type: physical, name: jumbo0, mac_address: 'AA:11:22:33:44:55', mtu: 9000}
    - {type: physical, name: gbe1, mac_address: cd:11:22:33:44:02}
""",
        {
            "ethernets": {
                "interface0": {"match": {"macaddress": "00:11:22:33:44:55"}, "set-name": "interface0"},
                "jumbo0": {"match": {"macaddress": "aa:11:22:33:44:55"}, "set-name": "jumbo0", "mtu": 9000},
                "gbe1": {"match": {"macaddress": "cd:11:22:33:44:02"}, "set-name": "gbe1"},
            }
        },
    ),
    "a bond with a VLAN on it": (
        """
network:
  version: 1
  config:
    - {type: physical, name: gbe0, mac_address: 'cd:11:22:33:44:00'}
    - {type: physical, name: gbe1, mac_address: 'cd:11:22:33:44:02'}
    - type: bond
      name: bond0
      bond_interfaces: [gbe0, gbe1]
      params: {bond-mode: 802.3ad, bond-lacp_rate: fast}
    - {type: vlan, name: bond0.200, vlan_link: bond0, vlan_id: 200, subnets: [{type: dhcp4}]}
""",
        {
            "ethernets": {
                "gbe0": {"match": {"macaddress": "cd:11:22:33:44:00"}, "set-name": "gbe0"},
                "gbe1": {"match": {"macaddress": "cd:11:22:33:44:02"}, "set-name": "gbe1"},
            },
            "bonds": {"bond0": {"interfaces": ["gbe0", "gbe1"], "parameters": {"mode": "802.3ad", "lacp-rate": "fast"}}},
            "vlans": {"bond0.200": {"id": 200, "link": "bond0", "dhcp4": True}},
        },
    ),
    "a bridge": (
        """
network:
 version: 1
 config:
   - {type: physical, name: jumbo0, mac_address: 'aa:11:22:33:44:55', mtu: 9000}
   - type: bridge
     name: br0
     bridge_interfaces: [jumbo0]
     params:
       bridge_ageing: 250
       bridge_bridgeprio: 22
       bridge_fd: 1
       bridge_hello: 1
       bridge_maxage: 10
       bridge_pathcost: [jumbo0 75]
       bridge_portprio: [jumbo0 28]
       bridge_stp: 'off'
""",
        {
            "ethernets": {"jumbo0": {"match": {"macaddress": "aa:11:22:33:44:55"}, "set-name": "jumbo0", "mtu": 9000}},
            "bridges": {
                "br0": {
                    "interfaces": ["jumbo0"],
                    "parameters": {
                        "ageing-time": 250, "priority": 22, "forward-delay": 1, "hello-time": 1, "max-age": 10,
                        "path-cost": {"jumbo0": 75}, "port-priority": {"jumbo0": 28}, "stp": False,
                    },
                }
            },
        },
    ),
    "VLANs, and servers for whoever has none": (
        """
network:
  version: 1
  config:
  - name: eth0
    mac_address: d4:be:d9:a8:49:13
    mtu: 1500
    subnets:
    - {address: 10.245.168.16/21, dns_nameservers: [10.245.168.2], gateway: 10.245.168.1, type: static}
    type: physical
  - name: eth1
    mac_address: d4:be:d9:a8:49:15
    subnets: [{address: 10.245.188.2/24, dns_nameservers: [], type: static}]
    type: physical
  - name: eth1.2667
    mtu: 1500
    subnets: [{address: 10.245.184.2/24, dns_nameservers: [], type: static}]
    type: vlan
    vlan_id: 2667
    vlan_link: eth1
  - {address: [10.245.168.2], search: [dellstack], type: nameserver}
""",
        {
            "ethernets": {
                "eth0": {
                    "match": {"macaddress": "d4:be:d9:a8:49:13"}, "set-name": "eth0", "mtu": 1500,
                    "addresses": ["10.245.168.16/21"], "gateway4": "10.245.168.1", "nameservers": {"addresses": ["10.245.168.2"]},
                },
                "eth1": {
                    "match": {"macaddress": "d4:be:d9:a8:49:15"}, "set-name": "eth1", "addresses": ["10.245.188.2/24"],
                    "nameservers": {"addresses": ["10.245.168.2"], "search": ["dellstack"]},
                },
            },
            "vlans": {
                "eth1.2667": {
                    "id": 2667, "link": "eth1", "mtu": 1500, "addresses": ["10.245.184.2/24"],
                    "nameservers": {"addresses": ["10.245.168.2"], "search": ["dellstack"]},
                }
            },
        },
    ),
    "servers for one interface": (
        """
network:
  version: 1
  config:
    - type: physical
      name: interface0
      subnets: [{type: static, address: 192.168.23.14/27, gateway: 192.168.23.1}]
    - {type: nameserver, interface: interface0, address: [192.168.23.2, 8.8.8.8], search: [exemplary]}
""",
        {
            "ethernets": {
                "interface0": {
                    "addresses": ["192.168.23.14/27"], "gateway4": "192.168.23.1",
                    "nameservers": {"addresses": ["192.168.23.2", "8.8.8.8"], "search": ["exemplary"]},
                }
            }
        },
    ),
    "a route of the machine's": (
        """
network:
  version: 1
  config:
    - type: physical
      name: interface0
      subnets: [{type: static, address: 192.168.23.14/24, gateway: 192.168.23.1}]
    - {type: route, destination: 192.168.24.0/24, gateway: 192.168.24.1, metric: 3}
""",
        {
            "ethernets": {
                "interface0": {
                    "addresses": ["192.168.23.14/24"], "gateway4": "192.168.23.1",
                    "routes": [{"to": "192.168.24.0/24", "via": "192.168.24.1", "metric": 3}],
                }
            }
        },
    ),
    "routes with netmasks": (
        """
network:
  version: 1
  config:
    - type: physical
      name: interface0
      subnets:
        - type: dhcp
        - type: static
          address: 10.184.225.122
          netmask: 255.255.255.252
          routes:
            - {gateway: 10.184.225.121, netmask: 255.240.0.0, destination: 10.176.0.0}
            - {gateway: 10.184.225.121, netmask: 255.240.0.0, destination: 10.208.0.0}
""",
        {
            "ethernets": {
                "interface0": {
                    "dhcp4": True, "addresses": ["10.184.225.122/30"],
                    "routes": [
                        {"to": "10.176.0.0/12", "via": "10.184.225.121"}, {"to": "10.208.0.0/12", "via": "10.184.225.121"},
                    ],
                }
            }
        },
    ),
}  # fmt: skip

#: Of the specification that brought network_data.json to Nova, and of Nova's documentation.
OPENSTACK: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one card by DHCP": (
        {
            "links": [
                {
                    "ethernet_mac_address": "fa:16:3e:9c:bf:3d", "id": "tapcd9f6d46-4a", "mtu": None, "type": "bridge",
                    "vif_id": "cd9f6d46-4a3a-43ab-a466-994af9db96fc",
                }
            ],
            "networks": [
                {
                    "id": "network0", "link": "tapcd9f6d46-4a", "network_id": "99e88329-f20d-4741-9593-25bf07847b16",
                    "type": "ipv4_dhcp",
                }
            ],
            "services": [{"address": "8.8.8.8", "type": "dns"}],
        },
        {
            "ethernets": {
                "tapcd9f6d46-4a": {
                    "match": {"macaddress": "fa:16:3e:9c:bf:3d"}, "dhcp4": True, "nameservers": {"addresses": ["8.8.8.8"]},
                }
            }
        },
    ),
    "addresses of both families": (
        {
            "links": [{"id": "interface0", "type": "vif", "ethernet_mac_address": "A0-36-9F-2C-E8-70", "mtu": 1500}],
            "networks": [
                {
                    "id": "private-ipv4", "type": "ipv4", "link": "interface0", "ip_address": "10.184.0.244",
                    "netmask": "255.255.240.0", "network_id": "da5bb487-5193-4a65-a3df-4a0055a8c0d7",
                    "routes": [
                        {"network": "10.0.0.0", "netmask": "255.0.0.0", "gateway": "11.0.0.1"},
                        {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "23.253.157.1"},
                    ],
                },
                {
                    "id": "private-ipv6", "type": "ipv6", "link": "interface0", "ip_address": "2001:cdba::3257:9652/24",
                    "routes": [
                        {"network": "::", "netmask": "::", "gateway": "fd00::1"},
                        {"network": "::", "netmask": "ffff:ffff:ffff::", "gateway": "fd00::1:1"},
                    ],
                },
            ],
            "services": [{"type": "dns", "address": "8.8.8.8"}, {"type": "dns", "address": "8.8.4.4"}],
        },
        {
            "ethernets": {
                "interface0": {
                    "match": {"macaddress": "a0:36:9f:2c:e8:70"}, "mtu": 1500, "accept-ra": False,
                    "addresses": ["10.184.0.244/20", "2001:cdba::3257:9652/24"],
                    "routes": [
                        {"to": "10.0.0.0/8", "via": "11.0.0.1"}, {"to": "default", "via": "23.253.157.1"},
                        {"to": "default", "via": "fd00::1"}, {"to": "::/48", "via": "fd00::1:1"},
                    ],
                    "nameservers": {"addresses": ["8.8.8.8", "8.8.4.4"]},
                }
            }
        },
    ),
    "a VLAN on a bond": (
        {
            "links": [
                {
                    "id": "vlan0", "type": "vlan", "vlan_link": "bond0", "vlan_id": "101",
                    "vlan_mac_address": "a0:36:9f:2c:e8:80", "vif_id": "e1c90e9f-eafc-4e2d-8ec9-58b91cebb53d",
                },
                {
                    "id": "bond0", "type": "bond", "bond_links": ["em1", "9b0ca1c4-0000-4000-8000-000000000000"],
                    "ethernet_mac_address": "a0:36:9f:2c:e8:82", "bond_mode": "802.3ad",
                    "bond_xmit_hash_policy": "layer3+4", "bond_miimon": 100,
                },
                {"id": "em1", "type": "phy", "ethernet_mac_address": "a0:36:9f:2c:e8:82"},
                {"id": "9b0ca1c4-0000-4000-8000-000000000000", "type": "phy", "ethernet_mac_address": "a0:36:9f:2c:e8:83"},
            ],
            "networks": [
                {"id": "a", "link": "vlan0", "type": "ipv6_slaac"}, {"id": "b", "link": "vlan0", "type": "ipv4_dhcp"},
                {"id": "c", "link": "bond0", "type": "ipv6_dhcpv6-stateful"},
            ],
            "services": [],
        },
        {
            "ethernets": {
                "em1": {"match": {"macaddress": "a0:36:9f:2c:e8:82"}},
                "link3": {"match": {"macaddress": "a0:36:9f:2c:e8:83"}},
            },
            "bonds": {
                "bond0": {
                    "interfaces": ["em1", "link3"], "macaddress": "a0:36:9f:2c:e8:82", "dhcp6": True, "accept-ra": True,
                    "parameters": {"mode": "802.3ad", "transmit-hash-policy": "layer3+4", "mii-monitor-interval": 100},
                }
            },
            "vlans": {
                "bond0.101": {
                    "id": 101, "link": "bond0", "macaddress": "a0:36:9f:2c:e8:80", "dhcp4": True, "accept-ra": True,
                }
            },
        },
    ),
}  # fmt: skip

_IP4 = [f"192.0.2.{n}" for n in range(1, 20)]
_IP6 = [f"2001:db8::{n:x}" for n in range(1, 20)]
_ROUTES = [
    {"to": "default", "via": "192.0.2.1"}, {"to": "198.51.100.0/24", "via": "192.0.2.2", "metric": 7},
    {"to": "default", "via": "2001:db8::1", "metric": 9}, {"to": "2001:db8:9::/48", "via": "2001:db8::2"},
]  # fmt: skip


def _maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name.replace("_", "-"): value for name, value in fields.items()})


def _unique(values: list[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), unique_by=str, max_size=most).map(lambda found: [v for v in values if v in found])


_ADDRESSES = _unique([*(f"{a}/24" for a in _IP4), *(f"{a}/64" for a in _IP6)])
_COMMON = _maybe(
    dhcp4=st.booleans(), dhcp6=st.booleans(), accept_ra=st.booleans(), addresses=_ADDRESSES, gateway4=st.just("192.0.2.1"),
    gateway6=st.just("2001:db8::1"), routes=_unique(_ROUTES), mtu=st.integers(1280, 9000),
    nameservers=_maybe(addresses=_unique([*_IP4, *_IP6]), search=_unique(["a.example", "b.example"])),
)  # fmt: skip
_BOND = _maybe(
    mode=st.sampled_from(["balance-rr", "active-backup", "802.3ad", "balance-alb"]), lacp_rate=st.sampled_from(["slow", "fast"]),
    mii_monitor_interval=st.integers(0, 1000), arp_ip_targets=_unique(_IP4), primary=st.just("eth1"),
    all_slaves_active=st.booleans(), gratuitous_arp=st.integers(0, 9), fail_over_mac_policy=st.sampled_from(["none", "follow"]),
    transmit_hash_policy=st.sampled_from(["layer2", "vlan+srcmac"]), arp_all_targets=st.sampled_from(["any", "all"]),
)  # fmt: skip
_BRIDGE = _maybe(
    ageing_time=st.integers(0, 99), priority=st.integers(0, 65535), forward_delay=st.integers(0, 30), stp=st.booleans(),
    port_priority=st.just({"eth3": 5}), path_cost=st.just({"eth3": 50}), hello_time=st.integers(1, 9), max_age=st.integers(6, 40),
)  # fmt: skip
_NAMED = ("eth0", "eth1", "eth2", "eth3")


_KINDS = ("plain", "by address", "by address and name", "by name")


@st.composite
def networks(draw: st.DrawFn, kinds_of_card: tuple[str, ...] = _KINDS) -> dict[str, Any]:
    """A network of version 2, as plain values: cards alone, cards in a bond and a bridge, VLANs on any of them."""
    kinds = st.sampled_from(kinds_of_card)
    config: dict[str, Any] = {"version": 2, "ethernets": {}}
    for number, name in enumerate(_NAMED):
        kind, mac = draw(kinds), f"00:16:3e:00:00:0{number}"
        card = {} if name in ("eth1", "eth2", "eth3") and draw(st.booleans()) else draw(_COMMON)
        card |= {"match": {"macaddress": mac}} if kind.startswith("by address") else {}
        card |= {"match": {"name": f"en{number}*"}} if kind == "by name" else {}
        card |= {"set-name": name} if kind.endswith("and name") else {}
        config["ethernets"][name] = card
    if draw(st.booleans()) and not any(has_addresses(config["ethernets"][name]) for name in ("eth1", "eth2")):
        bond = draw(_COMMON) | draw(_maybe(macaddress=st.just("00:16:3e:00:00:10"), parameters=_BOND))
        config["bonds"] = {"bond0": bond | {"interfaces": ["eth1", "eth2"]}}
    if draw(st.booleans()) and not has_addresses(config["ethernets"]["eth3"]):
        bridge = draw(_COMMON) | draw(_maybe(macaddress=st.just("00:16:3e:00:00:11"), parameters=_BRIDGE))
        config["bridges"] = {"br0": bridge | {"interfaces": ["eth3"]}}
    if draw(st.booleans()):
        link = draw(st.sampled_from(["eth0", *config.get("bonds", {}), *config.get("bridges", {})]))
        vlan = draw(_COMMON) | draw(_maybe(macaddress=st.just("00:16:3e:00:00:12")))
        config["vlans"] = {"vlan5": vlan | {"id": 5, "link": link}, "vlan5.6": {"id": 6, "link": "vlan5"}}
    return config


def for_version1() -> st.SearchStrategy[dict[str, Any]]:
    """Those that version 1 can say."""
    return networks(("plain", "by address and name"))


def for_openstack() -> st.SearchStrategy[dict[str, Any]]:
    """Those that network_data.json can mostly say."""
    return networks(("by address", "by address and name")).map(_cured)


def _cured(config: dict[str, Any]) -> dict[str, Any]:
    """Without what network_data.json has no word for, as its errors would have an operator do it."""
    if "br0" in config.pop("bridges", {}) and config.get("vlans", {}).get("vlan5", {}).get("link") == "br0":
        config["vlans"]["vlan5"]["link"] = "eth0"
    config.get("bonds", {}).get("bond0", {}).setdefault("macaddress", "00:16:3e:00:00:10")
    for kind in ("ethernets", "bonds", "vlans"):
        for part in config.get(kind, {}).values():
            families = {6 if ":" in address else 4 for address in part.get("addresses", [])}
            for version in {4, 6} - families:
                part.pop(f"gateway{version}", None)
                routes = [route for route in part.get("routes", []) if (":" in route["via"]) != (version == 6)]
                part["routes"] = routes
            if 6 in families and not part.get("dhcp6"):
                part.setdefault("accept-ra", False)
            if part.get("accept-ra") is False and (part.get("dhcp6") or 6 not in families):
                del part["accept-ra"]
            if not families and not any(part.get(way) for way in ("dhcp4", "dhcp6", "accept-ra")):
                part.pop("nameservers", None)
    return config


def has_addresses(card: dict[str, Any]) -> bool:
    """Whether a card has addresses or routes, and so is no member of anything."""
    names = ("dhcp4", "dhcp6", "accept-ra", "addresses", "gateway4", "gateway6", "routes")
    return any(card.get(name) for name in names)


def meaning(values: object) -> Any:
    """A network without the liberties that version 2 gives: gateways are routes, an empty thing is none, a default is unsaid."""
    network = from_values({"instance-id": "i", "network": values}).network
    plain = converted(values, "v2", "v2")["network"]
    for kind in ("ethernets", "bonds", "bridges", "vlans"):
        for name, part in plain.get(kind, {}).items():
            routes = network.all()[name].all_routes()  # type: ignore[union-attr]  # there is one
            defaults = ("0.0.0.0/0", "::/0")
            found = {(r.version, "default" if r.to in defaults else r.to, r.via, r.metric) for r in routes}
            for gone in ("gateway4", "gateway6", "routes"):
                part.pop(gone, None)
            part["all-routes"] = found
            servers = part.pop("nameservers", {})
            part["nameservers"] = [set(servers.get("addresses", [])), set(servers.get("search", []))]
            if part.get("parameters", {}).get("mode") == "balance-rr" or part.get("parameters") == {}:
                part["parameters"].pop("mode", None)
            if not part.get("parameters"):
                part.pop("parameters", None)
    return plain
