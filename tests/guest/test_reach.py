# SPDX-License-Identifier: Apache-2.0
"""What the guest sees of its own network: nothing is good that is not there, and nothing is waited for longer than said."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING

import pytest

from guest_agent.netlink import HeldAddress
from guest_agent.reach import LONGEST_LOOK, Reach, look
from pv_channel.messages import MAX_CHECKS
from tests.guest.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.messages import Check

INDEX = 7
STALE, REACHABLE, FAILED, NO_ARP, PERMANENT = 0x04, 0x02, 0x20, 0x40, 0x80
TENTATIVE, DUPLICATE = 0x40, 0x08
WHOLE = Reach(["eth0"], [("eth0", "10.0.0.5/24"), ("eth0", "fd00::5/64")], [("eth0", "10.0.0.1"), ("eth0", "fd00::1")])


def packed(address: str) -> bytes:
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def held(address: str, flags: int = 0x80, *, index: int = INDEX, is_global: bool = True) -> HeldAddress:
    return HeldAddress(index, packed(address), 24, is_global, flags)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One whose network is as `WHOLE` wants it."""
    made = Machine(tmp_path)
    made.write("sys/class/net/eth0/operstate", b"up\n")
    made.write("sys/class/net/eth0/ifindex", b"%d\n" % INDEX)
    made.kernel.held = [held("10.0.0.5"), held("fd00::5")]
    made.kernel.answering = {(INDEX, packed(address)): REACHABLE for address in ("10.0.0.1", "fd00::1")}
    return made


def bad(machine: Machine, reach: Reach = WHOLE, seconds: float = 3) -> list[tuple[str, str]]:
    return [(check.name, check.detail) for check in look(machine.system, reach, seconds) if not check.good]


def test_what_is_all_there_is_said_at_once_to_be_there(machine: Machine) -> None:
    checks = look(machine.system, WHOLE, 60)
    assert [(check.name, check.good) for check in checks] == [
        ("link", True), ("address", True), ("address", True), ("gateway", True), ("gateway", True),
    ]  # fmt: skip
    assert "10.0.0.1" in checks[3].detail
    assert machine.waited == 0


def test_a_link_that_is_down_and_one_that_is_not_there_are_not_good(machine: Machine) -> None:
    machine.write("sys/class/net/eth0/operstate", b"lowerlayerdown\n")
    assert bad(machine, Reach(["eth0", "eth1"], [], [])) == [("link", "eth0 is lowerlayerdown"), ("link", "eth1 is not there")]
    assert machine.waited == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(
    "instead",
    [
        [], [held("10.0.0.5", index=INDEX + 1)], [held("10.0.0.5", TENTATIVE)], [held("10.0.0.5", DUPLICATE)],
        [held("10.0.0.50")], [held("::a00:5")],
    ],
)  # fmt: skip
def test_an_address_elsewhere_not_yet_certain_or_somebody_elses_too_is_not_good(
    machine: Machine, instead: list[HeldAddress]
) -> None:
    machine.kernel.held = instead
    ((name, detail),) = bad(machine, Reach([], [("eth0", "10.0.0.5/24")], []))
    assert name == "address"
    assert "10.0.0.5" in detail


@pytest.mark.parametrize(
    ("kind", "address", "good"),
    [
        ("dhcp4", held("192.0.2.77"), True),
        ("dhcp4", held("169.254.7.7", is_global=False), False),
        ("dhcp4", held("2001:db8::1"), False),
        ("dhcp6", held("2001:db8::1"), True),
        ("dhcp6", held("fe80::1", is_global=False), False),
        ("dhcp6", held("2001:db8::1", TENTATIVE), False),
    ],
)
def test_a_leased_address_is_any_global_one_of_its_family(machine: Machine, kind: str, address: HeldAddress, good: bool) -> None:
    machine.kernel.held = [address]
    assert (bad(machine, Reach([], [("eth0", kind)], [])) == []) is good


@pytest.mark.parametrize(
    ("state", "good"), [(REACHABLE, True), (PERMANENT, True), (NO_ARP, True), (STALE, False), (FAILED, False)]
)
def test_a_gateway_is_good_where_it_answers_or_need_not(machine: Machine, state: int, good: bool) -> None:
    machine.kernel.answering = {(INDEX, packed("10.0.0.1")): state}
    assert (bad(machine, Reach([], [], [("eth0", "10.0.0.1")])) == []) is good


def test_that_a_gateway_answered_before_the_change_proves_nothing(machine: Machine) -> None:
    machine.kernel.states = {(INDEX, packed("10.0.0.1")): REACHABLE}
    machine.kernel.answering = {}
    assert bad(machine, Reach([], [], [("eth0", "10.0.0.1")])) == [("gateway", "gateway 10.0.0.1 does not answer on eth0")]
    assert machine.kernel.forgotten == [(INDEX, packed("10.0.0.1"))]


def test_a_neighbour_that_an_administrator_entered_is_not_forgotten(machine: Machine) -> None:
    machine.kernel.states = {(INDEX, packed("10.0.0.1")): PERMANENT}
    assert bad(machine, Reach([], [], [("eth0", "10.0.0.1")])) == []
    assert machine.kernel.forgotten == []


def test_a_gateway_of_an_interface_that_is_not_there_does_not_answer(machine: Machine) -> None:
    assert [name for name, _ in bad(machine, Reach([], [], [("eth9", "10.0.0.1")]))] == ["gateway"]


def test_a_look_ends_after_its_time_and_never_lasts_longer_than_the_longest(machine: Machine) -> None:
    machine.kernel.answering = {}
    assert [name for name, _ in bad(machine, seconds=600)] == ["gateway", "gateway"]
    assert machine.waited == pytest.approx(LONGEST_LOOK, abs=0.1)


def test_the_bad_ones_come_first_and_there_are_never_more_than_a_message_takes(machine: Machine) -> None:
    many = Reach(["eth0"] * MAX_CHECKS, [("eth0", "10.0.0.6/24")], [])
    checks: list[Check] = look(machine.system, many, 0)
    assert len(checks) == MAX_CHECKS
    assert [check.good for check in checks[:2]] == [False, True]


def test_a_kernel_that_does_not_answer_is_said_to(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[HeldAddress]:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(machine.kernel, "addresses", refuse)
    assert bad(machine) == [("address", "the kernel does not say what there is: Address family not supported by protocol")]
