# SPDX-License-Identifier: Apache-2.0
"""NetworkManager gets a private profile per interface, is told of what changed, and says itself what it does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import Completed
from guest_agent.failure import ItemError
from guest_agent.renderers import network_manager, network_manager_profile, sections
from pv_channel.messages import Outcome
from tests.guest.machine import Machine
from tests.guest.networking import become
from tests.networks import MAC0, MAC1, NETWORKS, parsed

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY = "etc/NetworkManager/system-connections"
RUNNING = "run/NetworkManager/devices"
STATIC = {"ethernets": {"eth0": {"addresses": ["10.0.0.5/24"]}}}
UUID = network_manager_profile.uuid


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A guest of whose network NetworkManager is in charge, with two cards."""
    made = Machine(tmp_path)
    made.use_network_manager()
    made.write("sys/class/net/eth1/address", f"{MAC1}\n".encode())
    return made


def profile(machine: Machine, config: dict[str, Any], key: str) -> dict[str, dict[str, str]]:
    """One profile of a document, by section and key."""
    text = network_manager_profile.render(key, parsed(config), machine.system)
    return {name: dict(pairs) for name, pairs in sections.read(text)}


def path(key: str) -> str:
    return f"{DIRECTORY}/pv-guest-agent-{key}.nmconnection"


def up(key: str) -> str:
    return f"nmcli --wait 60 connection up uuid {UUID(key)}"


def load(*keys: str) -> str:
    return " ".join(["nmcli connection load", *(f"/{path(key)}" for key in keys)])


def test_a_profile_is_private_is_loaded_and_brought_up(machine: Machine) -> None:
    item = become(machine, STATIC)
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "by NetworkManager")
    assert (machine.root / path("eth0")).stat().st_mode & 0o7777 == 0o600
    assert machine.programs.calls == [load("eth0"), up("eth0")]
    assert machine.read(path("eth0")) == (
        "# Written by pv-guest-agent; the next document from the host replaces this file.\n"
        f"[connection]\nid=pv-guest-agent eth0\nuuid={UUID('eth0')}\ntype=ethernet\ninterface-name=eth0\n"
        "autoconnect-priority=999\n\n[ipv4]\nmethod=manual\naddress1=10.0.0.5/24\n\n[ipv6]\nmethod=ignore\n"
    )


def test_a_profile_has_the_same_uuid_for_ever_and_another_than_every_other() -> None:
    assert UUID("eth0") == "761b3fda-d0f4-8a0e-ae34-889dbbfc335e"
    assert len({UUID(key) for key in ("eth0", "eth1", "Eth0")}) == 3


def test_at_early_boot_there_are_files_and_no_programs(machine: Machine) -> None:
    (machine.root / RUNNING).rmdir()
    assert become(machine, STATIC).outcome is Outcome.APPLIED
    assert machine.programs.calls == []


def test_only_what_changed_is_loaded_again_and_what_is_left_out_is_unloaded(machine: Machine) -> None:
    become(machine, {"ethernets": {"eth0": {"dhcp4": True}, "eth1": {"dhcp4": True}}})
    machine.programs.calls.clear()
    become(machine, {"ethernets": {"eth1": {"dhcp4": True, "mtu": 1400}}}, 2)
    assert machine.programs.calls == [load("eth1", "eth0"), up("eth1")]
    assert not (machine.root / path("eth0")).exists()


def test_a_card_that_is_not_there_gets_a_profile_and_is_not_brought_up(machine: Machine) -> None:
    config = {"ethernets": {"eth0": {"dhcp4": True}, "eth7": {"dhcp4": True}}}
    assert become(machine, config).outcome is Outcome.APPLIED
    assert machine.programs.calls == [load("eth0", "eth7"), up("eth0")]


