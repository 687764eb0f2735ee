# SPDX-License-Identifier: Apache-2.0
"""systemd-networkd gets a file per interface that says what netplan would say, and is told when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import Completed
from guest_agent.failure import ItemError
from guest_agent.renderers.networkd_netdev import render as render_netdev
from guest_agent.renderers.networkd_network import render
from pv_channel.messages import Outcome
from tests.guest.machine import MAC, Machine, document, network, no_progress
from tests.guest.networking import become
from tests.networks import MAC0, MAC1, MAC2, NETWORKS, parsed

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.messages import Result

DIRECTORY = "etc/systemd/network"
HEAD = "# Written by pv-guest-agent; the next document from the host replaces this file.\n"


def apply(machine: Machine, generation: int = 1, **ethernets: Any) -> Result:
    return machine.provisioner().provision(document(generation, network=network(**ethernets)), None, no_progress)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "[Match]\nName=eth0\n\n[Network]\nDHCP=no\nLinkLocalAddressing=ipv6\n"),
        ({"dhcp4": True}, "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=ipv6\n\n[DHCPv4]\nUseMTU=yes\n"),
        ({"dhcp6": True}, "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv6\nLinkLocalAddressing=ipv6\n"),
        (
            {"dhcp4": True, "dhcp6": True, "accept_ra": False},
            "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n\n[DHCPv4]\nUseMTU=yes\n",
        ),
        (
            {"match": {"macaddress": MAC.upper()}, "mtu": 1400, "accept_ra": True},
            (f"[Match]\nPermanentMACAddress={MAC}\n\n[Link]\nMTUBytes=1400\n\n"
            "[Network]\nDHCP=no\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=yes\n"),
        ),
        (
            {
                "addresses": ["10.0.0.5/24", "FD00::5/64"],
                "gateway4": "10.0.0.1",
                "gateway6": "fd00::1",
                "routes": [
                    {"to": "10.9.0.0/16", "via": "10.0.0.9", "metric": 50, "on-link": True},
                    {"to": "10.8.0.0/16"},
                    {"to": "fd09::/48"},
                ],
                "nameservers": {"addresses": ["10.0.0.2", "fd00::2"], "search": ["a.example", "b.example"]},
            },
            ("[Match]\nName=eth0\n\n"
            "[Network]\nDHCP=no\nLinkLocalAddressing=ipv6\nAddress=10.0.0.5/24\nAddress=fd00::5/64\n"
            "DNS=10.0.0.2\nDNS=fd00::2\nDomains=a.example b.example\n\n"
            "[Route]\nGateway=10.0.0.1\n\n[Route]\nGateway=fd00::1\n\n"
            "[Route]\nDestination=10.9.0.0/16\nGateway=10.0.0.9\nMetric=50\nGatewayOnLink=yes\n\n"
            "[Route]\nDestination=10.8.0.0/16\nScope=link\n\n[Route]\nDestination=fd09::/48\n"),
        ),
    ],
)
def test_a_file_says_what_the_document_says(fields: dict[str, Any], text: str) -> None:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    assert render("eth0", parsed({"ethernets": {"eth0": named}})) == HEAD + text


def test_a_running_networkd_is_told_of_what_changed_and_only_of_that(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write("sys/class/net/eth1/address", b"00:16:3e:00:00:02\n")
    result = apply(machine, a={"match": {"macaddress": MAC}, "dhcp4": True}, eth1={"dhcp4": True}, eth7={"dhcp4": True})
    assert (result.outcome, result.items[0].detail) == (Outcome.APPLIED, "by systemd-networkd")
    assert machine.programs.calls == ["networkctl reload", "networkctl reconfigure eth0 eth1"]
    assert (machine.root / DIRECTORY / "10-pv-guest-agent-eth7.network").stat().st_mode & 0o7777 == 0o644
    machine.programs.calls.clear()
    apply(machine, 2, a={"match": {"macaddress": MAC}, "dhcp4": True}, eth1={"dhcp6": True}, eth7={"dhcp4": True})
    assert machine.programs.calls == ["networkctl reload", "networkctl reconfigure eth1"]


def test_at_early_boot_there_are_files_and_no_programs(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.remove("run/systemd/netif/state")
    assert apply(machine, eth0={"dhcp4": True}).outcome is Outcome.APPLIED
    assert machine.programs.calls == []


def test_a_file_of_ours_whose_interface_is_not_named_any_more_goes_and_others_stay(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write(f"{DIRECTORY}/20-site.network", b"[Match]\n")
    apply(machine, eth0={"dhcp4": True}, eth1={"dhcp4": True})
    apply(machine, 2, eth1={"dhcp4": True})
    assert [path.name for path in sorted((machine.root / DIRECTORY).iterdir())] == [
        "10-pv-guest-agent-eth1.network", "20-site.network",
    ]  # fmt: skip
    apply(machine, 3)
    assert [path.name for path in (machine.root / DIRECTORY).iterdir()] == ["20-site.network"]


def test_a_failing_reload_rolls_back_and_reloads_the_old_files(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    old = machine.snapshot()
    lines = b"".join(b"line %d \x1b[31m\n" % number for number in range(50))
    machine.programs.endings["networkctl reconfigure"] = Completed(1, lines)
    result = apply(machine, eth0={"dhcp4": True})
    (item,) = result.items
    assert (item.outcome, item.reason) == (Outcome.FAILED, "command-failed")
    assert item.detail == "'networkctl reconfigure eth0' ended with status 1"
    assert item.log == [f"line {number} \\x1b[31m" for number in range(30, 50)]
    assert machine.snapshot() == old
    assert machine.programs.calls == [
        "networkctl reload", "networkctl reconfigure eth0", "networkctl reload", "networkctl reconfigure eth0",
    ]  # fmt: skip
    assert "ended with status 1" in result.detail


def test_what_ifupdown_was_told_goes_when_networkd_takes_over(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write("etc/network/interfaces.d/60-pv-guest-agent", b"auto eth0\n")
    apply(machine, eth0={"dhcp4": True})
    assert not (machine.root / "etc/network/interfaces.d/60-pv-guest-agent").exists()


def rendered(name: str) -> dict[str, str]:
    """Every file for a network of the corpus, without its head: ``eth0``, ``bond0.netdev``."""
    config = parsed(NETWORKS[name])
    files = {key: render(key, config).removeprefix(HEAD) for key in config.all()}
    devices = {f"{key}.netdev": (render_netdev(key, config) or "").removeprefix(HEAD) for key in config.all()}
    return files | {key: text for key, text in devices.items() if text}


def test_a_bonds_members_belong_to_it_and_have_no_addresses() -> None:
    assert rendered("bond") == {
        "eth0": "[Match]\nName=eth0\n\n[Network]\nDHCP=no\nLinkLocalAddressing=no\nBond=bond0\nPrimarySlave=yes\n",
        "eth1": "[Match]\nName=eth1\n\n[Link]\nRequiredForOnline=no\n\n"
        "[Network]\nDHCP=no\nLinkLocalAddressing=no\nBond=bond0\n",
        "bond0": f"[Match]\nName=bond0\n\n[Link]\nMACAddress={MAC2}\n\n[Network]\nDHCP=no\nLinkLocalAddressing=ipv6\n"
        "Address=10.0.0.5/24\nConfigureWithoutCarrier=yes\n\n[Route]\nGateway=10.0.0.1\n",
        "bond0.netdev": f"[NetDev]\nName=bond0\nKind=bond\nMACAddress={MAC2}\n\n"
        "[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n",
    }


@pytest.mark.parametrize(
    ("name", "section"),
    [
        (
            "bond-lacp",
            ("[Bond]\nMode=802.3ad\nLACPTransmitRate=fast\nMIIMonitorSec=100ms\nMinLinks=1\nTransmitHashPolicy=layer3+4\n"
            "AdSelect=bandwidth\nUpDelaySec=200ms\nDownDelaySec=300ms\n"),
        ),
        (
            "bond-arp",
            ("[Bond]\nMode=active-backup\nAllSlavesActive=yes\nARPIntervalSec=1000ms\nARPIPTargets=10.0.0.1 10.0.0.2\n"
            "ARPValidate=all\nARPAllTargets=any\nFailOverMACPolicy=active\nGratuitousARP=2\nPrimaryReselectPolicy=better\n"),
        ),
        ("bond-round-robin", "[Bond]\nMode=balance-rr\nMIIMonitorSec=100ms\nPacketsPerSlave=2\n"),
        ("bond-balance-tlb", "[Bond]\nMode=balance-tlb\nMIIMonitorSec=100ms\nLearnPacketIntervalSec=5\n"),
    ],
)
def test_every_parameter_of_a_bond_is_in_its_file(name: str, section: str) -> None:
    assert rendered(name)["bond0.netdev"].endswith(f"\n\n{section}")


def test_a_bridge_and_its_ports_have_their_parameters() -> None:
    files = rendered("bridge")
    assert files["br0.netdev"] == (
        f"[NetDev]\nName=br0\nKind=bridge\nMACAddress={MAC2}\n\n[Bridge]\nAgeingTimeSec=250\nPriority=4096\nForwardDelaySec=5\n"
        "HelloTimeSec=3\nMaxAgeSec=12\nSTP=yes\n"
    )
    assert files["eth0"].endswith("LinkLocalAddressing=no\nBridge=br0\n\n[Bridge]\nCost=70\nPriority=14\n")
    assert files["eth1"].endswith("LinkLocalAddressing=no\nBridge=br0\n\n[Bridge]\nCost=50\n")
    assert rendered("bridge-without-ports")["br0.netdev"].endswith("\n\n[Bridge]\nSTP=no\n")


def test_a_vlan_is_named_where_it_stands_and_has_a_file_of_its_own() -> None:
    files = rendered("vlan-on-bond")
    assert "VLAN=bond0.15\nVLAN=bond0.16\n" in files["bond0"]
    assert files["bond0.15.netdev"] == "[NetDev]\nName=bond0.15\nKind=vlan\n\n[VLAN]\nId=15\n"
    assert rendered("vlan")["vlan15.netdev"] == "[NetDev]\nName=vlan15\nKind=vlan\nMTUBytes=1400\n\n[VLAN]\nId=15\n"


def test_routes_and_rules_of_other_tables_are_in_sections_of_their_own() -> None:
    assert rendered("policy-routing")["eth1"].endswith(
        "\n\n[Route]\nGateway=10.1.0.1\nTable=101\n\n[Route]\nDestination=10.1.0.0/24\nScope=link\nTable=101\n\n"
        "[Route]\nGateway=fd01::1\nTable=101\n\n"
        "[RoutingPolicyRule]\nFrom=10.1.0.5/32\nTable=101\nPriority=1000\n\n"
        "[RoutingPolicyRule]\nFrom=fd01::5/128\nTable=101\nPriority=1000\n\n"
        "[RoutingPolicyRule]\nFrom=10.1.0.0/24\nTo=10.2.0.0/16\nTable=101\nPriority=1001\nFirewallMark=7\n\n"
        "[RoutingPolicyRule]\nFrom=10.1.0.0/24\nTable=101\nPriority=1002\nTypeOfService=16\n"
    )
    assert "Gateway=10.0.0.9\nPreferredSource=10.0.0.5\n" in rendered("routes")["eth0"]


def test_what_of_dhcp_is_used_is_said_for_each_family() -> None:
    assert rendered("dhcp-overrides")["eth0"].endswith(
        "[DHCPv4]\nUseDNS=no\nUseDomains=no\nUseHostname=no\nUseNTP=no\nUseMTU=yes\nUseRoutes=yes\nRouteMetric=200\n"
        "SendHostname=yes\nHostname=web1\n"
    )
    assert rendered("dhcp-without-routes")["eth0"].endswith(
        "[DHCPv4]\nUseDNS=no\nUseDomains=route\nUseMTU=yes\nUseRoutes=no\n\n[DHCPv6]\nUseDNS=no\nUseDomains=route\n"
    )


def test_two_names_for_one_dhcp_client_are_not_supported_and_the_field_is_named() -> None:
    config = parsed({"ethernets": {"eth0": {"dhcp4": True, "dhcp6": True, "dhcp6-overrides": {"hostname": "web1"}}}})
    with pytest.raises(ItemError, match="not-supported: 'eth0' has 'dhcp6-overrides', which systemd-networkd cannot do"):
        render("eth0", config)


def test_a_card_is_matched_by_its_own_address_or_else_as_a_card() -> None:
    assert rendered("bond-lacp")["first"].startswith(f"[Match]\nPermanentMACAddress={MAC0}\n\n")
    assert rendered("match-by-driver")["any"].startswith("[Match]\nName=e*\nDriver=vif\nType=ether\n\n")


def device(machine: Machine, name: str, **files: str) -> None:
    """An interface of the machine's."""
    for file, content in files.items():
        machine.write(f"sys/class/net/{name}/{file}", f"{content}\n".encode())


