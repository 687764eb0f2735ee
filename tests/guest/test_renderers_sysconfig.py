# SPDX-License-Identifier: Apache-2.0
"""RHEL's network-scripts get files in which nothing can be run, and interfaces go down with the old and up with the new ones."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from guest_agent.command import Completed
from guest_agent.failure import ItemError
from guest_agent.renderers import naming, shell_file, sysconfig, sysconfig_file
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

DIRECTORY = "etc/sysconfig/network-scripts"
RUNNING = "run/lock/subsys/network"
STATIC = {"ethernets": {"eth0": {"addresses": ["10.0.0.5/24"]}}}
#: What network-scripts cannot do of the corpus: they take DHCP's name and domains always.
REFUSED = {"dhcp-overrides", "dhcp-without-routes"}
#: Here no card is what the document describes.
NO_CARD = {"match-by-name", "match-by-driver"}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return made(tmp_path)


def made(top: Path) -> Machine:
    """A guest with three cards, whose old service ``network`` has brought nothing up yet."""
    machine = three_cards(top)
    machine.write(f"{DIRECTORY}/ifup-eth")
    machine.write(f"{DIRECTORY}/ifcfg-lo", b"DEVICE=lo\nONBOOT=yes\n")
    machine.write("etc/rc.d/rc3.d/S10network")
    machine.write(RUNNING)
    return machine


def files(machine: Machine, config: dict[str, Any]) -> dict[str, str]:
    return networking.files(machine, config, sysconfig_file.files)


def keys(machine: Machine, config: dict[str, Any], name: str) -> dict[str, str]:
    """An interface's own file, by key."""
    lines = files(machine, config)[f"ifcfg-{name}"].splitlines()
    return {key: value.strip("'") for key, _, value in (line.partition("=") for line in lines)}


def test_the_files_say_what_the_document_says(machine: Machine) -> None:
    eth0 = {
        "match": {"macaddress": MAC},
        "addresses": ["10.0.0.5/24", "10.0.1.5/24", "fd00::5/64", "fd00::6/64", "fd00::7/64"],
        "gateway4": "10.0.0.1",
        "gateway6": "fd00::1",
        "accept-ra": False,
        "macaddress": MAC2,
        "mtu": 1400,
        "wakeonlan": True,
        "routes": [{"to": "10.9.0.0/16", "via": "192.168.9.9", "metric": 50, "table": 7, "from": "10.0.0.5", "on-link": True}],
        "routing-policy": [
            {"from": "10.0.0.0/8", "to": "10.2.0.0/16", "table": 7, "priority": 5, "mark": 9, "type-of-service": 16},
            {"to": "fd00::/64", "table": 7},
        ],
        "nameservers": {"addresses": ["10.0.0.2", "fd00::2"], "search": ["a.example", "b.example"]},
    }
    assert files(machine, {"ethernets": {"front": eth0}}) == {
        "ifcfg-eth0": (
            "DEVICE=eth0\nONBOOT=yes\nNM_CONTROLLED=no\nTYPE=Ethernet\nHWADDR=00:16:3E:01:02:03\nETHTOOL_OPTS='wol g'\n"
            "MACADDR=00:16:3E:01:02:05\nMTU=1400\nBOOTPROTO=none\nIPADDR=10.0.0.5\nPREFIX=24\nIPADDR1=10.0.1.5\nPREFIX1=24\n"
            "IPV6INIT=yes\nIPV6ADDR=fd00::5/64\nIPV6ADDR_SECONDARIES='fd00::6/64 fd00::7/64'\nIPV6_AUTOCONF=no\n"
            "DNS1=10.0.0.2\nDNS2=fd00::2\nDOMAIN='a.example b.example'\n"
        ),
        "route-eth0": (
            "default via 10.0.0.1 dev eth0\n"
            "10.9.0.0/16 via 192.168.9.9 dev eth0 metric 50 table 7 src 10.0.0.5 onlink\n"
        ),
        "route6-eth0": "default via fd00::1 dev eth0\n",
        # ip reads the digits of tos as hexadecimal ones.
        "rule-eth0": "from 10.0.0.0/8 to 10.2.0.0/16 fwmark 9 tos 0x10 priority 5 table 7\n",
        "rule6-eth0": "to fd00::/64 table 7\n",
    }


