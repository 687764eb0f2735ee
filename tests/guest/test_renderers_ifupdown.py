# SPDX-License-Identifier: Apache-2.0
"""ifupdown gets one file whose stanzas say what the document says, and interfaces go down with the old and up with the new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import CommandError, Completed
from guest_agent.failure import ItemError
from guest_agent.renderers.stanzas import render
from pv_channel.messages import ItemResult, Outcome
from tests.guest.machine import MAC, Machine, document, network, no_progress
from tests.networks import parsed

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
    assert render("eth0", ethernet(**fields)) == HEAD + stanzas + "\n"


@pytest.mark.parametrize("name", ["eth0;id", "eth0\nup id", "$(id)", "eth0 x", ""])
def test_a_name_that_a_shell_would_read_is_never_written(name: str) -> None:
    with pytest.raises(ItemError, match="unsafe-value"):
        render(name, ethernet(dhcp4=True))


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
    assert machine.programs.calls == ["ifdown eth1", "ifdown eth2", "ifup eth1"]
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
    assert "00:16:3e:ff:ff:ff ('lan')" in item.detail
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
    assert "/etc/network/interfaces.d/wan configures eth0" in item.detail


def test_two_parts_that_mean_one_interface_are_a_conflict(machine: Machine) -> None:
    assert apply(machine, eth0={"dhcp4": True}, lan={"match": {"macaddress": MAC}}).reason == "conflict"


def test_nameservers_without_resolvconf_are_remarked_on(machine: Machine) -> None:
    servers = {"dhcp4": True, "nameservers": {"addresses": ["10.0.0.2"]}}
    assert "resolvconf is not installed" in apply(machine, eth0=servers).detail
    machine.write("sbin/resolvconf")
    assert apply(machine, 2, eth0={**servers, "dhcp6": True}).detail == "by ifupdown"
