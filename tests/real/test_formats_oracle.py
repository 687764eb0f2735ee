# SPDX-License-Identifier: Apache-2.0
"""Debian's cloud-init, unpacked and not installed, makes the same of version 1 and of network_data.json; or we say why not.

It renders for netplan, whose words are version 2's.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.documents.yaml_values import parse
from lab.packages import unpack
from tests.host.networks import OPENSTACK, VERSION1, meaning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PACKAGES = [
    "cloud-init",
    *(f"python3-{name}" for name in ("requests", "configobj", "six", "yaml", "urllib3", "idna", "chardet", "certifi",
                                     "charset-normalizer", "jinja2", "markupsafe")),
]  # fmt: skip
#: What cloud-init is told and asked, as a program for Debian's own Python, which its compiled modules are for.
ASK = """
import json, sys, yaml
from cloudinit.net.network_state import parse_net_config_data
from cloudinit.net.netplan import network_state_to_netplan
from cloudinit.sources.helpers.openstack import convert_net_json
asked = json.load(sys.stdin)
config = asked["config"]
if "links" in config:
    config = convert_net_json(config, known_macs=asked["cards"])
state = parse_net_config_data(config, skip_broken=False)
json.dump(yaml.safe_load(network_state_to_netplan(state))["network"], sys.stdout)
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cloud-init's Python modules and what they import."""
    tree = tmp_path_factory.mktemp("cloud-init") / "tree"
    unpack(PACKAGES, tree)
    return tree / "usr/lib/python3/dist-packages"


def theirs(modules: Path, config: dict[str, Any], cards: dict[str, str]) -> dict[str, Any]:
    """What cloud-init makes of *config* on a machine with *cards*, names by address."""
    environment = {**os.environ, "PYTHONPATH": str(modules), "PYTHONWARNINGS": "ignore"}
    asked = json.dumps({"config": config, "cards": cards})
    ask = ["/usr/bin/python3", "-c", ASK]
    done = subprocess.run(ask, input=asked, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def _with_servers(made: dict[str, Any]) -> None:
    """Its netplan renderer forgets what a nameserver's ``interface`` said."""
    assert "nameservers" not in made["ethernets"]["interface0"]
    made["ethernets"]["interface0"]["nameservers"] = {"addresses": ["192.168.23.2", "8.8.8.8"], "search": ["exemplary"]}


def _with_route(made: dict[str, Any]) -> None:
    """Its netplan renderer forgets the machine's routes."""
    assert "routes" not in made["ethernets"]["interface0"]
    made["ethernets"]["interface0"]["routes"] = [{"to": "192.168.24.0/24", "via": "192.168.24.1", "metric": 3}]


def _with_service(made: dict[str, Any]) -> None:
    """It gives the machine's servers to nobody where all addresses are dynamic; the guest shall use them all the same."""
    assert "nameservers" not in made["ethernets"]["tapcd9f6d46-4a"]
    made["ethernets"]["tapcd9f6d46-4a"]["nameservers"] = {"addresses": ["8.8.8.8"]}


def _slaac_alone(made: dict[str, Any]) -> None:
    """It asks a DHCPv6 server for what OpenStack says comes from the router alone."""
    vlan = made["vlans"]["bond0.101"]
    assert vlan.pop("dhcp6")
    vlan["accept-ra"] = True


#: Each deliberate difference, by the example that shows it; the docstring is its reason.
DIFFERENCES: dict[str, Callable[[dict[str, Any]], None]] = {
    "servers for one interface": _with_servers,
    "a route of the machine's": _with_route,
    "one card by DHCP of openstack": _with_service,
    "a VLAN on a bond of openstack": _slaac_alone,
}


def nothing(made: dict[str, Any]) -> None:
    """No difference."""


@pytest.mark.parametrize("name", VERSION1)
def test_cloud_init_makes_the_same_of_version_1(modules: Path, name: str) -> None:
    text, ours = VERSION1[name]
    values: Any = parse(text).values
    made = theirs(modules, values["network"], {})
    DIFFERENCES.get(name, nothing)(made)
    assert meaning(made) == meaning({"version": 2, **ours})


@pytest.mark.parametrize("name", OPENSTACK)
def test_cloud_init_makes_the_same_of_network_data(modules: Path, name: str) -> None:
    values, ours = copy.deepcopy(OPENSTACK[name])
    cards = {card["match"]["macaddress"]: key for key, card in ours["ethernets"].items()}
    for link in values["links"]:  # it takes an address as it stands, and a number as it stands
        for field in ("ethernet_mac_address", "vlan_mac_address"):
            link.update({field: link[field].replace("-", ":")} if field in link else {})
        link.update({"vlan_id": int(link["vlan_id"])} if "vlan_id" in link else {})
    made = theirs(modules, values, cards)
    for card in made["ethernets"].values():
        card.pop("set-name", None)  # it pins the name that a card happens to have; OpenStack did not ask for one
    DIFFERENCES.get(f"{name} of openstack", nothing)(made)
    assert meaning(made) == meaning({"version": 2, **ours})