def test_dhcp_of_both_families_and_what_is_used_of_it(machine: Machine) -> None:
    four = {"use-dns": False, "use-ntp": False, "send-hostname": False, "hostname": "web1", "route-metric": 200}
    six = {"use-dns": False}
    eth0 = {"dhcp4": True, "dhcp6": True, "dhcp4-overrides": four, "dhcp6-overrides": six}
    found = keys(machine, {"ethernets": {"eth0": eth0}}, "eth0")
    assert (found["BOOTPROTO"], found["DHCPV6C"], found["PEERDNS"], found["PEERNTP"]) == ("dhcp", "yes", "no", "no")
    assert (found["DHCP_SEND_HOSTNAME"], found["DHCP_HOSTNAME"], found["METRIC"]) == ("no", "web1", "200")


def test_a_bond_a_bridge_and_their_members(machine: Machine) -> None:
    lacp = keys(machine, NETWORKS["bond-lacp"], "bond0")
    assert lacp["BONDING_OPTS"].split() == [
        "mode=802.3ad", "lacp_rate=fast", "miimon=100", "min_links=1", "xmit_hash_policy=layer3+4", "ad_select=bandwidth",
        "updelay=200", "downdelay=300",
    ]  # fmt: skip
    assert "arp_ip_target=10.0.0.1,10.0.0.2" in keys(machine, NETWORKS["bond-arp"], "bond0")["BONDING_OPTS"].split()
    member = keys(machine, NETWORKS["bond-lacp"], "eth1")
    assert (member["MASTER"], member["SLAVE"], member["BOOTPROTO"]) == ("bond0", "yes", "none")
    bridge = keys(machine, NETWORKS["bridge"], "br0")
    # The files of /sys count in hundredths of a second.
    assert bridge["BRIDGING_OPTS"] == "ageing_time=25000 priority=4096 hello_time=300 max_age=1200 forward_delay=500"
    assert (bridge["TYPE"], bridge["STP"]) == ("Bridge", "yes")
    port = keys(machine, NETWORKS["bridge"], "eth0")
    assert (port["BRIDGE"], port["BRIDGING_OPTS"]) == ("br0", "priority=14 path_cost=70")


@pytest.mark.parametrize(
    ("name", "good"), [("eth0.15", True), ("vlan15", True), ("vlan0015", True), ("eth0.16", False), ("lan", False)]
)
def test_older_scripts_take_a_vlan_s_number_from_its_name(machine: Machine, name: str, good: bool) -> None:
    config = {"ethernets": {"eth0": {}}, "vlans": {name: {"id": 15, "link": "eth0"}}}
    if good:
        found = keys(machine, config, name)
        assert (found["VLAN"], found["PHYSDEV"], found["VID"]) == ("yes", "eth0", "15")
    else:
        with pytest.raises(ItemError, match=r"not-supported.*call it eth0\.15"):
            files(machine, config)
    machine.write(f"{DIRECTORY}/ifup", b'if [ -n "${VID}" ]; then\n')
    assert keys(machine, config, name)["VID"] == "15"


