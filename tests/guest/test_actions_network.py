# SPDX-License-Identifier: Apache-2.0
"""The item ``network`` fights with nobody, cloud-init least of all, and knows what must be reachable when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.actions import network
from guest_agent.actions.draft import Draft
from guest_agent.reach import Reach
from pv_channel.document import parse
from pv_channel.messages import Outcome
from tests.guest.machine import MAC, Machine, document
from tests.guest.networking import become
from tests.networks import MAC1, NETWORKS

if TYPE_CHECKING:
    from pathlib import Path

STATIC = {"ethernets": {"eth0": {"addresses": ["10.0.0.5/24"]}}}
DISABLE = "etc/cloud/cloud.cfg.d/99-disable-network-config.cfg"
RENDERED = "etc/systemd/network/10-cloud-init-eth0.network"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def cloudy(machine: Machine) -> Machine:
    """One that cloud-init has configured before."""
    machine.write("usr/bin/cloud-init")
    machine.enable("cloud-init-local.service")
    machine.write(RENDERED, b"[Match]\nName=eth0\n[Network]\nDHCP=yes\n")
    return machine


def reach(machine: Machine, config: dict[str, Any]) -> Reach | None:
    wanted = parse(document(network={"version": 2, **config}))
    draft = Draft(machine.system, wanted, None)
    draft.item = "network"
    planned = network.plan(wanted, draft)
    assert planned is not None
    return planned.reach


def test_what_cloud_init_has_written_is_a_conflict_with_the_cure(cloudy: Machine) -> None:
    old = cloudy.snapshot()
    item = become(cloudy, STATIC)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert item.detail.startswith(f"/{RENDERED}: cloud-init has written it, and does so again; write 'network: ")
    assert f"{{config: disabled}}' into /{DISABLE}, and remove this file" in item.detail
    assert cloudy.snapshot() == old


@pytest.mark.parametrize(
    "path",
    [
        "etc/netplan/50-cloud-init.yaml", "etc/network/interfaces.d/50-cloud-init", "etc/network/interfaces.d/50-cloud-init.cfg",
        "etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection", "etc/sysconfig/network-scripts/ifcfg-eth0",
        "etc/sysconfig/network/ifcfg-eth0",
    ],
)  # fmt: skip
def test_whatever_manager_cloud_init_writes_for_it_is_named(cloudy: Machine, path: str) -> None:
    cloudy.remove(RENDERED)
    cloudy.write(path, b"# Created by cloud-init on instance boot automatically, do not edit.\n#\n")
    assert become(cloudy, STATIC).detail.startswith(f"/{path}: cloud-init has written it")


def test_to_overwrite_is_to_have_cloud_init_leave_the_network_alone_from_then_on(cloudy: Machine) -> None:
    assert become(cloudy, STATIC, overwrite=["network"]).outcome is Outcome.APPLIED
    assert not (cloudy.root / RENDERED).exists()
    assert cloudy.read(DISABLE) == "network: {config: disabled}\n"
    assert become(cloudy, {"ethernets": {"eth0": {"dhcp4": True}}}, 2).outcome is Outcome.APPLIED
    assert cloudy.read(DISABLE) == "network: {config: disabled}\n"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (DISABLE, b"network: {config: disabled}\n"),
        ("etc/cloud/cloud.cfg", b"users: []\nnetwork:\n    # by us\n    config: disabled\n"),
        ("etc/cloud/cloud.cfg.d/10.cfg", b'"network": {"config": "disabled"}\n'),
        ("etc/cloud/cloud-init.disabled", b""),
        ("proc/cmdline", b"root=/dev/xvda1 network-config=disabled ro\n"),
    ],
)
def test_a_cloud_init_that_leaves_the_network_alone_is_in_nobodys_way(cloudy: Machine, path: str, content: bytes) -> None:
    cloudy.write(path, content)
    cloudy.remove(RENDERED)
    item = become(cloudy, STATIC)
    assert (item.outcome, item.detail) == (Outcome.APPLIED, "by systemd-networkd")


@pytest.mark.parametrize("content", [b"network: {config: enabled}\n", b"# network: {config: disabled}\n", b"a:\n  network: 1\n"])
def test_a_cloud_init_that_may_still_write_is_remarked_on(cloudy: Machine, content: bytes) -> None:
    cloudy.remove(RENDERED)
    cloudy.write("etc/cloud/cloud.cfg.d/05.cfg", content)
    item = become(cloudy, STATIC)
    assert item.outcome is Outcome.APPLIED
    assert "cloud-init is enabled here, and may write a network configuration of its own" in item.detail


def test_what_cloud_init_left_behind_when_it_was_removed_is_the_files_own_conflict(cloudy: Machine) -> None:
    cloudy.remove("usr/bin/cloud-init")
    assert "comes before ours" in become(cloudy, STATIC).detail


def test_static_addresses_and_ways_out_are_to_be_reachable(machine: Machine) -> None:
    assert reach(machine, NETWORKS["dual-stack"]) == Reach(
        ["eth0"],
        [("eth0", "10.0.0.5"), ("eth0", "10.0.1.5"), ("eth0", "fd00::5")],
        [("eth0", "10.0.0.1"), ("eth0", "fd00::1")],
    )


def test_another_tables_way_out_is_no_gateway_to_ask(machine: Machine) -> None:
    assert reach(machine, NETWORKS["policy-routing"]) == Reach(
        ["eth0", "eth1"], [("eth0", "10.0.0.5"), ("eth1", "10.1.0.5"), ("eth1", "fd01::5")], [("eth0", "10.0.0.1")]
    )


def test_a_lease_is_some_address_of_its_family(machine: Machine) -> None:
    assert reach(machine, NETWORKS["dhcp4"]) == Reach(["eth0"], [("eth0", "dhcp4")], [])
    assert reach(machine, NETWORKS["dhcp6"]) == Reach(["eth0"], [("eth0", "dhcp6")], [])
    both = {"ethernets": {"eth0": {"dhcp4": True, "dhcp6": True}}}
    assert reach(machine, both) == Reach(["eth0"], [("eth0", "dhcp4")], [])
    beside = {"ethernets": {"eth0": {"dhcp4": True, "addresses": ["10.0.0.5/24"]}}}
    assert reach(machine, beside) == Reach(["eth0"], [("eth0", "10.0.0.5")], [])


def test_an_interface_is_looked_for_by_the_name_that_it_will_have(machine: Machine) -> None:
    assert reach(machine, NETWORKS["set-name"]) == Reach(["wan0"], [("wan0", "10.0.0.5")], [("wan0", "10.0.0.1")])
    machine.write("sys/class/net/eth1/address", MAC1.encode())
    assert reach(machine, NETWORKS["several-by-mac"]) == Reach(
        ["eth0", "eth1"], [("eth0", "10.0.0.5"), ("eth1", "10.1.0.5")], [("eth0", "10.0.0.1")]
    )


def test_what_is_optional_need_not_be_there_and_what_is_missing_must(machine: Machine) -> None:
    assert reach(machine, NETWORKS["dhcp-both"]) == Reach([], [], [])
    assert reach(machine, {"ethernets": {"lan": {"match": {"macaddress": "00:16:3e:ff:ff:ff"}}}}) == Reach(["lan"], [], [])


def test_a_bridge_without_ports_has_nobody_to_be_up_with(machine: Machine) -> None:
    assert reach(machine, NETWORKS["bridge-without-ports"]) == Reach([], [("br0", "10.0.0.5")], [])


def test_nothing_at_all_is_still_something_to_ask_about(machine: Machine) -> None:
    assert reach(machine, {}) == Reach([], [], [])


def test_before_the_manager_runs_nobody_can_be_cut_off(machine: Machine) -> None:
    machine.remove("run/systemd/netif/state")
    assert reach(machine, STATIC) is None


def test_a_card_that_was_given_another_address_is_known_by_its_own(machine: Machine) -> None:
    machine.write("sys/class/net/eth0/address", b"00:16:3e:ff:ff:ff\n")
    machine.write("sys/class/net/eth0/ifindex", b"2\n")
    machine.kernel.permanent[2] = bytes.fromhex(MAC.replace(":", ""))
    lan = {"ethernets": {"lan": {"match": {"macaddress": MAC}, "macaddress": "00:16:3e:ff:ff:ff", "dhcp4": True}}}
    assert become(machine, lan).outcome is Outcome.APPLIED
    assert machine.programs.calls == ["networkctl reload", "networkctl reconfigure eth0"]
