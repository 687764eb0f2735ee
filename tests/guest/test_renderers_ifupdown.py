# SPDX-License-Identifier: Apache-2.0
"""ifupdown gets one file whose stanzas say what the document says, and interfaces go down with the old and up with the new."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import CommandError, Completed
from guest_agent.failure import ItemError
from guest_agent.renderers.stanzas import render
from pv_channel.messages import ItemResult, Outcome
from tests.guest.machine import MAC, Machine, document, network, no_progress
from tests.guest.networking import become
from tests.networks import MAC1, MAC2, NETWORKS, parsed

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.interfaces import Ethernet

FILE = "etc/network/interfaces.d/60-pv-guest-agent"
HEAD = "# eth0: written by pv-guest-agent; the next document from the host replaces this file.\nauto eth0\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.use_ifupdown()
    return made


def ethernet(**fields: Any) -> Ethernet:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return parsed({"ethernets": {"eth0": named}}).ethernets["eth0"]


def apply(machine: Machine, generation: int = 1, **ethernets: Any) -> ItemResult:
    (item,) = machine.provisioner().provision(document(generation, network=network(**ethernets)), None, no_progress).items
    return item


@pytest.mark.parametrize(
    ("fields", "stanzas"),
    [
        ({}, "iface eth0 inet manual\n"),
        ({"dhcp4": True}, "iface eth0 inet dhcp\n"),
        ({"dhcp4": True, "dhcp6": True, "accept_ra": False}, "iface eth0 inet dhcp\n\niface eth0 inet6 dhcp\n    accept_ra 0\n"),
        ({"accept_ra": True}, "iface eth0 inet6 auto\n"),
        (
            {"accept_ra": False},
            "iface eth0 inet6 manual\n    pre-up sysctl -q -e -w net/ipv6/conf/eth0/accept_ra=0\n",
        ),
        (
            {
                "addresses": ["fd00::5/64", "10.0.0.5/24", "10.0.1.5/24"],
                "mtu": 1400,
                "gateway4": "10.0.0.1",
                "gateway6": "fd00::1",
                "accept_ra": True,
                "routes": [{"to": "10.9.0.0/16", "via": "192.168.9.9", "metric": 50, "on-link": True}, {"to": "fd09::/48"}],
                "nameservers": {"addresses": ["10.0.0.2", "fd00::2"], "search": ["a.example", "b.example"]},
            },
            ("iface eth0 inet static\n    address 10.0.0.5/24\n    pre-up ip link set dev eth0 mtu 1400\n"
            "    dns-nameservers 10.0.0.2 fd00::2\n    dns-search a.example b.example\n\n"
            "iface eth0 inet static\n    address 10.0.1.5/24\n\n"
            "iface eth0 inet6 static\n    address fd00::5/64\n    accept_ra 2\n"
            "    up ip -4 route replace default via 10.0.0.1 dev eth0\n"
            "    down ip -4 route del default via 10.0.0.1 dev eth0 || true\n"
            "    up ip -6 route replace default via fd00::1 dev eth0\n"
            "    down ip -6 route del default via fd00::1 dev eth0 || true\n"
            "    up ip -4 route replace 10.9.0.0/16 via 192.168.9.9 dev eth0 metric 50 onlink\n"
            "    down ip -4 route del 10.9.0.0/16 via 192.168.9.9 dev eth0 metric 50 onlink || true\n"
            "    up ip -6 route replace fd09::/48 dev eth0\n"
            "    down ip -6 route del fd09::/48 dev eth0 || true\n"),
        ),
    ],
)
def test_the_stanzas_say_what_the_document_says(fields: dict[str, Any], stanzas: str) -> None:
    assert render("eth0", "eth0", ethernet(**fields)) == HEAD + stanzas + "\n"


@pytest.mark.parametrize("name", ["eth0;id", "eth0\nup id", "$(id)", "eth0 x", ""])
def test_a_name_that_a_shell_would_read_is_never_written(name: str) -> None:
    with pytest.raises(ItemError, match="unsafe-value"):
        render(name, "lan", ethernet(dhcp4=True))


def test_a_new_interface_is_only_brought_up(machine: Machine) -> None:
    item = apply(machine, lan={"match": {"macaddress": MAC}, "dhcp4": True})
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "by ifupdown")
    assert "iface eth0 inet dhcp" in machine.read(FILE)
    assert (machine.root / FILE).stat().st_mode & 0o7777 == 0o644
    assert machine.programs.calls == ["ifup eth0"]


def test_an_interface_that_changes_goes_down_with_the_old_file_and_one_that_does_not_stays_up(machine: Machine) -> None:
    apply(machine, eth0={"dhcp4": True}, eth1={"dhcp4": True}, eth2={"dhcp4": True})
    machine.write("run/network/ifstate", b"lo=lo\neth0=eth0\neth1=eth1\neth2=eth2\n")
    machine.programs.calls.clear()
    apply(machine, 2, eth0={"dhcp4": True}, eth1={"dhcp6": True})
    assert machine.programs.calls == ["ifdown eth2", "ifdown eth1", "ifup eth1"]
    assert "eth2" not in machine.read(FILE)


def test_no_interfaces_take_ours_down_and_the_file_away(machine: Machine) -> None:
    apply(machine, eth0={"dhcp4": True})
    machine.write("run/network/ifstate", b"eth0=eth0\n")
    machine.programs.calls.clear()
    assert apply(machine, 2).outcome is Outcome.APPLIED
    assert machine.programs.calls == ["ifdown eth0"]
    assert not (machine.root / FILE).exists()


def test_at_early_boot_there_is_a_file_and_no_program(machine: Machine) -> None:
    machine.remove("run/network/ifstate")
    assert apply(machine, eth0={"dhcp4": True}).outcome is Outcome.APPLIED
    assert machine.programs.calls == []


@pytest.mark.parametrize("ending", [Completed(1, b"RTNETLINK answers: No such device\n"), CommandError("ifup did not end")])
def test_a_failing_ifup_brings_the_old_configuration_up_again(machine: Machine, ending: Completed | CommandError) -> None:
    apply(machine, eth0={"dhcp4": True})
    machine.write("run/network/ifstate", b"eth0=eth0\n")
    old = machine.snapshot()
    machine.programs.calls.clear()
    machine.programs.endings["ifup"] = ending
    item = apply(machine, 2, eth0={"addresses": ["10.0.0.5/24"]})
    assert (item.outcome, item.reason) == (Outcome.FAILED, "command-failed")
    assert item.log == (["RTNETLINK answers: No such device"] if isinstance(ending, Completed) else [])
    assert machine.programs.calls == ["ifdown eth0", "ifup eth0", "ifdown --force eth0", "ifup eth0"]
    assert machine.snapshot() == old
    assert machine.state_files() == ["state.json"]


def test_an_interface_that_comes_late_is_waited_for(machine: Machine) -> None:
    machine.remove("sys/class/net/eth0/address")
    sleep = machine.system.sleep

    def plug_in(seconds: float) -> None:
        sleep(seconds)
        if machine.waited > 2:
            machine.write("sys/class/net/eth5/address", MAC.encode())

    machine.system.sleep = plug_in
    assert apply(machine, lan={"match": {"macaddress": MAC}, "dhcp4": True}).outcome is Outcome.APPLIED
    assert "iface eth5 inet dhcp" in machine.read(FILE)


def test_an_interface_that_never_comes_fails_the_item_after_a_bounded_wait(machine: Machine) -> None:
    item = apply(machine, lan={"match": {"macaddress": "00:16:3e:ff:ff:ff"}, "dhcp4": True})
    assert (item.outcome, item.reason) == (Outcome.FAILED, "no-interface")
    assert "'lan' describes: macaddress 00:16:3e:ff:ff:ff" in item.detail
    assert 5 <= machine.waited < 6


def test_of_several_interfaces_with_one_address_the_hardware_is_meant(machine: Machine) -> None:
    machine.write("sys/class/net/br0/address", MAC.encode())
    machine.directory("sys/class/net/eth0/device")
    apply(machine, lan={"match": {"macaddress": MAC}, "dhcp4": True})
    assert "iface eth0" in machine.read(FILE)


def test_an_interface_that_somebody_else_configures_is_a_conflict(machine: Machine) -> None:
    machine.write("etc/network/interfaces.d/wan", b"  iface eth0 inet dhcp\n")
    item = apply(machine, eth0={"dhcp4": True})
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert item.detail.startswith("/etc/network/interfaces.d/wan: it configures eth0 already")


def test_two_parts_that_mean_one_interface_are_a_conflict(machine: Machine) -> None:
    assert apply(machine, eth0={"dhcp4": True}, lan={"match": {"macaddress": MAC}}).reason == "conflict"


def test_nameservers_without_resolvconf_are_remarked_on(machine: Machine) -> None:
    servers = {"dhcp4": True, "nameservers": {"addresses": ["10.0.0.2"]}}
    assert "resolvconf is not installed" in apply(machine, eth0=servers).detail
    machine.write("sbin/resolvconf")
    assert apply(machine, 2, eth0={**servers, "dhcp6": True}).detail == "by ifupdown"


def stanzas(machine: Machine, name: str) -> dict[str, list[str]]:
    """Each interface's lines for a network of the corpus, without blank and comment lines."""
    item = become(machine, NETWORKS[name])
    assert item.outcome is Outcome.APPLIED, item
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in machine.read(FILE).splitlines():
        if line.startswith("# "):
            current = found.setdefault(line.split()[1].rstrip(":"), [])
        elif line:
            current.append(line.strip())
    return found


