# SPDX-License-Identifier: Apache-2.0
"""systemd-networkd gets a file per interface that says what netplan would say, and is told when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import Completed
from guest_agent.renderers.networkd import render
from pv_channel.document import from_values
from pv_channel.messages import Outcome
from tests.guest.machine import MAC, Machine, document, network, no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.interfaces import Ethernet
    from pv_channel.messages import Result

DIRECTORY = "etc/systemd/network"
HEAD = "# Written by pv-guest-agent; the next document from the host replaces this file.\n"


def ethernet(**fields: Any) -> Ethernet:
    values = {"instance-id": "i", "network": network(eth0={name.replace("_", "-"): value for name, value in fields.items()})}
    parsed = from_values(values).network
    return parsed.ethernets["eth0"]  # type: ignore[union-attr]  # it was given


def apply(machine: Machine, generation: int = 1, **ethernets: Any) -> Result:
    return machine.provisioner().provision(document(generation, network=network(**ethernets)), None, no_progress)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "[Match]\nName=eth0\n\n[Network]\nDHCP=no\nLinkLocalAddressing=ipv6\n"),
        ({"dhcp4": True}, "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=ipv6\n"),
        ({"dhcp6": True}, "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv6\nLinkLocalAddressing=ipv6\n"),
        (
            {"dhcp4": True, "dhcp6": True, "accept_ra": False},
            "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n",
        ),
        (
            {"match": {"macaddress": MAC.upper()}, "mtu": 1400, "accept_ra": True},
            (f"[Match]\nMACAddress={MAC}\nType=ether\n\n[Link]\nMTUBytes=1400\n\n"
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
    assert render("eth0", ethernet(**fields)) == HEAD + text


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