def test_a_bond_that_changes_is_deleted_and_its_members_are_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    device(machine, "eth0", ifindex="2")
    device(machine, "eth1", ifindex="3", address=MAC1)
    bond = NETWORKS["bond"]
    assert become(machine, bond).outcome is Outcome.APPLIED
    assert machine.programs.calls == ["networkctl reload", "networkctl reconfigure eth0 eth1"]
    device(machine, "bond0", ifindex="4")
    machine.programs.calls.clear()
    other = {**bond, "bonds": {"bond0": {**bond["bonds"]["bond0"], "parameters": {"mode": "balance-xor"}}}}
    assert become(machine, other, 2).outcome is Outcome.APPLIED
    # eth0 is the primary no more; eth1 has the same file, and lost its bond with the device
    assert machine.programs.calls == ["networkctl delete bond0", "networkctl reload", "networkctl reconfigure eth0 eth1"]
    machine.programs.calls.clear()
    become(machine, {}, 3)
    assert machine.programs.calls == ["networkctl reload", "networkctl delete bond0"]
    assert list((machine.root / DIRECTORY).iterdir()) == []


def test_a_device_that_could_not_be_made_is_deleted_before_the_old_files_are_read_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    old = machine.snapshot()
    machine.programs.endings["networkctl reconfigure"] = Completed(1, b"")

    def run(argv: Any, *, given: bytes = b"") -> Completed:
        if list(argv) == ["networkctl", "reload"] and not (machine.root / "sys/class/net/br0").exists():
            machine.directory("sys/class/net/br0")
        if list(argv) == ["networkctl", "delete", "br0"]:
            (machine.root / "sys/class/net/br0").rmdir()
        return machine.programs(argv, given=given)

    machine.system.run = run
    bridge = {"ethernets": {"eth0": {}}, "bridges": {"br0": {"interfaces": ["eth0"]}}}
    assert become(machine, bridge).reason == "command-failed"
    assert machine.programs.calls[2:] == ["networkctl delete br0", "networkctl reload", "networkctl reconfigure eth0"]
    (machine.root / "sys/class/net/br0").rmdir()  # the fake makes it at any reload
    assert machine.snapshot() == old