def test_a_bond_is_made_with_its_members_down_and_unmade_when_it_is_down(machine: Machine) -> None:
    found = stanzas(machine, "bond")
    assert list(found) == ["eth0", "eth1", "bond0"]
    assert found["eth0"] == ["auto eth0", "iface eth0 inet manual"]
    assert found["eth1"] == ["allow-hotplug eth1", "iface eth1 inet manual"]
    assert found["bond0"] == [
        "auto bond0",
        "iface bond0 inet static",
        "address 10.0.0.5/24",
        "pre-up ip link del dev bond0 2>/dev/null || true",
        f"pre-up ip link add dev bond0 address {MAC2} type bond mode active-backup miimon 100",
        "pre-up ip link set dev eth0 down",
        "pre-up ip link set dev eth0 master bond0",
        "pre-up ip link set dev eth1 down",
        "pre-up ip link set dev eth1 master bond0",
        "pre-up ip link set dev bond0 type bond primary eth0",
        "up ip -4 route replace default via 10.0.0.1 dev bond0",
        "down ip -4 route del default via 10.0.0.1 dev bond0 || true",
        "post-down ip link del dev bond0 2>/dev/null || true",
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "bond-arp",
            ("mode active-backup all_slaves_active 1 arp_interval 1000 arp_validate all arp_all_targets any fail_over_mac active "
            "num_grat_arp 2 primary_reselect better arp_ip_target 10.0.0.1,10.0.0.2"),
        ),
        ("bond-round-robin", "mode balance-rr miimon 100 packets_per_slave 2"),
        ("bond-balance-tlb", "mode balance-tlb miimon 100 lp_interval 5"),
    ],
)
def test_every_parameter_of_a_bond_is_an_option_of_the_kernels(machine: Machine, name: str, options: str) -> None:
    assert f"pre-up ip link add dev bond0 type bond {options}" in stanzas(machine, name)["bond0"]


