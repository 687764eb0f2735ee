# SPDX-License-Identifier: Apache-2.0
"""SUSE's wicked gets files in which nothing can be run, is told what to look at again, and netconfig learns the nameservers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from guest_agent.command import Completed
from guest_agent.failure import ItemError
from guest_agent.renderers import naming, shell_file, wicked, wicked_file
from guest_agent.renderers.sections import HEAD
from pv_channel.messages import Outcome
from tests.any_network import networks
from tests.guest import networking
from tests.guest.machine import MAC, Machine
from tests.guest.networking import become, three_cards
from tests.guest.sourcing import ASSIGNMENT, WORDS, sourced
from tests.networks import MAC2, NETWORKS, parsed

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY = "etc/sysconfig/network"
CONFIG = f"{DIRECTORY}/config"
RUNNING = "run/wicked"
STATIC = {"ethernets": {"eth0": {"addresses": ["10.0.0.5/24"]}}}
REFUSED = {"dhcp-without-routes"}
#: Here no card is what the document describes.
NO_CARD = {"match-by-name", "match-by-driver"}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return made(tmp_path)


def made(top: Path) -> Machine:
    """A guest with three cards, of whose network wicked is in charge."""
    machine = three_cards(top)
    alias = machine.root / "etc/systemd/system/network.service"
    alias.symlink_to("/usr/lib/systemd/system/wicked.service")
    machine.directory(RUNNING)
    machine.write(f"{DIRECTORY}/ifcfg-lo", b"STARTMODE=nfsroot\n")
    machine.write(CONFIG, b'# SUSE\'s own\nNETCONFIG_DNS_POLICY="auto"\nNETCONFIG_DNS_STATIC_SERVERS=""\n')
    return machine


def files(machine: Machine, config: dict[str, Any]) -> dict[str, str]:
    return networking.files(machine, config, wicked_file.files)


def keys(machine: Machine, config: dict[str, Any], name: str) -> dict[str, str]:
    """An interface's own file, by key."""
    return shell_file.read(files(machine, config)[f"ifcfg-{name}"])


def test_the_files_say_what_the_document_says(machine: Machine) -> None:
    eth0 = {
        "match": {"macaddress": MAC},
        "dhcp4": True,
        "addresses": ["10.0.0.5/24", "10.0.1.5/24", "fd00::5/64"],
        "gateway4": "10.0.0.1",
        "gateway6": "fd00::1",
        "accept-ra": False,
        "macaddress": MAC2,
        "mtu": 1400,
        "wakeonlan": True,
        "optional": True,
        "routes": [
            {"to": "10.9.0.0/16", "via": "192.168.9.9", "metric": 50, "table": 7, "from": "10.0.0.5", "on-link": True},
            {"to": "fd09::/48"},
        ],
        "routing-policy": [
            {"from": "10.0.0.0/8", "to": "10.2.0.0/16", "table": 7, "priority": 5, "mark": 9, "type-of-service": 16},
            {"to": "fd00::/64", "table": 7},
        ],
    }
    assert files(machine, {"ethernets": {"front": eth0}}) == {
        "ifcfg-eth0": (
            "STARTMODE=hotplug\nETHTOOL_OPTIONS='wol g'\nLLADDR=00:16:3e:01:02:05\nMTU=1400\nBOOTPROTO=dhcp4\n"
            "IPADDR=10.0.0.5/24\nIPADDR_1=10.0.1.5/24\nIPADDR_2=fd00::5/64\n"
        ),
        "ifroute-eth0": (
            "default 10.0.0.1 - eth0\n"
            "default fd00::1 - eth0\n"
            "10.9.0.0/16 192.168.9.9 - eth0 metric 50 table 7 src 10.0.0.5 onlink\n"
            "fd09::/48 - - eth0\n"
        ),
        "ifrule-eth0": (
            "ipv4 from 10.0.0.0/8 to 10.2.0.0/16 fwmark 9 tos 0x10 priority 5 table 7\n"
            "ipv6 to fd00::/64 table 7\n"
        ),
        "ifsysctl-eth0": "net/ipv6/conf/eth0/accept_ra = 0\n",
    }


@pytest.mark.parametrize(
    ("four", "six", "protocol"),
    [(True, True, "dhcp"), (True, False, "dhcp4"), (False, True, "dhcp6"), (False, False, "static")],
)
def test_each_family_has_dhcp_or_not(machine: Machine, four: bool, six: bool, protocol: str) -> None:
    assert keys(machine, {"ethernets": {"eth0": {"dhcp4": four, "dhcp6": six}}}, "eth0")["BOOTPROTO"] == protocol