def test_a_master_brings_its_members_up_and_a_vlan_comes_after_its_link(machine: Machine) -> None:
    assert become(machine, NETWORKS["bridge-on-vlan-on-bond"]).outcome is Outcome.APPLIED
    assert machine.programs.calls[1:] == [up("bond0"), up("br0")]
    machine.programs.calls.clear()
    changed = {**NETWORKS["bridge-on-vlan-on-bond"], "bonds": {"bond0": {"interfaces": ["eth0", "eth1"]}}}
    become(machine, changed, 2)
    assert machine.programs.calls == [load("bond0"), up("bond0"), up("vlan15")]


def test_a_member_that_changes_alone_is_brought_up_alone(machine: Machine) -> None:
    become(machine, NETWORKS["bond"])
    machine.programs.calls.clear()
    become(machine, {**NETWORKS["bond"], "ethernets": {"eth0": {"mtu": 1400}, "eth1": {"optional": True}}}, 2)
    assert machine.programs.calls == [load("eth0"), up("eth0")]


def test_one_profile_for_several_cards_is_brought_up_on_each(machine: Machine) -> None:
    become(machine, {"ethernets": {"any": {"match": {"name": "eth*"}, "dhcp4": True}}})
    assert machine.programs.calls[1:] == [f"{up('any')} ifname eth0", f"{up('any')} ifname eth1"]
    assert profile(machine, {"ethernets": {"any": {"match": {"name": "eth*"}}}}, "any")["connection"]["multi-connect"] == "3"


def test_a_card_that_is_meant_by_itself_is_not_a_pattern_s(machine: Machine) -> None:
    config = {"ethernets": {"eth0": {"addresses": ["10.0.0.5/24"]}, "any": {"match": {"name": "eth*"}, "dhcp4": True}}}
    become(machine, config)
    assert machine.programs.calls[1:] == [up("eth0"), f"{up('any')} ifname eth1"]
    priorities = [profile(machine, config, key)["connection"]["autoconnect-priority"] for key in ("eth0", "any")]
    assert priorities == ["999", "998"]


def test_a_word_of_nmcli_s_while_loading_is_a_failure_and_all_is_as_it_was(machine: Machine) -> None:
    become(machine, STATIC)
    old = machine.snapshot()
    machine.programs.calls.clear()
    machine.programs.endings[load("eth0", "eth1")] = Completed(0, b"Could not load file '/etc/...'\n")
    item = become(machine, {"ethernets": {"eth0": {"dhcp4": True}, "eth1": {"dhcp4": True}}}, 2)
    assert (item.outcome, item.reason, item.log) == (Outcome.FAILED, "command-failed", ["Could not load file '/etc/...'"])
    assert machine.snapshot() == old
    # Back: the files, what is loaded, what is up.
    assert machine.programs.calls == [load("eth0", "eth1"), load("eth0", "eth1"), up("eth0")]


def test_an_interface_that_does_not_come_up_takes_everything_back(machine: Machine) -> None:
    old = machine.snapshot()
    machine.programs.endings["nmcli --wait"] = Completed(4, b"Error: Connection activation failed\n")
    item = become(machine, STATIC)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "command-failed")
    assert item.log == ["Error: Connection activation failed"]
    assert machine.snapshot() == old
    assert machine.programs.calls == [load("eth0"), up("eth0"), load("eth0")]


@pytest.mark.parametrize(
    ("fields", "four", "six"),
    [
        ({}, "disabled", "ignore"),
        ({"dhcp4": True}, "auto", "ignore"),
        ({"addresses": ["10.0.0.5/24", "fd00::5/64"]}, "manual", "manual"),
        ({"dhcp4": True, "addresses": ["10.0.0.5/24"]}, "auto", "ignore"),
        ({"dhcp6": True}, "disabled", "auto"),
        ({"dhcp6": True, "accept-ra": False}, "disabled", "dhcp"),
        ({"accept-ra": True, "addresses": ["fd00::5/64"]}, "disabled", "auto"),
        ({"accept-ra": False, "addresses": ["fd00::5/64"]}, "disabled", "manual"),
        ({"accept-ra": False}, "disabled", "link-local"),
        ({"dhcp4": True, "routes": [{"to": "default", "via": "fe80::1"}]}, "auto", "auto"),
    ],
)
def test_the_methods_are_netplan_s(machine: Machine, fields: dict[str, Any], four: str, six: str) -> None:
    found = profile(machine, {"ethernets": {"eth0": fields}}, "eth0")
    assert (found["ipv4"]["method"], found["ipv6"]["method"]) == (four, six)
    # An address that can be foretold, wherever NetworkManager makes one.
    assert found["ipv6"].get("addr-gen-mode") == (None if six == "ignore" else "eui64")