def test_a_bond_of_cards_that_are_matched_has_them_by_their_names(machine: Machine) -> None:
    machine.write("sys/class/net/eth1/address", MAC1.encode())
    lines = stanzas(machine, "bond-lacp")["bond0"]
    assert "pre-up ip link set dev eth1 master bond0" in lines
    assert (
        "pre-up ip link add dev bond0 type bond mode 802.3ad lacp_rate fast miimon 100 min_links 1 xmit_hash_policy layer3+4 "
        "ad_select bandwidth updelay 200 downdelay 300"
    ) in lines


def test_a_bridge_has_its_options_in_hundredths_of_seconds_and_each_port_its_own(machine: Machine) -> None:
    options = "forward_delay 500 hello_time 300 max_age 1200 ageing_time 25000 priority 4096 stp_state 1"
    assert stanzas(machine, "bridge")["br0"][3:11] == [
        "pre-up ip link del dev br0 2>/dev/null || true",
        f"pre-up ip link add dev br0 address {MAC2} type bridge {options}",
        "pre-up ip link set dev eth0 master br0",
        "pre-up ip link set dev eth0 up",
        "pre-up ip link set dev eth0 type bridge_slave cost 70 priority 14",
        "pre-up ip link set dev eth1 master br0",
        "pre-up ip link set dev eth1 up",
        "pre-up ip link set dev eth1 type bridge_slave cost 50",
    ]