@pytest.mark.parametrize(
    ("eth0", "words"),
    [
        ({"dhcp4": True, "addresses": ["10.0.0.5/24"]}, "'addresses'"),
        ({"nameservers": {"addresses": ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6"]}}, "it takes 3 'addresses'"),
        ({"dhcp4": True, "dhcp4-overrides": {"use-hostname": False}}, "dhcp4-overrides.use-hostname"),
        ({"dhcp4": True, "dhcp4-overrides": {"use-mtu": False}}, "dhcp4-overrides.use-mtu"),
        ({"dhcp4": True, "dhcp4-overrides": {"use-routes": False}}, "dhcp4-overrides.use-routes"),
        ({"dhcp4": True, "dhcp4-overrides": {"use-domains": "route"}}, "dhcp4-overrides.use-domains"),
        ({"dhcp6": True, "dhcp6-overrides": {"route-metric": 5}}, "dhcp6-overrides.route-metric"),
        (
            {"dhcp4": True, "dhcp6": True, "dhcp4-overrides": {"use-dns": True}, "dhcp6-overrides": {"use-dns": False}},
            "PEERDNS is one setting",
        ),
    ],
)
def test_what_the_scripts_cannot_do_is_refused_by_name(machine: Machine, eth0: dict[str, Any], words: str) -> None:
    item = become(machine, {"ethernets": {"eth0": eth0}})
    assert (item.outcome, item.reason) == (Outcome.FAILED, "not-supported")
    assert words in item.detail


def test_a_new_interface_is_only_brought_up(machine: Machine) -> None:
    item = become(machine, STATIC)
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "by network-scripts")
    assert (machine.root / DIRECTORY / "ifcfg-eth0").stat().st_mode & 0o7777 == 0o644
    assert machine.programs.calls == ["ifup eth0"]


def test_before_the_service_starts_there_are_files_and_no_programs(machine: Machine) -> None:
    machine.remove(RUNNING)
    assert become(machine, STATIC).outcome is Outcome.APPLIED
    assert machine.programs.calls == []


def test_what_changes_goes_down_first_and_what_stays_is_left_alone(machine: Machine) -> None:
    become(machine, {"ethernets": {name: {"dhcp4": True} for name in ("eth0", "eth1", "eth2")}})
    machine.programs.calls.clear()
    become(machine, {"ethernets": {"eth0": {"dhcp4": True}, "eth1": {"dhcp6": True}}}, 2)
    assert machine.programs.calls == ["ifdown eth1", "ifdown eth2", "ifup eth1"]
    assert not (machine.root / DIRECTORY / "ifcfg-eth2").exists()
    assert machine.read(f"{DIRECTORY}/ifcfg-lo")


def test_a_bridge_goes_down_before_its_ports_and_up_after_them_and_a_bond_brings_its_members(machine: Machine) -> None:
    become(machine, NETWORKS["bridge"])
    assert machine.programs.calls == ["ifup eth0", "ifup eth1", "ifup br0"]
    machine.write("sys/class/net/br0/address", b"\n")
    machine.programs.calls.clear()
    become(machine, NETWORKS["bond"], 2)
    assert machine.programs.calls == ["ifdown br0", "ifdown eth0", "ifdown eth1", "ifup bond0"]


def test_a_routes_file_that_is_not_wanted_any_more_goes(machine: Machine) -> None:
    become(machine, NETWORKS["policy-routing"])
    assert (machine.root / DIRECTORY / "rule6-eth1").exists()
    become(machine, {"ethernets": {"eth0": {"dhcp4": True}, "eth1": {"dhcp4": True}}}, 2)
    left = sorted(path.name for path in (machine.root / DIRECTORY).iterdir())
    assert left == ["ifcfg-eth0", "ifcfg-eth1", "ifcfg-lo", "ifup-eth"]


def test_a_failing_ifup_brings_the_old_configuration_up_again(machine: Machine) -> None:
    become(machine, {"ethernets": {"eth0": {"dhcp4": True}}})
    old = machine.snapshot()
    machine.programs.calls.clear()
    machine.programs.endings["ifup"] = Completed(1, b"Error adding address\n")
    item = become(machine, STATIC, 2)
    assert (item.outcome, item.reason, item.log) == (Outcome.FAILED, "command-failed", ["Error adding address"])
    assert machine.snapshot() == old
    assert machine.programs.calls == ["ifdown eth0", "ifup eth0", "ifdown eth0", "ifup eth0"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# Generated by anaconda\nDEVICE=eth0\n", "somebody else's, an installer's or an administrator's"),
        ("# Created by cloud-init automatically, do not edit.\n#\nDEVICE=eth0\n", "cloud-init"),
    ],
)
def test_an_installer_s_file_is_a_conflict_until_it_may_be_overwritten(machine: Machine, text: str, words: str) -> None:
    machine.write(f"{DIRECTORY}/ifcfg-eth0", text.encode())
    old = machine.snapshot()
    item = become(machine, STATIC)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert f"/{DIRECTORY}/ifcfg-eth0" in item.detail
    assert words in item.detail
    assert machine.snapshot() == old
    if "cloud-init" not in words:
        assert become(machine, STATIC, 2, overwrite=["network"]).outcome is Outcome.APPLIED
        assert machine.programs.calls == ["ifdown eth0", "ifup eth0"]


def test_what_cloud_init_wrote_under_the_same_name_is_overwritten_where_it_may_be(machine: Machine) -> None:
    machine.write("usr/bin/cloud-init")
    machine.enable("cloud-init-local.service")
    machine.write(f"{DIRECTORY}/ifcfg-eth0", b"# Created by cloud-init automatically, do not edit.\n#\nDEVICE=eth0\n")
    machine.write(f"{DIRECTORY}/ifcfg-eth1", b"# Created by cloud-init automatically, do not edit.\n#\nDEVICE=eth1\n")
    assert become(machine, STATIC).reason == "conflict"
    assert become(machine, STATIC, 2, overwrite=["network"]).outcome is Outcome.APPLIED
    assert "IPADDR=10.0.0.5" in machine.read(f"{DIRECTORY}/ifcfg-eth0")
    assert not (machine.root / DIRECTORY / "ifcfg-eth1").exists()


@pytest.mark.parametrize("text", ['DEVICE="eth0"\n', f"HWADDR={MAC.upper()}\n"])
def test_another_file_for_the_same_interface_is_a_conflict_whatever_may_be_overwritten(machine: Machine, text: str) -> None:
    machine.write(f"{DIRECTORY}/ifcfg-System_eth0", text.encode())
    config = {"ethernets": {"eth0": {"match": {"macaddress": MAC}, "dhcp4": True}}}
    item = become(machine, config, overwrite=["network"])
    assert item.reason == "conflict"
    assert "ifcfg-System_eth0 is for eth0 too" in item.detail
    machine.write(f"{DIRECTORY}/ifcfg-System_eth0", f"{text}ONBOOT=no\n".encode())
    assert become(machine, config, 2).outcome is Outcome.APPLIED


def test_two_keys_that_mean_one_interface_are_a_conflict(machine: Machine) -> None:
    item = become(machine, {"ethernets": {"eth0": {"dhcp4": True}, "lan": {"match": {"macaddress": MAC}, "dhcp6": True}}})
    assert (item.reason, item.detail) == ("conflict", "'eth0' and 'lan' of 'network' both mean eth0")


def test_a_pattern_that_several_cards_fit_is_refused_for_files_that_are_each_one_card_s(machine: Machine) -> None:
    item = become(machine, {"ethernets": {"any": {"match": {"name": "eth*"}, "dhcp4": True}}})
    assert (item.reason, item.detail) == ("no-interface", "'any' is eth0 and eth1 and eth2 on this machine; match one")


def test_a_pattern_is_for_the_card_that_is_left(machine: Machine) -> None:
    (machine.root / "sys/class/net/eth2/address").unlink()
    (machine.root / "sys/class/net/eth2").rmdir()
    config = {"ethernets": {"any": {"match": {"name": "eth*"}, "dhcp4": True}, "eth0": {"addresses": ["10.0.0.5/24"]}}}
    assert become(machine, config).outcome is Outcome.APPLIED
    assert "BOOTPROTO=dhcp" in machine.read(f"{DIRECTORY}/ifcfg-eth1")
    assert "IPADDR=10.0.0.5" in machine.read(f"{DIRECTORY}/ifcfg-eth0")


def test_the_scripts_are_in_charge_only_where_their_service_is(machine: Machine) -> None:
    assert sysconfig.is_active(machine.system)
    machine.remove("etc/rc.d/rc3.d/S10network")
    assert sysconfig.is_active(machine.system)
    machine.remove(RUNNING)
    assert not sysconfig.is_active(machine.system)
    machine.enable("network.service")
    assert sysconfig.is_active(machine.system)
    machine.remove(f"{DIRECTORY}/ifup-eth")
    assert not sysconfig.is_active(machine.system)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - REFUSED - NO_CARD))
