# SPDX-License-Identifier: Apache-2.0
"""Documents' ``network``s that every renderer's tests and every real network manager are given: between them, each field once."""

from __future__ import annotations

from typing import Any, Final

from pv_channel.document import from_values
from pv_channel.network import NetworkConfig

MAC0: Final = "00:16:3e:01:02:03"
MAC1: Final = "00:16:3e:01:02:04"
MAC2: Final = "00:16:3e:01:02:05"

#: By a name for the test's id. ``version`` is added.
NETWORKS: Final[dict[str, dict[str, Any]]] = {
    "nothing": {},
    "static": {"ethernets": {"eth0": {"addresses": ["10.0.0.5/24"], "gateway4": "10.0.0.1"}}},
    "dual-stack": {
        "ethernets": {
            "eth0": {
                "addresses": ["10.0.0.5/24", "10.0.1.5/24", "fd00::5/64"],
                "gateway4": "10.0.0.1",
                "gateway6": "fd00::1",
                "accept-ra": False,
                "mtu": 1400,
                "nameservers": {"addresses": ["10.0.0.2", "fd00::2"], "search": ["a.example", "b.example"]},
            }
        }
    },
    "dhcp4": {"ethernets": {"eth0": {"dhcp4": True}}},
    "dhcp6": {"ethernets": {"eth0": {"dhcp6": True, "accept-ra": True}}},
    "dhcp-both": {"ethernets": {"eth0": {"dhcp4": True, "dhcp6": True, "optional": True}}},
    "slaac": {"ethernets": {"eth0": {"accept-ra": True}}},
    "dhcp-overrides": {
        "ethernets": {
            "eth0": {
                "dhcp4": True,
                "dhcp4-overrides": {
                    "use-dns": False,
                    "use-domains": False,
                    "use-hostname": False,
                    "use-mtu": True,
                    "use-ntp": False,
                    "use-routes": True,
                    "send-hostname": True,
                    "hostname": "web1",
                    "route-metric": 200,
                },
            }
        }
    },
    "dhcp-without-routes": {
        "ethernets": {
            "eth0": {
                "dhcp4": True,
                "dhcp6": True,
                "dhcp4-overrides": {"use-routes": False, "use-dns": False, "use-domains": "route"},
                "dhcp6-overrides": {"use-routes": False, "use-dns": False, "use-domains": "route"},
            }
        }
    },
    "several-by-mac": {
        "ethernets": {
            "front": {"match": {"macaddress": MAC0}, "addresses": ["10.0.0.5/24"], "gateway4": "10.0.0.1"},
            "back": {"match": {"macaddress": MAC1}, "addresses": ["10.1.0.5/24"], "mtu": 9000},
            "storage": {"match": {"macaddress": MAC2}, "dhcp4": True, "optional": True},
        }
    },
    "set-name": {
        "ethernets": {
            "front": {"match": {"macaddress": MAC0}, "set-name": "wan0", "addresses": ["10.0.0.5/24"], "gateway4": "10.0.0.1"}
        }
    },
    "match-by-name": {"ethernets": {"any": {"match": {"name": "en*"}, "dhcp4": True}}},
    "match-by-driver": {"ethernets": {"any": {"match": {"name": "e*", "driver": "xen_netfront"}, "dhcp4": True}}},
    "own-mac-and-wake": {
        "ethernets": {"eth0": {"macaddress": MAC2, "wakeonlan": True, "addresses": ["10.0.0.5/24"], "mtu": 1500}}
    },
    "routes": {
        "ethernets": {
            "eth0": {
                "addresses": ["10.0.0.5/24", "fd00::5/64"],
                "routes": [
                    {"to": "default", "via": "10.0.0.1", "metric": 100},
                    {"to": "0.0.0.0/0", "via": "10.0.0.2", "metric": 200},
                    {"to": "::/0", "via": "fd00::1", "metric": 100},
                    {"to": "10.9.0.0/16", "via": "192.168.9.9", "metric": 50, "on-link": True},
                    {"to": "10.8.0.0/16"},
                    {"to": "10.7.0.0/16", "via": "10.0.0.9", "from": "10.0.0.5"},
                    {"to": "fd09::/48", "via": "fd00::9"},
                ],
            }
        }
    },
    "policy-routing": {
        "ethernets": {
            "eth0": {
                "addresses": ["10.0.0.5/24"],
                "gateway4": "10.0.0.1",
            },
            "eth1": {
                "addresses": ["10.1.0.5/24", "fd01::5/64"],
                "routes": [
                    {"to": "default", "via": "10.1.0.1", "table": 101},
                    {"to": "10.1.0.0/24", "table": 101},
                    {"to": "default", "via": "fd01::1", "table": 101},
                ],
                "routing-policy": [
                    {"from": "10.1.0.5", "table": 101, "priority": 1000},
                    {"from": "fd01::5", "table": 101, "priority": 1000},
                    {"from": "10.1.0.0/24", "to": "10.2.0.0/16", "table": 101, "mark": 7, "priority": 1001},
                    {"from": "10.1.0.0/24", "table": 101, "type-of-service": 16, "priority": 1002},
                ],
            },
        }
    },
    "bond": {
        "ethernets": {"eth0": {}, "eth1": {"optional": True}},
        "bonds": {
            "bond0": {
                "interfaces": ["eth0", "eth1"],
                "addresses": ["10.0.0.5/24"],
                "gateway4": "10.0.0.1",
                "macaddress": MAC2,
                "parameters": {"mode": "active-backup", "primary": "eth0", "mii-monitor-interval": 100},
            }
        },
    },
    "bond-lacp": {
        "ethernets": {"first": {"match": {"macaddress": MAC0}}, "second": {"match": {"macaddress": MAC1}}},
        "bonds": {
            "bond0": {
                "interfaces": ["first", "second"],
                "dhcp4": True,
                "mtu": 9000,
                "parameters": {
                    "mode": "802.3ad",
                    "lacp-rate": "fast",
                    "mii-monitor-interval": 100,
                    "min-links": 1,
                    "transmit-hash-policy": "layer3+4",
                    "ad-select": "bandwidth",
                    "up-delay": 200,
                    "down-delay": 300,
                },
            }
        },
    },
    "bond-arp": {
        "ethernets": {"eth0": {}, "eth1": {}},
        "bonds": {
            "bond0": {
                "interfaces": ["eth0", "eth1"],
                "addresses": ["10.0.0.5/24"],
                "parameters": {
                    "mode": "active-backup",
                    "arp-interval": 1000,
                    "arp-ip-targets": ["10.0.0.1", "10.0.0.2"],
                    "arp-validate": "all",
                    "arp-all-targets": "any",
                    "fail-over-mac-policy": "active",
                    "gratuitous-arp": 2,
                    "primary-reselect-policy": "better",
                    "all-slaves-active": True,
                },
            }
        },
    },
    "bond-round-robin": {
        "ethernets": {"eth0": {}, "eth1": {}},
        "bonds": {
            "bond0": {
                "interfaces": ["eth0", "eth1"],
                "addresses": ["10.0.0.5/24"],
                "parameters": {"mode": "balance-rr", "packets-per-slave": 2, "mii-monitor-interval": 100},
            },
        },
    },
    "bond-balance-tlb": {
        "ethernets": {"eth0": {}, "eth1": {}},
        "bonds": {
            "bond0": {
                "interfaces": ["eth0", "eth1"],
                "addresses": ["10.0.0.5/24"],
                "parameters": {"mode": "balance-tlb", "learn-packet-interval": 5, "mii-monitor-interval": 100},
            },
        },
    },
    "vlan": {
        "ethernets": {"eth0": {"addresses": ["10.0.0.5/24"]}},
        "vlans": {"vlan15": {"id": 15, "link": "eth0", "addresses": ["10.15.0.5/24"], "gateway4": "10.15.0.1", "mtu": 1400}},
    },
    "vlan-on-bond": {
        "ethernets": {"first": {"match": {"macaddress": MAC0}}, "second": {"match": {"macaddress": MAC1}}},
        "bonds": {"bond0": {"interfaces": ["first", "second"], "parameters": {"mode": "active-backup"}}},
        "vlans": {
            "bond0.15": {"id": 15, "link": "bond0", "addresses": ["10.15.0.5/24"], "gateway4": "10.15.0.1"},
            "bond0.16": {"id": 16, "link": "bond0", "dhcp4": True},
        },
    },
    "bridge": {
        "ethernets": {"eth0": {}, "eth1": {}},
        "bridges": {
            "br0": {
                "interfaces": ["eth0", "eth1"],
                "addresses": ["10.0.0.5/24", "fd00::5/64"],
                "gateway4": "10.0.0.1",
                "macaddress": MAC2,
                "parameters": {
                    "stp": True,
                    "priority": 4096,
                    "ageing-time": 250,
                    "forward-delay": 5,
                    "hello-time": 3,
                    "max-age": 12,
                    "port-priority": {"eth0": 14},
                    "path-cost": {"eth0": 70, "eth1": 50},
                },
            }
        },
    },
    "bridge-without-ports": {"bridges": {"br0": {"addresses": ["10.0.0.5/24"], "parameters": {"stp": False}}}},
    "bridge-on-vlan-on-bond": {
        "ethernets": {"eth0": {}, "eth1": {}},
        "bonds": {"bond0": {"interfaces": ["eth0", "eth1"], "parameters": {"mode": "active-backup"}}},
        "vlans": {"vlan15": {"id": 15, "link": "bond0"}},
        "bridges": {"br0": {"interfaces": ["vlan15"], "dhcp4": True, "parameters": {"stp": False, "forward-delay": 0}}},
    },
}


def parsed(network: dict[str, Any]) -> NetworkConfig:
    """A document's ``network``, given without its version."""
    found = from_values({"instance-id": "i", "network": {"version": 2, **network}}).network
    assert isinstance(found, NetworkConfig)
    return found