def test_a_vlan_by_its_name_is_ifups_and_any_other_is_made(machine: Machine) -> None:
    machine.write("sys/class/net/eth1/address", MAC1.encode())
    assert stanzas(machine, "vlan-on-bond")["bond0.15"][:4] == [
        "auto bond0.15", "iface bond0.15 inet static", "address 10.15.0.5/24", "vlan-raw-device bond0",
    ]  # fmt: skip
    machine.remove(FILE)
    found = become(machine, NETWORKS["vlan"], 2)
    assert found.outcome is Outcome.APPLIED
    assert (
        "    vlan-raw-device eth0\n    pre-up ip link set dev eth0 up\n"
        "    pre-up ip link add link eth0 name vlan15 type vlan id 15\n    pre-up ip link set dev vlan15 mtu 1400\n"
    ) in machine.read(FILE)


def test_rules_go_by_the_kernels_words_and_are_never_there_twice(machine: Machine) -> None:
    lines = stanzas(machine, "policy-routing")["eth1"]
    rule = "from 10.1.0.0/24 tos 0x10 priority 1002 table 101"
    position = lines.index(f"up ip -4 rule add {rule}")
    assert lines[position - 1] == f"up ip -4 rule del {rule} 2>/dev/null || true"
    assert lines[position + 1] == f"down ip -4 rule del {rule} 2>/dev/null || true"
    assert "up ip -6 rule add from fd01::5/128 priority 1000 table 101" in lines
    assert "up ip -6 route replace default via fd01::1 dev eth1 table 101" in lines


def test_an_address_of_the_documents_is_given_to_the_card_before_it_is_up(machine: Machine) -> None:
    lines = stanzas(machine, "own-mac-and-wake")["eth0"]
    assert f"pre-up ip link set dev eth0 address {MAC2}" in lines
    link = machine.read("etc/systemd/network/10-pv-guest-agent-eth0.link")
    assert link.endswith("[Match]\nOriginalName=eth0\n\n[Link]\n"
                         "NamePolicy=keep kernel database onboard slot path\nAlternativeNamesPolicy=database onboard slot path\n"
                         "MACAddressPolicy=persistent\nWakeOnLan=magic\n")  # fmt: skip


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (NETWORKS["dhcp-overrides"], "dhcp4-overrides.use-dns"),
        (NETWORKS["dhcp-without-routes"], "dhcp4-overrides.use-dns"),
        ({"ethernets": {"eth0": {"dhcp4": True, "dhcp4-overrides": {"use-domains": "route"}}}}, "dhcp4-overrides.use-domains"),
        ({"ethernets": {"eth0": {"dhcp4": True, "dhcp4-overrides": {"hostname": "web1"}}}}, "dhcp4-overrides.hostname"),
        ({"ethernets": {"eth0": {"dhcp6": True, "dhcp6-overrides": {"route-metric": 5}}}}, "dhcp6-overrides.route-metric"),
        ({"ethernets": {"eth0": {}}, "vlans": {"eth0.15": {"id": 16, "link": "eth0"}}}, "its name"),
        ({"bridges": {"br.1": {}}}, "its name"),
    ],
)
def test_what_ifupdown_has_no_word_for_is_not_supported_and_named(machine: Machine, config: dict[str, Any], field: str) -> None:
    item = become(machine, config)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "not-supported")
    assert f"has '{field}', which ifupdown cannot do" in item.detail