def test_every_document_makes_files_that_are_ours_again(machine: Machine, name: str) -> None:
    assert become(machine, NETWORKS[name]).outcome in (Outcome.APPLIED, Outcome.UNCHANGED)
    wanted = {f"/{DIRECTORY}/{file}" for file in files(machine, NETWORKS[name])}
    assert {path for path in sysconfig.ours(machine.system) if not path.endswith(".link")} == wanted


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_of_the_corpus_is_known(machine: Machine, name: str) -> None:
    with pytest.raises(ItemError, match="not-supported"):
        files(machine, NETWORKS[name])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=networks())
def test_nothing_that_a_shell_would_run_can_come_out(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    machine = made(tmp_path_factory.mktemp("machine"))
    machine.write(f"{DIRECTORY}/ifup", b'"${VID}"')
    network = parsed(config)
    names = naming.names(machine.system, network)
    for key in network.all():
        with suppress(ItemError):
            for prefix, text in sysconfig_file.files(key, names, network, machine.system).items():
                allowed = ASSIGNMENT if prefix == "ifcfg-" else WORDS
                assert text.startswith(HEAD)
                assert text.endswith("\n")
                assert all(allowed.fullmatch(line) for line in text.removeprefix(HEAD).splitlines())


def test_a_shell_that_sources_a_file_has_the_values_and_runs_nothing(machine: Machine, tmp_path: Path) -> None:
    for name in sorted(set(NETWORKS) - REFUSED - NO_CARD):
        for file, text in files(machine, NETWORKS[name]).items():
            if file.startswith("ifcfg-"):
                assert sourced(tmp_path / "file", text) == shell_file.read(text)
