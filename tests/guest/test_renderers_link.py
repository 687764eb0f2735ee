# SPDX-License-Identifier: Apache-2.0
"""A card gets its new name now by ip(8) and at every boot by udev, back again when all fails, and never one that is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.command import Completed
from pv_channel.messages import ItemResult, Outcome
from tests.guest.machine import MAC, Machine, document, no_progress
from tests.networks import MAC1

if TYPE_CHECKING:
    from pathlib import Path

LINK = "etc/systemd/network/10-pv-guest-agent-front.link"
HEAD = "# Written by pv-guest-agent; the next document from the host replaces this file.\n"
NAMED = {"front": {"match": {"macaddress": MAC}, "set-name": "wan0", "addresses": ["10.0.0.5/24"]}}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One with two cards, udev running and done with both; networkd not started yet."""
    made = Machine(tmp_path)
    made.remove("run/systemd/netif/state")
    made.write("sys/class/net/eth0/ifindex", b"2\n")
    made.write("sys/class/net/eth1/address", MAC1.encode())
    made.write("sys/class/net/eth1/ifindex", b"3\n")
    made.write("run/udev/control")
    made.write("run/udev/data/n2")
    made.write("run/udev/data/n3")
    return made


def become(machine: Machine, generation: int = 1, ethernets: dict[str, Any] | None = None, **more: Any) -> ItemResult:
    raw = document(generation, network={"version": 2, "ethernets": NAMED if ethernets is None else ethernets}, **more)
    (item,) = machine.provisioner().provision(raw, None, no_progress).items
    return item


def test_udev_gets_a_file_and_the_card_its_name_at_once(machine: Machine) -> None:
    assert become(machine).outcome is Outcome.APPLIED
    assert machine.read(LINK) == f"{HEAD}[Match]\nPermanentMACAddress={MAC}\n\n[Link]\nName=wan0\n"
    assert machine.programs.calls == ["udevadm control --reload", "ip link set dev eth0 name wan0"]


def test_a_card_that_is_up_goes_down_for_it_and_what_fails_later_gives_it_its_old_name_back(machine: Machine) -> None:
    machine.write("run/systemd/netif/state")
    machine.write("sys/class/net/eth0/flags", b"0x1003\n")
    machine.programs.endings["networkctl reconfigure wan0"] = Completed(1, b"")
    old = machine.snapshot()
    assert become(machine).reason == "command-failed"
    assert machine.programs.calls == [
        "udevadm control --reload", "ip link set dev eth0 down", "ip link set dev eth0 name wan0", "networkctl reload",
        "networkctl reconfigure wan0",
        "ip link set dev wan0 down", "ip link set dev wan0 name eth0", "ip link set dev eth0 up", "udevadm control --reload",
        "networkctl reload", "networkctl reconfigure eth0",
    ]  # fmt: skip
    assert machine.snapshot() == old


def test_cards_that_change_names_pass_through_names_that_nobody_has(machine: Machine) -> None:
    swapped = {
        "a": {"match": {"macaddress": MAC}, "set-name": "eth1"},
        "b": {"match": {"macaddress": MAC1}, "set-name": "eth0"},
    }
    assert become(machine, ethernets=swapped).outcome is Outcome.APPLIED
    assert machine.programs.calls[1:] == [
        "ip link set dev eth0 name pvga0", "ip link set dev eth1 name pvga1",
        "ip link set dev pvga0 name eth1", "ip link set dev pvga1 name eth0",
    ]  # fmt: skip


def test_a_name_that_another_card_keeps_is_a_conflict(machine: Machine) -> None:
    taken = {"front": {"match": {"macaddress": MAC}, "set-name": "eth1"}}
    item = become(machine, ethernets=taken)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert "another interface is called eth1 already" in item.detail


def test_a_card_that_has_its_name_is_left_alone(machine: Machine) -> None:
    machine.write("sys/class/net/wan0/address", MAC.encode())
    machine.write("sys/class/net/wan0/ifindex", b"2\n")
    machine.remove("sys/class/net/eth0/address")
    assert become(machine).outcome is Outcome.APPLIED
    assert machine.programs.calls == ["udevadm control --reload"]


def test_a_card_that_udev_has_not_done_with_is_waited_for_and_renamed_from_the_name_that_udev_gave_it(machine: Machine) -> None:
    machine.remove("run/udev/data/n2")
    sleep = machine.system.sleep

    def go_on(seconds: float) -> None:
        sleep(seconds)
        if machine.waited > 2 and not (machine.root / "run/udev/data/n2").exists():
            (machine.root / "sys/class/net/eth0").rename(machine.root / "sys/class/net/enX0")
            machine.write("run/udev/data/n2")

    machine.system.sleep = go_on
    become(machine)
    assert machine.programs.calls == ["udevadm control --reload", "ip link set dev enX0 name wan0"]


def test_a_card_that_is_not_there_is_left_to_udev(machine: Machine) -> None:
    missing = {"front": {"match": {"macaddress": "00:16:3e:ff:ff:ff"}, "set-name": "wan0"}}
    assert become(machine, ethernets=missing).outcome is Outcome.APPLIED
    assert machine.programs.calls == ["udevadm control --reload"]
    assert 5 <= machine.waited < 6


def test_the_file_goes_when_the_document_has_no_name_any_more(machine: Machine) -> None:
    become(machine)
    machine.programs.calls.clear()
    assert become(machine, 2, {"front": {"match": {"macaddress": MAC}, "dhcp4": True}}).outcome is Outcome.APPLIED
    assert not (machine.root / LINK).exists()
    assert machine.programs.calls == ["udevadm control --reload"]


RULE = f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{MAC.upper()}", NAME="lan0"\n'


def test_a_rule_that_names_the_card_otherwise_is_a_conflict_or_goes(machine: Machine) -> None:
    other = f'SUBSYSTEM=="net", ATTR{{address}}=="{MAC1}", NAME="dmz0"\n'
    path = machine.write("etc/udev/rules.d/70-persistent-net.rules", f"# names\n#{RULE}{RULE}{other}".encode())
    item = become(machine)
    assert (item.outcome, item.reason) == (Outcome.FAILED, "conflict")
    assert item.detail.startswith("/etc/udev/rules.d/70-persistent-net.rules: udev names a card by it that the document names")
    assert become(machine, overwrite=["network"]).outcome is Outcome.APPLIED
    assert path.read_text() == f"# names\n#{RULE}{other}"


@pytest.mark.parametrize(
    "rule",
    [RULE.replace("lan0", "wan0"), RULE.replace("NAME=", "NAME=="), RULE.replace(MAC.upper(), MAC1), f"#{RULE}", "KERNEL==1\n"],
)
def test_a_rule_that_says_the_same_or_something_else_is_no_conflict(machine: Machine, rule: str) -> None:
    machine.write("etc/udev/rules.d/70-persistent-net.rules", rule.encode())
    assert become(machine).outcome is Outcome.APPLIED
