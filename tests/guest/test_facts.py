# SPDX-License-Identifier: Apache-2.0
"""What dom0 is told of a machine: what it is now, in the first answer of a session and when it has changed."""

from __future__ import annotations

import os
import subprocess
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING

import pytest

from guest_agent import netlink
from guest_agent.facts import facts
from guest_agent.netlink import HeldAddress
from guest_agent.provision import Provisioner
from guest_agent.system import System
from pv_channel.messages import MAX_ADDRESSES, MAX_TEXT, Facts, Ping, Pong, encode
from tests.guest.machine import Machine
from tests.guest.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ["ssh-ed25519 AAAA"]
TENTATIVE, DUPLICATE = 0x40, 0x08


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def held(address: str, prefix: int = 24, *, is_global: bool = True, flags: int = 0x80) -> HeldAddress:
    packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    return HeldAddress(7, packed, prefix, is_global, flags)


def test_a_live_machine_is_described_by_its_kernel_and_its_files(machine: Machine) -> None:
    machine.write("etc/os-release", b'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    machine.write("proc/sys/kernel/random/boot_id", b"0b0f9a1e-0000-4000-8000-000000000001\n")
    machine.kernel.held = [held("2001:db8::5", 64), held("10.0.0.5"), held("10.0.0.5"), held("9.0.0.5", 8)]
    assert facts(machine.system, KEYS) == Facts(
        "Debian GNU/Linux 12 (bookworm)", "6.1.0-56-amd64", "template", "0b0f9a1e-0000-4000-8000-000000000001",
        ["9.0.0.5/8", "10.0.0.5/24", "2001:db8::5/64"], KEYS,
    )  # fmt: skip


def test_addresses_by_which_nobody_else_reaches_it_are_not_told(machine: Machine) -> None:
    machine.kernel.held = [
        held("127.0.0.1", is_global=False), held("fe80::1", is_global=False), held("2001:db8::6", flags=TENTATIVE),
        held("2001:db8::7", flags=DUPLICATE),
    ]  # fmt: skip
    assert facts(machine.system, []).addresses == []


def test_of_a_tree_only_its_files_are_told(machine: Machine) -> None:
    machine.write("usr/lib/os-release", b"PRETTY_NAME='A tree'\n")
    machine.write("proc/sys/kernel/random/boot_id", b"another machine's\n")
    machine.write("etc/hostname", b"web7\n")
    machine.kernel.held = [held("10.0.0.5")]
    tree = System(machine.root, kernel=machine.kernel)
    assert facts(tree, KEYS) == Facts(os="A tree", hostname="web7", host_keys=KEYS)


def test_what_cannot_be_read_is_left_out(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.directory("etc/os-release")

    def refuses() -> list[HeldAddress]:
        raise OSError(1, "rtnetlink refuses")

    monkeypatch.setattr(machine.kernel, "addresses", refuses)
    assert facts(machine.system, []) == Facts(kernel="6.1.0-56-amd64", hostname="template")


def test_what_a_machine_says_of_itself_always_fits_its_message(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.write("etc/os-release", b"PRETTY_NAME=" + b"\xff\x1b\\" * 9000)
    monkeypatch.setattr(machine.kernel, "hostname", lambda: "\udcff" * 200)
    machine.kernel.held = [held(f"10.0.{n}.1") for n in range(200)]
    told = facts(machine.system, [])
    assert (len(told.os), len(told.hostname), len(told.addresses)) == (MAX_TEXT, MAX_TEXT, MAX_ADDRESSES)
    assert encode(Pong(1, told)).isascii()


def test_the_keys_are_those_that_are_there_now(machine: Machine) -> None:
    provisioner = machine.provisioner()
    assert provisioner.facts().host_keys == []
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", f"{machine.directory('etc/ssh')}/key"]
    subprocess.run(command, check=True)
    line = machine.read("etc/ssh/key.pub")
    machine.write("etc/ssh/ssh_host_ed25519_key.pub", line.encode())
    assert provisioner.facts().host_keys == [line.strip()]
    handing = Provisioner(machine.system, "0.1.0", hand_off=True)
    assert handing.facts().host_keys == []  # cloud-init is still to make others


def test_the_running_machine_says_what_its_kernel_does() -> None:
    told = facts(System(), [])
    assert told.kernel == os.uname().release
    assert len(told.boot_id) == 36
    loopback = [one for one in netlink.addresses() if one.address == bytes((127, 0, 0, 1))]
    assert [(one.prefix, one.is_global) for one in loopback] == [(8, False)]


def test_the_first_answer_of_each_session_says_all_and_later_ones_what_has_changed(stage: Stage) -> None:
    first, second = Facts(hostname="template"), Facts(hostname="web1", addresses=["10.0.0.5/24"])
    stage.open(Ping(1))
    for number, machine in ((2, first), (3, second), (4, second)):
        stage.provisioner.machine = machine
        stage.after(30, stage.say(Ping(number)))
        stage.conversation.step(60)
    stage.restart_host()
    stage.open(Ping(5))
    assert stage.all(Pong) == [Pong(1, first), Pong(2), Pong(3, second), Pong(4), Pong(5, second)]


def test_a_host_that_asks_without_end_has_the_machine_looked_at_only_now_and_then(stage: Stage) -> None:
    stage.open(Ping(1))
    stage.provisioner.machine = Facts(hostname="web1")
    for number in range(2, 12):
        stage.after(0.3, stage.say(Ping(number)))
        stage.conversation.step(1)
    assert [pong.n for pong in stage.all(Pong) if pong.facts] == [1, 8]
