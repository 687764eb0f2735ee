# SPDX-License-Identifier: Apache-2.0
"""netplan gets one file in its own words, judges it before anything else, and puts the old one back where it does not like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from guest_agent.command import Completed
from guest_agent.renderers import block_yaml, netplan
from pv_channel.addresses import Destination
from pv_channel.messages import Outcome
from tests.guest.machine import MAC, Machine
from tests.guest.networking import become
from tests.networks import NETWORKS, parsed

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.interfaces import Interface
    from pv_channel.routes import Route

FILE = "etc/netplan/60-pv-guest-agent.yaml"
RUNNING = "run/systemd/netif/state"
STATIC = {"ethernets": {"eth0": {"addresses": ["10.0.0.5/24"], "gateway4": "10.0.0.1"}}}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """As Ubuntu's installer leaves one: netplan has a file, which is about nothing of ours."""
    made = Machine(tmp_path)
    made.write("usr/sbin/netplan")
    made.write("etc/netplan/01-network-manager-all.yaml", b"network:\n  version: 2\n  renderer: networkd\n")
    return made


def test_the_file_is_private_readable_and_in_netplans_words(machine: Machine) -> None:
    item = become(machine, STATIC)
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "by netplan")
    assert machine.read(FILE) == (
        "# Written by pv-guest-agent; the next document from the host replaces this file.\n"
        'network:\n  version: 2\n  ethernets:\n    eth0:\n      addresses:\n        - "10.0.0.5/24"\n'
        '      routes:\n        - to: "0.0.0.0/0"\n          via: "10.0.0.1"\n'
    )
    assert (machine.root / FILE).stat().st_mode & 0o7777 == 0o600


def without_routes(interface: Interface) -> Interface:
    return msgspec.structs.replace(interface, gateway4=msgspec.UNSET, gateway6=msgspec.UNSET, routes=[])


def ways(interface: Interface) -> list[Route]:
    """The routes, the two ways to say ``default`` as one."""
    return [msgspec.structs.replace(r, to=Destination("default")) if r.is_default else r for r in interface.all_routes()]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_says_all_that_the_document_says(name: str) -> None:
    said = yaml.safe_load(netplan.render(parsed(NETWORKS[name])).replace('"vif"', '"xen_netfront"'))["network"]
    assert said.pop("version") == 2
    got, wanted = parsed(said).all(), parsed(NETWORKS[name]).all()
    assert {key: without_routes(interface) for key, interface in got.items()} == {
        key: without_routes(interface) for key, interface in wanted.items()
    }
    assert {key: ways(interface) for key, interface in got.items()} == {key: ways(interface) for key, interface in wanted.items()}


TEXT = st.text(st.characters(max_codepoint=127), max_size=8)
SCALARS = TEXT | st.integers() | st.booleans() | st.sampled_from(["on", "1e3", "0x1f", "2001-01-01", "~", "null"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(TEXT | st.sampled_from(["on", "y", "eth0", "bond0.15", "10"]), VALUES, max_size=4))
def test_what_is_written_is_what_a_reader_of_yaml_reads(value: dict[str, Any]) -> None:
    assert yaml.safe_load(block_yaml.dump(value)) == (value or None)


def test_netplan_judges_the_file_and_then_has_it_done(machine: Machine) -> None:
    become(machine, STATIC)
    assert machine.programs.calls == ["netplan generate", "netplan apply"]


def test_at_early_boot_netplan_only_generates(machine: Machine) -> None:
    machine.remove(RUNNING)
    become(machine, STATIC)
    assert machine.programs.calls == ["netplan generate"]


def test_a_file_that_netplan_rejects_is_taken_back_and_its_words_are_in_the_log(machine: Machine) -> None:
    old = machine.snapshot()
    machine.programs.endings["netplan generate"] = Completed(1, b"/etc/netplan/60-pv-guest-agent.yaml:3:5: Error in network\n")
    item = become(machine, STATIC)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "command-failed")
    assert item.log == ["/etc/netplan/60-pv-guest-agent.yaml:3:5: Error in network"]
    assert machine.snapshot() == old
    assert machine.programs.calls == ["netplan generate", "netplan generate", "netplan apply"]


def test_no_interfaces_take_the_file_away(machine: Machine) -> None:
    become(machine, STATIC)
    machine.programs.calls.clear()
    assert become(machine, {}, 2).outcome is Outcome.APPLIED
    assert not (machine.root / FILE).exists()
    assert machine.programs.calls == ["netplan generate", "netplan apply"]


def test_what_networkd_was_told_goes_before_netplan_looks(machine: Machine) -> None:
    left = machine.write("etc/systemd/network/10-pv-guest-agent-eth0.network", b"[Match]\nName=eth0\n")
    machine.programs.endings["netplan generate"] = Completed(0 if left.exists() else 1, b"")
    assert become(machine, STATIC).outcome is Outcome.APPLIED
    assert not left.exists()


def test_a_card_is_renamed_at_early_boot_when_nobody_else_will(machine: Machine) -> None:
    machine.remove(RUNNING)
    become(machine, {"ethernets": {"front": {"match": {"macaddress": MAC}, "set-name": "wan0", "dhcp4": True}}})
    assert machine.programs.calls == ["netplan generate", "ip link set dev eth0 name wan0"]


@pytest.mark.parametrize(
    "text",
    [
        "network:\n  ethernets:\n    eth0:\n      dhcp4: true\n",
        'network: {"ethernets": {"eth0": {"dhcp4": true}}}\n',
        f"network:\n  ethernets:\n    nic:\n      match: {{macaddress: '{MAC.upper()}'}}\n",
        "network:\n  ethernets:\n    all:\n      match:\n        name: e*\n",
        "network:\n  ethernets:\n    lan: {dhcp4: true}\n",
    ],
)
@pytest.mark.parametrize("where", ["etc/netplan", "run/netplan", "lib/netplan"])
def test_another_file_with_the_same_interface_is_a_conflict_or_goes(machine: Machine, where: str, text: str) -> None:
    machine.write(f"{where}/10-site.yaml", text.encode())
    wanted = {"ethernets": {"lan": {"match": {"macaddress": MAC}, "dhcp4": True}}}
    item = become(machine, wanted)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert item.detail.startswith(f"/{where}/10-site.yaml: ")
    assert become(machine, wanted, overwrite=["network"]).outcome is Outcome.APPLIED
    assert not (machine.root / where / "10-site.yaml").exists()


@pytest.mark.parametrize(
    "text",
    [
        "network:\n  ethernets:\n    eth1:\n      dhcp4: true\n",
        "# eth0:\nnetwork:\n  # match eth0: no\n  ethernets:\n    eth1: {} # eth0: was here\n",
        "network:\n  ethernets:\n    all:\n      match:\n        name: en*\n",
        "network:\n  ethernets:\n    xeth0:\n      dhcp4: true\n",
    ],
)
def test_another_file_with_other_interfaces_is_left_alone(machine: Machine, text: str) -> None:
    machine.write("etc/netplan/10-site.yaml", text.encode())
    assert become(machine, STATIC).outcome is Outcome.APPLIED
    assert machine.read("etc/netplan/10-site.yaml") == text


def test_a_file_that_is_hidden_by_another_of_its_name_does_not_count(machine: Machine) -> None:
    machine.write("lib/netplan/10-site.yaml", b"network:\n  ethernets:\n    eth0: {dhcp4: true}\n")
    machine.write("etc/netplan/10-site.yaml", b"network: {}\n")
    assert become(machine, STATIC).outcome is Outcome.APPLIED