def test_routes_and_rules_keep_all_their_parts(machine: Machine) -> None:
    route = {"to": "10.9.0.0/16", "via": "192.168.9.9", "metric": 50, "table": 7, "from": "10.0.0.5", "on-link": True}
    rule = {"from": "10.0.0.0/8", "to": "10.2.0.0/16", "table": 7, "priority": 5, "mark": 9, "type-of-service": 16}
    eth0 = {"addresses": ["10.0.0.5/24"], "routes": [route, {"to": "10.8.0.0/16", "metric": 0}], "routing-policy": [rule]}
    assert profile(machine, {"ethernets": {"eth0": eth0}}, "eth0")["ipv4"] == {
        "method": "manual",
        "address1": "10.0.0.5/24",
        "route1": "10.9.0.0/16,192.168.9.9,50",
        "route1_options": "table=7,src=10.0.0.5,onlink=true",
        "route2": "10.8.0.0/16,0.0.0.0,0",
        # libnm reads the number as ip(8) does: sixteen in decimal would be twenty-two.
        "routing-rule1": "priority 5 from 10.0.0.0/8 to 10.2.0.0/16 tos 0x10 fwmark 9 table 7",
    }


def test_without_dhcp_s_routes_there_is_no_default_but_the_document_s_own(machine: Machine) -> None:
    eth0 = {"dhcp4": True, "dhcp4-overrides": {"use-routes": False}}
    assert profile(machine, {"ethernets": {"eth0": eth0}}, "eth0")["ipv4"]["never-default"] == "true"
    own = profile(machine, {"ethernets": {"eth0": {**eth0, "gateway4": "10.0.0.1"}}}, "eth0")["ipv4"]
    assert (own["ignore-auto-routes"], own["route1"]) == ("true", "0.0.0.0/0,10.0.0.1")
    assert "never-default" not in own


def test_overrides_of_a_dhcp_that_is_not_used_say_nothing(machine: Machine) -> None:
    eth0 = {"addresses": ["10.0.0.5/24"], "dhcp4-overrides": {"use-ntp": True, "route-metric": 7}}
    assert profile(machine, {"ethernets": {"eth0": eth0}}, "eth0")["ipv4"] == {"method": "manual", "address1": "10.0.0.5/24"}


def test_a_vlan_and_a_member_name_the_profiles_they_belong_to(machine: Machine) -> None:
    config = NETWORKS["bridge-on-vlan-on-bond"]
    assert profile(machine, config, "vlan15")["vlan"] == {"id": "15", "parent": UUID("bond0")}
    assert profile(machine, config, "vlan15")["connection"]["master"] == UUID("br0")
    assert "ipv4" not in profile(machine, config, "vlan15")


