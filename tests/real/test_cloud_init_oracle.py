# SPDX-License-Identifier: Apache-2.0
"""For its own published examples, cloud-init's files and ours mean the same, for every network manager; or we say why not.

Debian's cloud-init is unpacked and not installed, and nothing of it runs but its renderers, which write below a folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from lab.packages import unpack
from pv_channel.errors import BadDocument
from pv_channel.messages import Outcome
from tests.guest import test_renderers_sysconfig, test_renderers_wicked
from tests.guest.machine import Machine, document, no_progress
from tests.networks import parsed
from tests.real import meanings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.meanings import Cards, Fact, Facts

PACKAGES = [
    "cloud-init",
    *(f"python3-{name}" for name in ("requests", "configobj", "six", "yaml", "urllib3", "idna", "chardet", "certifi",
                                     "charset-normalizer", "jinja2", "markupsafe", "jsonschema", "attr", "pyrsistent",
                                     "netifaces", "oauthlib", "jsonpatch", "json-pointer", "serial")),
]  # fmt: skip
#: What cloud-init is told, as a program for Debian's own Python, which its compiled modules are for: `cloud-init devel
#: net-convert`, without the users of the distribution that it writes for.
CONVERT = """
import json, sys
from argparse import Namespace
from cloudinit import util
from cloudinit.cmd.devel import net_convert
util.chownbyname = lambda *arguments: None
for asked in json.load(sys.stdin):
    with open(asked["file"]) as data:
        net_convert.handle_args("net-convert", Namespace(
            network_data=data, kind="yaml", directory=asked["into"], debug=False, mac=[],
            distro=asked["distro"], output_kind=asked["kind"]))
