# SPDX-License-Identifier: Apache-2.0
"""A document's interface is the one that has all the signs that the document gives, by whatever name it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.failure import ItemError
from guest_agent.renderers.interfaces import called, is_up, matching, names_after, present
from tests.guest.machine import MAC, Machine
from tests.networks import MAC1, parsed

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.interfaces import Ethernet
    from pv_channel.network import NetworkConfig


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def card(machine: Machine, name: str, mac: str = MAC1, driver: str = "vif", **files: str) -> None:
    for file, content in {"address": mac, **files}.items():
        machine.write(f"sys/class/net/{name}/{file}", f"{content}\n".encode())
    machine.directory(f"sys/class/net/{name}/device")
    (machine.root / f"sys/class/net/{name}/device/driver").symlink_to(f"../../../bus/xen/drivers/{driver}")


def network(**fields: Any) -> NetworkConfig:
    return parsed({"ethernets": {"lan": {name.replace("_", "-"): value for name, value in fields.items()}}})


def lan(**fields: Any) -> Ethernet:
    return network(**fields).ethernets["lan"]


def test_by_name_every_card_that_fits_is_meant(machine: Machine) -> None:
    card(machine, "eth1")
    card(machine, "enX0")
    assert matching(machine.system, "lan", lan(match={"name": "eth?"})) == ["eth0", "eth1"]
    assert matching(machine.system, "lan", lan(match={"name": "wl*"})) == []


def test_a_vlan_of_the_card_is_no_card(machine: Machine) -> None:
    card(machine, "eth0.15", uevent="DEVTYPE=vlan\nINTERFACE=eth0.15")
    assert matching(machine.system, "lan", lan(match={"name": "eth*"})) == ["eth0"]


@pytest.mark.parametrize("driver", ["vif", "xen_netfront"])
def test_a_driver_is_known_by_its_own_name_and_by_its_modules(machine: Machine, driver: str) -> None:
    card(machine, "eth1")
    card(machine, "eth2", driver="e1000")
    assert matching(machine.system, "lan", lan(match={"driver": driver})) == ["eth1"]
    assert matching(machine.system, "lan", lan(match={"driver": driver, "name": "eth2"})) == []


def test_a_card_is_known_by_the_address_that_it_was_made_with(machine: Machine) -> None:
    card(machine, "eth1", mac=MAC, ifindex="3")
    machine.kernel.permanent[3] = bytes.fromhex(MAC1.replace(":", ""))
    assert present(machine.system, "lan", lan(match={"macaddress": MAC1})) == "eth1"
    assert present(machine.system, "lan", lan(match={"macaddress": MAC})) == "eth0"


def test_a_kernel_that_does_not_tell_is_no_failure(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> dict[int, bytes]:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(machine.kernel, "permanent_addresses", refuse)
    assert present(machine.system, "lan", lan(match={"macaddress": MAC})) == "eth0"


def test_a_card_that_has_its_new_name_still_fits_a_pattern_for_the_old(machine: Machine) -> None:
    card(machine, "wan0")
    wanted = network(match={"macaddress": MAC1, "name": "eth*"}, set_name="wan0")
    assert matching(machine.system, "lan", wanted.ethernets["lan"]) == ["wan0"]
    assert names_after(machine.system, wanted, "lan") == ["wan0"]


def test_what_it_will_be_called_is_known_before(machine: Machine) -> None:
    wanted = network(match={"macaddress": MAC}, set_name="wan0")
    assert (called(machine.system, wanted, "lan"), names_after(machine.system, wanted, "lan")) == ("wan0", ["wan0"])
    assert type(called(machine.system, wanted, "lan")) is str


def test_a_card_that_has_none_of_the_signs_is_waited_for_and_then_named_by_them(machine: Machine) -> None:
    wanted = network(match={"macaddress": MAC1, "driver": "vif"})
    with pytest.raises(ItemError, match=f"no-interface: .*'lan' describes: macaddress {MAC1}, driver vif"):
        called(machine.system, wanted, "lan")
    assert machine.waited >= 5
    assert names_after(machine.system, wanted, "lan") == []


@pytest.mark.parametrize("name", ["eth0;id", "a b", "x\ny", "$(id)"])
def test_a_name_that_no_file_may_hold_is_nobodys(machine: Machine, name: str) -> None:
    machine.write(f"sys/class/net/{name}/address", MAC1.encode())
    assert matching(machine.system, "lan", lan(match={"macaddress": MAC1})) == []


@pytest.mark.parametrize(("flags", "up"), [("0x1003", True), ("0x1002", False), ("", False), ("what", False)])
def test_whether_it_is_up_is_the_administrators_word(machine: Machine, flags: str, up: bool) -> None:
    machine.write("sys/class/net/eth0/flags", flags.encode())
    assert is_up(machine.system, "eth0") is up