def test_what_is_used_of_dhcp_and_sent_to_it(machine: Machine) -> None:
    four = {"use-dns": False, "use-ntp": False, "use-hostname": True, "hostname": "web1", "route-metric": 200}
    six = {"send-hostname": False, "hostname": "web1", "use-ntp": False}
    eth0 = {"dhcp4": True, "dhcp6": True, "dhcp4-overrides": four, "dhcp6-overrides": six}
    found = keys(machine, {"ethernets": {"eth0": eth0}}, "eth0")
    assert {key: value for key, value in found.items() if key.startswith("DHCLIENT")} == {
        "DHCLIENT_UPDATE": "default -dns -ntp",
        "DHCLIENT_SET_HOSTNAME": "yes",
        "DHCLIENT_HOSTNAME_OPTION": "web1",
        "DHCLIENT_ROUTE_PRIORITY": "200",
        "DHCLIENT6_MODE": "managed",
        "DHCLIENT6_UPDATE": "default -ntp",
        "DHCLIENT6_HOSTNAME_OPTION": "",
    }


def test_a_bond_a_bridge_and_their_members(machine: Machine) -> None:
    bond = keys(machine, NETWORKS["bond"], "bond0")
    assert (bond["BONDING_MASTER"], bond["BONDING_SLAVE_0"], bond["BONDING_SLAVE_1"]) == ("yes", "eth0", "eth1")
    assert bond["BONDING_MODULE_OPTS"] == "mode=active-backup miimon=100 primary=eth0"
    assert keys(machine, NETWORKS["bond"], "eth1") == {"STARTMODE": "hotplug", "BOOTPROTO": "none"}
    bridge = keys(machine, NETWORKS["bridge"], "br0")
    assert (bridge["BRIDGE"], bridge["BRIDGE_PORTS"], bridge["BRIDGE_STP"]) == ("yes", "eth0 eth1", "on")
    assert (bridge["BRIDGE_AGEINGTIME"], bridge["BRIDGE_PORTPRIORITIES"], bridge["BRIDGE_PATHCOSTS"]) == ("250", "14 -", "70 50")
    assert keys(machine, NETWORKS["bridge"], "eth0") == {"STARTMODE": "auto", "BOOTPROTO": "none"}
    vlan = keys(machine, NETWORKS["vlan"], "vlan15")
    assert (vlan["ETHERDEVICE"], vlan["VLAN_ID"]) == ("eth0", "15")


def test_a_bond_that_is_not_told_how_looks_at_its_members_all_the_same(machine: Machine) -> None:
    config = {"bonds": {"bond0": {"parameters": {"mode": "active-backup"}}}}
    assert keys(machine, config, "bond0")["BONDING_MODULE_OPTS"] == "mode=active-backup miimon=100"
    assert "miimon" not in keys(machine, NETWORKS["bond-arp"], "bond0")["BONDING_MODULE_OPTS"]
    with pytest.raises(ItemError, match="never looks at its members"):
        keys(machine, {"bonds": {"bond0": {"parameters": {"mii-monitor-interval": 0}}}}, "bond0")


@pytest.mark.parametrize("field", ["use-mtu", "use-routes", "use-domains"])
def test_what_wicked_cannot_do_is_refused_by_name(machine: Machine, field: str) -> None:
    item = become(machine, {"ethernets": {"eth0": {"dhcp4": True, "dhcp4-overrides": {field: False}}}})
    assert (item.outcome, item.reason) == (Outcome.FAILED, "not-supported")
    assert f"dhcp4-overrides.{field}" in item.detail


def test_wicked_is_told_of_what_changed_and_of_what_is_left_out(machine: Machine) -> None:
    item = become(machine, {"ethernets": {"eth0": {"dhcp4": True}, "eth1": {"dhcp4": True}}})
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "by wicked")
    assert machine.programs.calls == ["wicked ifreload eth0 eth1"]
    machine.programs.calls.clear()
    become(machine, {"ethernets": {"eth1": {"dhcp4": True, "accept-ra": True}}}, 2)
    assert machine.programs.calls == ["wicked ifreload eth1 eth0"]
    assert sorted(path.name for path in (machine.root / DIRECTORY).iterdir()) == [
        "config", "ifcfg-eth1", "ifcfg-lo", "ifsysctl-eth1",
    ]  # fmt: skip


def test_before_wicked_starts_there_are_files_and_no_programs(machine: Machine) -> None:
    (machine.root / RUNNING).rmdir()
    config = {"ethernets": {"eth0": {"dhcp4": True, "nameservers": {"addresses": ["10.0.0.2"]}}}}
    assert become(machine, config).outcome is Outcome.APPLIED
    assert machine.programs.calls == []
    assert "10.0.0.2" in machine.read(CONFIG)