def test_a_primary_is_called_by_the_name_of_its_card(machine: Machine) -> None:
    first = {"match": {"macaddress": MAC1}}
    bond = {"interfaces": ["first"], "parameters": {"mode": "active-backup", "primary": "first"}}
    assert profile(machine, {"ethernets": {"first": first}, "bonds": {"bond0": bond}}, "bond0")["bond"]["primary"] == "eth1"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"ethernets": {"eth0": {"routes": [{"to": "10.8.0.0/16"}]}}}, "'eth0' has 'routes'"),
        ({"ethernets": {"eth0": {"nameservers": {"addresses": ["10.0.0.2"]}, "dhcp6": True}}}, "a nameserver of IPv4 needs"),
        ({"ethernets": {"eth0": {"nameservers": {"addresses": ["fd00::2"]}, "accept-ra": False}}}, "a nameserver of IPv6 needs"),
        ({"ethernets": {"eth0": {"nameservers": {"search": ["a.example"]}}}}, "'search' needs an address"),
        ({"ethernets": {"eth0": {"dhcp4": True, "routing-policy": [{"to": "10.0.0.0/8", "table": 7}]}}}, "without a 'priority'"),
        ({"ethernets": {"eth0": {"dhcp4": True, "dhcp4-overrides": {"use-domains": "route"}}}}, "dhcp4-overrides.use-domains"),
        ({"ethernets": {"eth0": {"dhcp4": True, "dhcp4-overrides": {"use-domains": False}}}}, "dhcp4-overrides.use-domains"),
        ({"ethernets": {"eth0": {"dhcp6": True, "dhcp6-overrides": {"use-ntp": True}}}}, "dhcp6-overrides.use-ntp"),
        ({"ethernets": {"eth0": {"dhcp4": True, "dhcp4-overrides": {"use-mtu": False}}}}, "dhcp4-overrides.use-mtu"),
        (
            {"ethernets": {"eth0": {
                "dhcp4": True, "dhcp6": True,
                "dhcp4-overrides": {"use-hostname": True}, "dhcp6-overrides": {"use-hostname": False},
            }}},
            "one setting for DHCPv4 and DHCPv6",
        ),
        ({"bridges": {"br0": {"parameters": {"forward-delay": 60}}}}, "'br0' has 'forward-delay'"),
        (
            {"ethernets": {"eth0": {"nameservers": {"search": ["a.example"]}}}, "bridges": {"br0": {"interfaces": ["eth0"]}}},
            "it is a member of 'br0'",
        ),
        ({"bonds": {"bond0": {"parameters": {"mode": "balance-rr", "lacp-rate": "fast"}}}}, "only with the mode 802.3ad"),
        ({"bonds": {"bond0": {"parameters": {"arp-interval": 100}}}}, "only with 'arp-ip-targets'"),
        ({"bonds": {"bond0": {"parameters": {"arp-ip-targets": ["10.0.0.1"]}}}}, "only with 'arp-interval'"),
        ({"bonds": {"bond0": {"parameters": {"mii-monitor-interval": 0, "up-delay": 5}}}}, "only with 'mii-monitor-interval'"),
        (
            {"bonds": {"bond0": {"parameters": {"mode": "802.3ad", "arp-interval": 9, "arp-ip-targets": ["10.0.0.1"]}}}},
            "not with the mode 802.3ad",
        ),
        (
            {"ethernets": {"eth0": {}}, "bonds": {"bond0": {"interfaces": ["eth0"], "parameters": {"primary": "eth0"}}}},
            "only with the modes active-backup",
        ),
    ],
)  # fmt: skip
def test_what_networkmanager_cannot_do_is_refused_by_name(machine: Machine, config: dict[str, Any], words: str) -> None:
    old = machine.snapshot()
    item = become(machine, config)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "not-supported")
    assert words in item.detail
    assert "NetworkManager cannot do" in item.detail
    assert machine.snapshot() == old


