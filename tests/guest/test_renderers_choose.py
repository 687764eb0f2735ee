# SPDX-License-Identifier: Apache-2.0
"""The manager that is in charge is the one that is written for; another, or none, is a failure that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from guest_agent.failure import ItemError
from guest_agent.renderers.choose import choose
from tests.guest.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

NETWORKD = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_networkd_is_in_charge_where_it_is_enabled_or_runs(machine: Machine) -> None:
    assert choose(machine.system).NAME == "systemd-networkd"
    machine.remove(NETWORKD)
    assert choose(machine.system).NAME == "systemd-networkd"
    machine.enable("systemd-networkd.service")
    machine.remove("run/systemd/netif/state")
    assert choose(machine.system).NAME == "systemd-networkd"


def test_a_networkd_that_is_only_installed_masked_or_was_not_started_is_not_in_charge(machine: Machine) -> None:
    machine.remove("run/systemd/netif/state")
    (machine.root / "etc/systemd/system/systemd-networkd.service").symlink_to("/dev/null")
    machine.write("lib/systemd/systemd-networkd")
    with pytest.raises(ItemError, match="no-manager"):
        choose(machine.system)


@pytest.mark.parametrize(
    "line",
    [
        "source /etc/network/interfaces.d/*", "source-directory /etc/network/interfaces.d", "source interfaces.d/*",
        "  source-directory   interfaces.d/",
    ],
)  # fmt: skip
def test_ifupdown_is_in_charge_where_it_is_run_at_boot_and_reads_our_directory(machine: Machine, line: str) -> None:
    machine.use_ifupdown()
    machine.write("etc/network/interfaces", f"{line}\n".encode())
    assert choose(machine.system).NAME == "ifupdown"


@pytest.mark.parametrize("line", ["", "# source /etc/network/interfaces.d/*", "source /etc/network/more/*", "source"])
def test_an_ifupdown_that_does_not_read_our_directory_is_no_manager(machine: Machine, line: str) -> None:
    machine.use_ifupdown()
    machine.write("etc/network/interfaces", f"{line}\n".encode())
    with pytest.raises(ItemError, match=r"no-manager: .*'source' line"):
        choose(machine.system)


def test_an_ifupdown_of_sysvinit_counts(machine: Machine) -> None:
    machine.use_ifupdown()
    machine.remove("etc/systemd/system/multi-user.target.wants/networking.service")
    machine.write("etc/rcS.d/S10networking")
    assert choose(machine.system).NAME == "ifupdown"


def test_netplan_is_in_charge_of_whatever_runs_where_it_has_a_file(machine: Machine) -> None:
    machine.write("usr/sbin/netplan")
    assert choose(machine.system).NAME == "systemd-networkd"
    machine.write("etc/netplan/50-cloud-init.yaml")
    machine.write("etc/os-release", b"ID=fedora\n")
    machine.enable("NetworkManager.service")
    machine.write("usr/bin/nmcli")
    assert choose(machine.system).NAME == "netplan"


@pytest.mark.parametrize(
    ("release", "name"),
    [
        (b"", "systemd-networkd"),
        (b"ID=debian\n", "systemd-networkd"),
        (b'NAME="A=B"\nID=fedora\n', "NetworkManager"),
        (b'ID="almalinux"\nID_LIKE="rhel centos fedora"\n', "NetworkManager"),
        (b"ID='opensuse-leap'\nID_LIKE='suse opensuse'\n", "wicked"),
    ],
)
@pytest.mark.parametrize("where", ["etc", "usr/lib"])
def test_of_several_the_distributions_own_is_in_charge(machine: Machine, where: str, release: bytes, name: str) -> None:
    for unit in ("NetworkManager.service", "wicked.service"):
        machine.enable(unit)
    machine.write("usr/bin/nmcli")
    machine.write("usr/sbin/wicked")
    machine.write(f"{where}/os-release", release)
    chosen = choose(machine.system)
    assert name == chosen.NAME