def test_a_failing_reload_puts_the_old_files_back_and_reloads(machine: Machine) -> None:
    become(machine, STATIC)
    old = machine.snapshot()
    machine.programs.calls.clear()
    machine.programs.endings["wicked"] = Completed(162, b"eth0            setup-in-progress\n")
    item = become(machine, {"ethernets": {"eth0": {"dhcp4": True}}}, 2)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "command-failed")
    assert machine.snapshot() == old
    assert machine.programs.calls == ["wicked ifreload eth0", "wicked ifreload eth0"]


def test_all_nameservers_go_into_netconfig_s_one_list_and_out_of_it_again(machine: Machine) -> None:
    old = machine.read(CONFIG)
    eth0 = {"dhcp4": True, "nameservers": {"addresses": ["10.0.0.2", "fd00::2"], "search": ["a.example"]}}
    eth1 = {"dhcp4": True, "nameservers": {"addresses": ["10.0.0.3", "10.0.0.2"], "search": ["b.example"]}}
    become(machine, {"ethernets": {"eth0": eth0, "eth1": eth1}})
    assert machine.read(CONFIG) == (
        f"{old}# BEGIN pv-guest-agent\nNETCONFIG_DNS_STATIC_SERVERS='10.0.0.2 fd00::2 10.0.0.3'\n"
        "NETCONFIG_DNS_STATIC_SEARCHLIST='a.example b.example'\n# END pv-guest-agent\n"
    )
    assert "netconfig update -f" in machine.programs.calls
    machine.programs.calls.clear()
    become(machine, {"ethernets": {"eth0": {"dhcp4": True}, "eth1": {"dhcp4": True}}}, 2)
    assert machine.read(CONFIG) == old
    assert machine.programs.calls == ["netconfig update -f"]


def test_an_installer_s_file_is_a_conflict_until_it_may_be_overwritten(machine: Machine) -> None:
    machine.write(f"{DIRECTORY}/ifcfg-eth0", b"BOOTPROTO='dhcp'\nSTARTMODE='auto'\n")
    item = become(machine, STATIC)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert item.detail.startswith(f"/{DIRECTORY}/ifcfg-eth0: somebody else's")
    assert become(machine, STATIC, 2, overwrite=["network"]).outcome is Outcome.APPLIED


def test_wicked_is_in_charge_where_it_is_network_service_or_runs(machine: Machine) -> None:
    (machine.root / RUNNING).rmdir()
    assert wicked.is_active(machine.system)
    machine.remove("etc/systemd/system/network.service")
    assert not wicked.is_active(machine.system)
    machine.directory(RUNNING)
    assert wicked.is_active(machine.system)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - REFUSED - NO_CARD))
def test_every_document_makes_files_that_are_ours_again(machine: Machine, name: str) -> None:
    assert become(machine, NETWORKS[name]).outcome in (Outcome.APPLIED, Outcome.UNCHANGED)
    wanted = {f"/{DIRECTORY}/{file}" for file in files(machine, NETWORKS[name])}
    assert {path for path in wicked.ours(machine.system) if not path.endswith(".link")} == wanted


def test_what_is_refused_of_the_corpus_is_known(machine: Machine) -> None:
    for name in REFUSED:
        with pytest.raises(ItemError, match="not-supported"):
            files(machine, NETWORKS[name])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=networks())
def test_nothing_that_a_shell_would_run_can_come_out(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    machine = made(tmp_path_factory.mktemp("machine"))
    network = parsed(config)
    names = naming.names(machine.system, network)
    for key in network.all():
        with suppress(ItemError):
            for prefix, text in wicked_file.files(key, names, network, machine.system).items():
                assert text.startswith(HEAD)
                lines = text.removeprefix(HEAD).splitlines()
                if prefix == "ifsysctl-":
                    assert lines in ([f"net/ipv6/conf/{names[key]}/accept_ra = {value}"] for value in (0, 2))
                else:
                    assert all((ASSIGNMENT if prefix == "ifcfg-" else WORDS).fullmatch(line) for line in lines)


def test_a_shell_that_sources_a_file_has_the_values_and_runs_nothing(machine: Machine, tmp_path: Path) -> None:
    for name in sorted(set(NETWORKS) - REFUSED - NO_CARD):
        for file, text in files(machine, NETWORKS[name]).items():
            if file.startswith("ifcfg-"):
                assert sourced(tmp_path / "file", text) == shell_file.read(text)