def test_what_is_optional_for_the_boot_is_said_to_be_waited_for(machine: Machine) -> None:
    detail = become(machine, {"ethernets": {"eth0": {"dhcp4": True, "optional": True}}}).detail
    assert detail == "by NetworkManager; NetworkManager-wait-online waits for 'optional' eth0 too"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("office.nmconnection", "[connection]\ntype=ethernet\ninterface-name=eth0\n"),
        ("old name", "[connection]\ntype=802-3-ethernet\n[802-3-ethernet]\nmac-address=00:16:3E:01:02:03\n"),
        ("glob.nmconnection", "[connection]\ntype=ethernet\n[match]\ninterface-name=eth*;\n"),
        ("any.nmconnection", "[connection]\ntype=ethernet\nautoconnect-priority=999\n"),
        ("cloud-init-eth0.nmconnection", "[connection]\ntype=ethernet\ninterface-name=eth0\n"),
    ],
)
def test_somebodys_profile_for_the_same_interface_is_a_conflict_that_names_it(machine: Machine, file: str, text: str) -> None:
    machine.write(f"{DIRECTORY}/{file}", text.encode())
    config = {"ethernets": {"eth0": {"match": {"macaddress": MAC0}, "set-name": "eth0", "dhcp4": True}}}
    item = become(machine, config)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert item.detail.startswith(f"/{DIRECTORY}/{file}: ")
    assert become(machine, config, 2, overwrite=["network"]).outcome is Outcome.APPLIED


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("other.nmconnection", "[connection]\ntype=ethernet\ninterface-name=eth1\n"),
        ("off.nmconnection", "[connection]\ntype=ethernet\ninterface-name=eth0\nautoconnect=false\n"),
        ("wifi.nmconnection", "[connection]\ntype=wifi\ninterface-name=eth0\n"),
        ("any.nmconnection", "[connection]\ntype=ethernet\n"),
        ("saved.bak", "[connection]\ntype=ethernet\ninterface-name=eth0\n"),
        (".hidden", "[connection]\ntype=ethernet\ninterface-name=eth0\n"),
        ("odd.nmconnection", "no section\n[connection\n=\n\x00"),
    ],
)
def test_somebodys_profile_for_something_else_stays_and_disturbs_nobody(machine: Machine, file: str, text: str) -> None:
    machine.write(f"{DIRECTORY}/{file}", text.encode())
    assert become(machine, STATIC).outcome is Outcome.APPLIED
    assert machine.read(f"{DIRECTORY}/{file}") == text


def test_an_ifcfg_file_is_a_conflict_only_where_networkmanager_reads_it(machine: Machine) -> None:
    machine.write("etc/sysconfig/network-scripts/ifcfg-System_eth0", b'DEVICE="eth0"\nONBOOT=yes\n')
    assert become(machine, STATIC).outcome is Outcome.APPLIED
    machine.write("usr/lib64/NetworkManager/1.40.16-1.el8/libnm-settings-plugin-ifcfg-rh.so")
    item = become(machine, {"ethernets": {"eth0": {"dhcp4": True}}}, 2)
    assert item.reason == "conflict"
    assert item.detail.startswith("/etc/sysconfig/network-scripts/ifcfg-System_eth0: ")


def test_a_profile_of_ours_that_somebody_changed_is_a_conflict(machine: Machine) -> None:
    become(machine, STATIC)
    machine.write(path("eth0"), b"[connection]\n", 0o600)
    item = become(machine, {"ethernets": {"eth0": {"dhcp4": True}}}, 2)
    assert (item.reason, item.detail.partition(":")[0]) == ("conflict", f"/{path('eth0')}")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_document_makes_profiles_or_is_refused_for_what_networkmanager_lacks(machine: Machine, name: str) -> None:
    keys = parsed(NETWORKS[name]).all()
    if name == "dhcp-without-routes":
        with pytest.raises(ItemError, match="not-supported"):
            profile(machine, NETWORKS[name], "eth0")
    else:
        assert [profile(machine, NETWORKS[name], key)["connection"]["uuid"] for key in keys] == list(map(UUID, keys))


def test_without_nmcli_or_its_service_networkmanager_is_not_in_charge(machine: Machine) -> None:
    assert network_manager.is_active(machine.system)
    machine.remove("etc/systemd/system/multi-user.target.wants/NetworkManager.service")
    assert network_manager.is_active(machine.system)
    (machine.root / RUNNING).rmdir()
    assert not network_manager.is_active(machine.system)
    machine.enable("NetworkManager.service")
    machine.remove("usr/bin/nmcli")
    assert not network_manager.is_active(machine.system)


def test_what_networkmanager_was_told_goes_when_networkd_takes_over(machine: Machine) -> None:
    become(machine, STATIC)
    machine.enable("systemd-networkd.service")
    machine.remove("etc/systemd/system/multi-user.target.wants/NetworkManager.service")
    become(machine, {"ethernets": {"eth0": {"dhcp4": True}}}, 2)
    assert not (machine.root / path("eth0")).exists()