def test_networkd_is_told_to_look_when_it_knows_that_the_device_is_gone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    become(machine, {"bridges": {"br0": {}}})
    device(machine, "br0", ifindex="7")
    note = machine.write("run/systemd/netif/links/7")
    old = machine.snapshot()
    item = become(machine, {"bridges": {"br0": {"mtu": 1400}}}, 2)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "not-in-force")
    assert item.detail == "br0 was deleted, and systemd-networkd still has it after 5 s"
    assert machine.snapshot() == old
    sleep = machine.system.sleep

    def hear_of_it(seconds: float) -> None:
        sleep(seconds)
        note.unlink(missing_ok=True)

    machine.system.sleep = hear_of_it
    machine.programs.calls.clear()
    assert become(machine, {"bridges": {"br0": {"mtu": 1400}}}, 2).outcome is Outcome.APPLIED
    assert machine.programs.calls == ["networkctl delete br0", "networkctl reload"]


def test_a_device_of_somebody_elses_is_a_conflict(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.directory("sys/class/net/br0")
    item = become(machine, {"bridges": {"br0": {}}})
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert "an interface br0 is there already" in item.detail
    assert become(machine, {"bridges": {"br0": {}}}, overwrite=["network"]).outcome is Outcome.APPLIED
    assert machine.programs.calls == ["networkctl delete br0", "networkctl reload"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("10-cloud-init-eth0.network", "[Match]\nName=eth0\n"),
        ("05-all.network", "[Match]\nName=*\n"),
        ("05-all.network", "[Match]\nName=wl* e*\n\n[Network]\nDHCP=yes\n"),
        ("05-all.network", "[Match]\nType=ether\nName=!lo\n"),
        ("05-all.network", "[Match]\nHost=web1\nDriver=e1000\n"),
        ("05-mac.network", f"[Match]\nMACAddress=00-00-00-00-00-01 {MAC.upper()}\n"),
        ("05-mac.network", f"# ours\n[Match]\nPermanentMACAddress={MAC}\nName=\\\neth0\n"),
        ("05-name.link", "[Match]\nOriginalName=eth*\n[Link]\nName=lan0\n"),
    ],
)
@pytest.mark.parametrize("where", [DIRECTORY, "run/systemd/network", "usr/lib/systemd/network"])
def test_a_file_that_would_win_over_ours_is_a_conflict_or_is_masked(tmp_path: Path, where: str, name: str, content: str) -> None:
    machine = Machine(tmp_path)
    path = machine.write(f"{where}/{name}", content.encode())
    wanted = {"ethernets": {"eth0": {"dhcp4": True, "wakeonlan": True}}}
    item = become(machine, wanted)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert item.detail.startswith(f"/{where}/{name}: it is about eth0 too and comes before ours")
    assert path.read_text() == content
    assert become(machine, wanted, overwrite=["network"]).outcome is Outcome.APPLIED
    assert (machine.root / DIRECTORY / name).readlink() == type(path)("/dev/null")
    if where != DIRECTORY:
        assert path.read_text() == content
    other = {"ethernets": {"eth0": {"dhcp6": True, "wakeonlan": True}}}
    assert become(machine, other, 2, overwrite=["network"]).outcome is Outcome.APPLIED
    assert (machine.root / DIRECTORY / name).is_symlink() is (where != DIRECTORY)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("20-later.network", "[Match]\nName=*\n"),
        ("05-other.network", "[Match]\nName=eth1\n"),
        ("05-other.network", "[Match]\nName=!eth0\n"),
        ("05-other.network", "[Match]\nMACAddress=00:00:00:00:00:01\n"),
        ("05-other.network", "[Match]\nName=eth*\nType=wlan\n"),
        ("05-other.network", "[Match]\nKind=bridge\n"),
        ("05-empty.network", "[Match]\n[Network]\nDHCP=yes\n"),
        ("05-name.link", "[Match]\nOriginalName=eth*\n"),
        ("05-other.netdev", "[NetDev]\nName=br0\nKind=bridge\n"),
        ("10-pv-guest-agent-eth0.network", "[Match]\nName=*\n"),
    ],
)
def test_a_file_that_comes_later_or_is_about_others_is_none_of_our_business(tmp_path: Path, name: str, content: str) -> None:
    machine = Machine(tmp_path)
    machine.write(f"{DIRECTORY}/{name}", content.encode())
    assert become(machine, {"ethernets": {"eth0": {"dhcp4": True}}}).outcome is Outcome.APPLIED


def test_a_device_file_of_somebody_elses_for_our_bridge_is_a_conflict(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write("usr/lib/systemd/network/05-bridge.netdev", b"[NetDev]\nName=br0\nKind=bridge\n")
    assert become(machine, {"bridges": {"br0": {}}}).reason == "conflict"


def test_a_masked_or_overridden_file_wins_over_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write("usr/lib/systemd/network/05-all.network", b"[Match]\nName=*\n")
    machine.write("run/systemd/network/06-all.network", b"[Match]\nName=*\n")
    machine.directory(DIRECTORY)
    (machine.root / DIRECTORY / "05-all.network").symlink_to("/dev/null")
    machine.write(f"{DIRECTORY}/06-all.network", b"[Match]\nName=eth7\n")
    assert become(machine, {"ethernets": {"eth0": {"dhcp4": True}}}).outcome is Outcome.APPLIED