def test_a_metric_of_dhcp_is_ifupdowns_own_word(machine: Machine) -> None:
    fields = {"dhcp4": True, "dhcp4-overrides": {"route-metric": 200, "use-dns": True}}
    assert apply(machine, eth0=fields).outcome is Outcome.APPLIED
    assert "iface eth0 inet dhcp\n    metric 200\n" in machine.read(FILE)


def test_what_stands_on_a_device_that_changes_goes_down_before_and_comes_up_after_it(machine: Machine) -> None:
    machine.write("sys/class/net/eth1/address", MAC1.encode())
    config = NETWORKS["vlan-on-bond"]
    become(machine, config)
    assert machine.programs.calls == ["ifup eth0", "ifup eth1", "ifup bond0", "ifup bond0.15", "ifup bond0.16"]
    machine.write("run/network/ifstate", b"eth0=eth0\neth1=eth1\nbond0=bond0\nbond0.15=bond0.15\nbond0.16=bond0.16\n")
    machine.programs.calls.clear()
    other = {**config, "bonds": {"bond0": {**config["bonds"]["bond0"], "mtu": 1400}}}
    assert become(machine, other, 2).outcome is Outcome.APPLIED
    assert machine.programs.calls == [
        "ifdown bond0.16", "ifdown bond0.15", "ifdown bond0", "ifup bond0", "ifup bond0.15", "ifup bond0.16",
    ]  # fmt: skip


def test_a_card_with_a_new_name_goes_down_by_the_old_and_comes_up_by_the_new(machine: Machine) -> None:
    apply(machine, lan={"match": {"macaddress": MAC}, "dhcp4": True})
    machine.write("run/network/ifstate", b"eth0=eth0\n")
    machine.programs.calls.clear()
    assert apply(machine, 2, lan={"match": {"macaddress": MAC}, "set-name": "wan0", "dhcp4": True}).outcome is Outcome.APPLIED
    assert machine.programs.calls == ["ifdown eth0", "ip link set dev eth0 name wan0", "ifup wan0"]


INSTALLERS = b"""# The loopback network interface
auto lo eth0
iface lo inet loopback

# The primary network interface
allow-hotplug eth0
iface eth0 inet static
    address 10.0.0.9/24
    # a gateway
    up echo a \\
        b
iface eth0 inet6 auto

iface eth1 inet dhcp \xff
source /etc/network/interfaces.d/*
"""


def test_to_overwrite_is_to_have_the_installers_stanza_out_of_the_way_and_nothing_else(machine: Machine) -> None:
    machine.write("etc/network/interfaces", INSTALLERS)
    machine.write("run/network/ifstate", b"lo=lo\neth0=eth0\n")
    assert apply(machine, eth0={"dhcp4": True}).reason == "conflict"
    assert become(machine, {"ethernets": {"eth0": {"dhcp4": True}}}, overwrite=["network"]).outcome is Outcome.APPLIED
    assert (machine.root / "etc/network/interfaces").read_bytes() == (
        b"# The loopback network interface\nauto lo\niface lo inet loopback\n\n# The primary network interface\n"
        b"    # a gateway\n\niface eth1 inet dhcp \xff\nsource /etc/network/interfaces.d/*\n"
    )
    assert machine.programs.calls == ["ifdown eth0", "ifup eth0"]


def test_a_device_of_somebody_elses_is_not_deleted(machine: Machine) -> None:
    machine.directory("sys/class/net/br0")
    assert become(machine, {"bridges": {"br0": {}}}).reason == "conflict"


def test_no_document_makes_a_line_that_a_shell_would_read_otherwise(machine: Machine) -> None:
    machine.write("sys/class/net/eth1/address", MAC1.encode())
    safe = re.compile(r"[A-Za-z0-9.:/_,+ -]*")
    endings = (" 2>/dev/null || true", " || true")
    for generation, wanted in enumerate(NETWORKS.values(), 1):
        if become(machine, wanted, generation).outcome is Outcome.APPLIED and (machine.root / FILE).exists():
            for line in machine.read(FILE).splitlines():
                bare = next((line.removesuffix(ending) for ending in endings if line.endswith(ending)), line)
                assert line.startswith("# ") or safe.fullmatch(bare), line