"""
EXAMPLES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "cloud_init_examples.yaml").read_text())


class Manager(NamedTuple):
    """A network manager: how cloud-init is asked for its files, the machine on which we are, and who reads both."""

    distro: str
    kind: str
    machine: Callable[[Path], Machine]
    read: Callable[[Path, Cards], Facts]


def _networkd(top: Path) -> Machine:
    return Machine(top)


def _netplan(top: Path) -> Machine:
    made = Machine(top)
    made.write("usr/sbin/netplan")
    made.write("etc/netplan/00-empty.yaml", b"network: {version: 2}\n")
    return made


def _network_manager(top: Path) -> Machine:
    made = Machine(top)
    made.use_network_manager()
    return made


def _ifupdown(top: Path) -> Machine:
    made = Machine(top)
    made.use_ifupdown()
    made.write("sbin/resolvconf")
    return made


MANAGERS = {
    "netplan": Manager("ubuntu", "netplan", _netplan, meanings.netplan),
    "networkd": Manager("photon", "networkd", _networkd, meanings.networkd),
    "NetworkManager": Manager("fedora", "network-manager", _network_manager, meanings.network_manager),
    "ifupdown": Manager("debian", "eni", _ifupdown, meanings.ifupdown),
    "network-scripts": Manager("rhel", "sysconfig", test_renderers_sysconfig.made, meanings.network_scripts),
    "wicked": Manager("opensuse", "sysconfig", test_renderers_wicked.made, meanings.wicked),
}


def cards_of(config: dict[str, Any]) -> Cards:
    """The cards that a document is about, by the names that they are to have."""
    found: Cards = {}
    for number, (key, ethernet) in enumerate(config.get("ethernets", {}).items()):
        match = ethernet.get("match", {})
        name = ethernet.get("set-name") or match.get("name", key).replace("*", f"s{number}")
        found[name] = (match.get("macaddress", f"02:00:00:00:00:{number:02x}"), match.get("driver", ""))
    return found


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What cloud-init makes of every example for every manager: a folder of folders."""
    top = tmp_path_factory.mktemp("cloud-init")
    unpack(PACKAGES, top / "tree")
    asked = []
    for number, config in enumerate(EXAMPLES.values()):
        file = top / f"{number}.yaml"
        file.write_text(json.dumps({"network": {"version": 2, **config}}))
        for name, manager in MANAGERS.items():
            into = top / name / str(number)
            into.mkdir(parents=True)
            asked.append({"file": str(file), "into": f"{into}/", "distro": manager.distro, "kind": manager.kind})
    environment = {**os.environ, "PYTHONPATH": str(top / "tree/usr/lib/python3/dist-packages"), "PYTHONWARNINGS": "ignore"}
    convert = ["/usr/bin/python3", "-c", CONVERT]
    done = subprocess.run(convert, input=json.dumps(asked), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return top


def ours(manager: Manager, config: dict[str, Any], top: Path) -> Path | str:
    """Our files for an example: the root below which they are; or why there are none."""
    machine = manager.machine(top)
    for name in machine.system.names("/sys/class/net"):
        machine.remove(f"sys/class/net/{name}/address")
        (machine.root / f"sys/class/net/{name}").rmdir()
    for name, (mac, driver) in cards_of(config).items():
        machine.write(f"sys/class/net/{name}/address", f"{mac}\n".encode())
        if driver:
            machine.directory(f"sys/class/net/{name}/device")
            (machine.root / f"sys/class/net/{name}/device/driver").symlink_to(f"/sys/bus/pci/drivers/{driver}")
    raw = document(1, network={"version": 2, **config})
    (item,) = machine.provisioner().provision(raw, None, no_progress).items
    if item.outcome is Outcome.FAILED:
        return f"{item.reason}: {item.detail}"
    return machine.root


class Difference(NamedTuple):
    """A fact that one side says and the other does not. *other* is all that the other says."""

    config: dict[str, Any]
    name: str
    fact: Fact
    other: Facts

    def is_by_pattern(self) -> bool:
        """Whether it is about a card that the example knows by a pattern only."""
        ethernets = self.config.get("ethernets", {}).items()
        patterns = {key for key, ethernet in ethernets if set(ethernet.get("match", {})) == {"name"}}
        return self.name in patterns or self.name in {
            name for name in cards_of(self.config) if name not in self.config["ethernets"] and patterns
        }

    def is_route_with_another(self, part: int) -> bool:
        """Whether the other side has the same route but for its network (1), or its metric (3)."""
        rest = [word for index, word in enumerate(self.fact) if index != part]
        return self.fact[0] == "route" and any(
            name == self.name and fact[0] == "route" and [word for index, word in enumerate(fact) if index != part] == rest
            for name, fact in self.other
        )


class Deliberate(NamedTuple):
    """A kind of difference, and its reason. *said* fits the fact, its words with spaces between."""

    managers: str
    reason: str
    theirs: str = ""
    ours: str = ""
    where: Callable[[Difference], bool] = lambda difference: True

    def covers(self, manager: str, difference: Difference, *, is_ours: bool) -> bool:
        """Whether it is this."""
        pattern = self.ours if is_ours else self.theirs
        return (
            manager in self.managers.split()
            and bool(pattern)
            and re.fullmatch(pattern, " ".join(difference.fact)) is not None
            and self.where(difference)
        )


ALL = "networkd NetworkManager ifupdown network-scripts wicked"
DELIBERATE = [
    Deliberate(
        ALL, "it takes the key of a card by pattern for the card's name; ours are the cards that fit", ".*", ".*",
        Difference.is_by_pattern,
    ),
    Deliberate(
        "networkd NetworkManager ifupdown network-scripts", "it forgets the metric of a route of version 2",
        "route .*", "route .*", lambda difference: difference.is_route_with_another(3),
    ),
    Deliberate(
        "networkd NetworkManager ifupdown network-scripts", "it reads ::/0 as ::/64",
        "route ::/64 .*", "route ::/0 .*", lambda difference: difference.is_route_with_another(1),
    ),
    # --- networkd
    Deliberate("networkd", "its renderer makes no .netdev, and puts nothing into a bond, a bridge or a VLAN",
               ours="netdev .*|member .*|Bridge .*|Network (VLAN|PrimarySlave) .*|mac .*"),
    Deliberate("networkd", "netplan's meaning, which is said: no IPv4 link-local addresses, and none at all on a member",
               ours="Network LinkLocalAddressing .*"),
    Deliberate("networkd", "what is made of software has no carrier before it is configured",
               ours="Network ConfigureWithoutCarrier true"),
    Deliberate("networkd", "netplan's meaning: a DHCP server's MTU is used", ours="DHCPv4 UseMTU true"),
    Deliberate("networkd", "its renderer wakes nobody", ours="wakeonlan true"),
    # --- NetworkManager
    Deliberate("NetworkManager", "it marks its profiles", theirs="user .*"),
    Deliberate("NetworkManager", "ours goes before what others have for any card, and before our own for a pattern",
               ours="connection autoconnect-priority 99[89]"),
    Deliberate("NetworkManager", "a match without an address is for all that fit", ours="connection multi-connect 3"),
    Deliberate("NetworkManager", "bringing a bond or a bridge up brings its members", ours="connection autoconnect-slaves 1"),
    Deliberate("NetworkManager", "it fails an interface for one family; with us one that works is better than none",
               theirs="ipv[46] may-fail false"),
    Deliberate("NetworkManager", "it says nothing of a family that has nothing, where NetworkManager would ask DHCP",
               ours="ipv4 method disabled|ipv6 method ignore"),
    Deliberate("NetworkManager", "the host can foretell an address that is made of the card's", ours="ipv6 addr-gen-mode eui64"),
    Deliberate("NetworkManager", "it ignores 'accept-ra: false', without which DHCPv6 would wait for a router",
               "ipv6 method auto", "ipv6 method dhcp"),
    Deliberate("NetworkManager", "it forgets own addresses, all MTUs but a card's, members' values, and most other options",
               ours="mac .*|mtu .*|port .*|bond (miimon|mode) .*|bridge (stp|ageing-time|hello-time|max-age) .*"),
    # --- ifupdown
    Deliberate("ifupdown", "it writes Python's own words where nameservers belong, and gives them to lo as well",
               theirs="line dns \\{.*|dns .*|search .*",
               where=lambda difference: "line" in difference.fact or difference.name == "lo"),
    Deliberate("ifupdown", "it forgets the values of a bridge's members", "line bridge_(pathcost|portprio) \\S+", "port .*"),
    Deliberate("ifupdown", "it repeats the bond's options on each member, which ifenslave does not need", theirs="bond .*",
               where=lambda difference: difference.name not in difference.config.get("bonds", {})),
    Deliberate("ifupdown network-scripts wicked", "it forgets own addresses of what is made of software", ours="mac .*"),
    Deliberate("ifupdown network-scripts wicked", "it leaves a bond's mode to the driver, which takes balance-rr as well",
               ours="bond mode balance-rr"),
    # --- network-scripts
    Deliberate("network-scripts", "a link-local address at least, as every interface has", ours="IPV6INIT yes"),
    Deliberate("network-scripts", "a static IPv6 address does not refuse router advertisements: that is 'accept-ra'",
               theirs="autoconf no|IPV6_FORCE_ACCEPT_RA no"),
    Deliberate("network-scripts", "IPV6_AUTOCONF says it, which the scripts look at before IPV6_FORCE_ACCEPT_RA",
               "IPV6_FORCE_ACCEPT_RA yes", "autoconf (yes|no)"),
    Deliberate("network-scripts", "a default route is one of the routes, no matter of DEFROUTE", theirs="DEFROUTE yes"),
    Deliberate("network-scripts", "it keeps DHCP's gateway out where another interface has a static one, unasked",
               theirs="DHCLIENT_SET_DEFAULT_ROUTE no"),
    Deliberate("network-scripts", "the scripts find a bond's members by their MASTER", theirs="BONDING_SLAVE\\d .*"),
    Deliberate("network-scripts", "newer scripts take a VLAN's number from VID, older ones from the name", ours="vlan-id .*"),
    Deliberate("network-scripts", "it writes keys that not all scripts know, or in another unit, and forgets the rest",
               "PRIO .*|AGEING .*", "bridging .*"),
    Deliberate("network-scripts", "netplan's meaning: a bridge speaks STP", ours="STP yes"),
    # --- wicked
    Deliberate("wicked", "it writes no routes for SUSE (Launchpad #1812117)", ours="route .*"),
    Deliberate("wicked", "it gives a card its own address, which it has", theirs="mac .*"),
    Deliberate("wicked", "its word is RHEL's; wicked reads ETHTOOL_OPTIONS", "ETHTOOL_OPTS true", "wakeonlan true"),
    Deliberate("wicked", "netplan's meaning: a bridge speaks STP", ours="BRIDGE_STP on"),
    Deliberate("wicked", "wicked takes no bond that never looks at its members", ours="bond miimon 100",
               where=lambda difference: "parameters" not in difference.config["bonds"]["bond0"]),
    Deliberate("wicked", "it cuts the link out of the VLAN's name", "vlan \\d+ .*", "vlan \\d+ .*"),
    Deliberate("wicked", "it ignores 'accept-ra' for SUSE", ours="accept-ra .*"),
    Deliberate("wicked", "resolv.conf takes three nameservers of all interfaces; netconfig's list has more", ours="dns .*"),
    Deliberate("wicked", "it forgets a bridge's delays and the values of its members",
               ours="BRIDGE_(FORWARDDELAY|HELLOTIME|MAXAGE|PATHCOSTS|PORTPRIORITIES) .*"),
]  # fmt: skip
#: What a manager cannot do, by manager and example: we say so, cloud-init passes over it.
REFUSED = {
    ("NetworkManager", "documentation, DHCP overrides"): "dhcp4-overrides.use-mtu",
    ("ifupdown", "documentation, DHCP overrides"): "dhcp4-overrides.use-dns",
    ("network-scripts", "documentation, DHCP overrides"): "dhcp4-overrides.use-hostname",
    ("wicked", "documentation, DHCP overrides"): "dhcp4-overrides.use-mtu",
    ("network-scripts", "documentation, one card with everything"): "with 'dhcp4' it sets no other IPv4 address",
    ("network-scripts", "tests, small"): "with 'dhcp4' it sets no other IPv4 address",
    ("network-scripts", "documentation, VLANs"): "its ifup takes the number from the name",
}


@pytest.mark.parametrize("name", MANAGERS)
def test_cloud_init_s_files_and_ours_mean_the_same(theirs: Path, tmp_path: Path, name: str) -> None:
    manager = MANAGERS[name]
    seen = set()
    for number, (example, config) in enumerate(EXAMPLES.items()):
        made = ours(manager, config, tmp_path / str(number))
        if isinstance(made, str):
            assert REFUSED[name, example] in made
            continue
        assert (name, example) not in REFUSED
        cards = cards_of(config)
        sides = manager.read(theirs / name / str(number), cards), manager.read(made, cards)
        assert sides[1]
        for is_ours in (False, True):
            for card, fact in sorted(sides[is_ours] - sides[not is_ours]):
                difference = Difference(config, card, fact, sides[not is_ours])
                found = [rule for rule in DELIBERATE if rule.covers(name, difference, is_ours=is_ours)]
                assert found, f"{example}: only {'ours' if is_ours else 'theirs'}: {card} {fact}"
                seen.add(found[0])
    unseen = [rule.reason for rule in DELIBERATE if name in rule.managers.split() and rule not in seen]
    assert unseen == []


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        # The whole of the documentation's "complex example": its bond and its bridge have members that cannot be.
        (
            {"ethernets": {"id0": {"dhcp4": True}}, "bonds": {"bond0": {"interfaces": ["id0"]}}},
            "'id0' is a member of 'bond0': addresses and routes belong to 'bond0'",
        ),
        ({"bridges": {"br0": {"interfaces": ["wlp1s0"]}}}, "'br0' has 'wlp1s0' among its 'interfaces', which is defined nowhere"),
        ({"ethernets": {"lom": {"match": {"driver": "ixgbe"}, "set-name": "lom1"}}}, "two cards cannot have one name"),
        # The unit tests' networkd example.
        (
            {"ethernets": {"eth0": {}}, "vlans": {"vlan100": {"id": 100, "link": "eth0", "mtu": 901, "dhcp6": True}}},
            "'mtu' 901 is too small for IPv6",
        ),
    ],
)
def test_what_its_examples_say_that_cannot_be_is_refused_before_it_is_sent(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadDocument, match=re.escape(problem)):
        parsed(config)
