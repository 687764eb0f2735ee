# SPDX-License-Identifier: Apache-2.0
"""The guest's look at its own network, in a real network namespace with a neighbour that answers and one that does not.

Needs root and Debian's iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parent.parent.parent
DEADLINE = 60

#: eth9 is ours; its other end is in a namespace of its own, and has 10.0.0.1 and fd00::1. nobody0 leads nowhere.
STAGE = """set -eu
mount --make-rprivate /
mount -t tmpfs run /run
mkdir /run/netns
ip netns add router
ip link set lo up
ip link add eth9 type veth peer name eth0 netns router
ip -n router addr add 10.0.0.1/24 dev eth0
ip -n router addr add fd00::1/64 dev eth0 nodad
ip -n router link set eth0 up
ip link set eth9 up
ip addr add 10.0.0.5/24 dev eth9
ip addr add fd00::5/64 dev eth9
mount -t sysfs sysfs /sys
"""
LOOK = """
import json, sys
from guest_agent.reach import Reach, look
from guest_agent.system import System
links, addresses, gateways, seconds = json.loads(sys.argv[1])
reach = Reach(links, [tuple(pair) for pair in addresses], [tuple(pair) for pair in gateways])
print(json.dumps([[check.name, check.good, check.detail] for check in look(System(), reach, seconds)]))
"""


def look(
    links: list[str], addresses: list[tuple[str, str]], gateways: list[tuple[str, str]], seconds: float = 10, then: str = ""
) -> list[tuple[str, bool, str]]:
    """What the agent's look says in the namespace, after the shell commands *then*."""
    if os.geteuid() != 0:
        pytest.fail("a network namespace needs root")
    unshare = shutil.which("unshare") or pytest.fail("unshare is missing; on Debian: apt-get install util-linux")
    script = f'{STAGE}{then}\nexec "$0" -c "$1" "$2"\n'
    arguments = json.dumps([links, addresses, gateways, seconds])
    command = [unshare, "--net", "--mount", "sh", "-c", script, sys.executable, LOOK, arguments]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return [(name, good, detail) for name, good, detail in found]


def test_what_is_there_is_seen_and_gateways_of_both_families_answer() -> None:
    checks = look(["eth9"], [("eth9", "10.0.0.5/24"), ("eth9", "fd00::5/64")], [("eth9", "10.0.0.1"), ("eth9", "fd00::1")])
    assert [(name, good) for name, good, _ in checks] == [
        ("link", True), ("address", True), ("address", True), ("gateway", True), ("gateway", True),
    ], checks  # fmt: skip


def test_a_gateway_that_nobody_is_does_not_answer_and_the_other_still_does() -> None:
    checks = look([], [], [("eth9", "10.0.0.254"), ("eth9", "fd00::254"), ("eth9", "10.0.0.1"), ("eth9", "192.0.2.1")], 5)
    assert {detail.split()[1]: good for _, good, detail in checks} == {
        "10.0.0.254": False, "fd00::254": False, "10.0.0.1": True, "192.0.2.1": False,
    }  # fmt: skip


def test_a_gateway_that_answered_a_moment_ago_and_is_gone_does_not_count() -> None:
    gone = "ip neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 nud reachable dev eth9\nip -n router link set eth0 arp off\n"
    assert look([], [], [("eth9", "10.0.0.1")], 4, gone) == [("gateway", False, "gateway 10.0.0.1 does not answer on eth9")]


def test_a_gateways_address_that_was_entered_by_hand_stays_and_counts() -> None:
    entered = "ip neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 nud permanent dev eth9\nip -n router link set eth0 arp off\n"
    assert [good for _, good, _ in look([], [], [("eth9", "10.0.0.1")], 4, entered)] == [True]


def test_an_address_of_another_machine_and_a_link_that_is_down_are_seen() -> None:
    doubled = "ip -n router addr add fd00::6/64 dev eth0 nodad\nip addr add fd00::6/64 dev eth9\nip link add down0 type veth\n"
    checks = look(["down0"], [("eth9", "fd00::6/64"), ("eth9", "10.0.0.6/24")], [], 5, doubled)
    assert [(name, good) for name, good, _ in checks] == [("link", False), ("address", False), ("address", False)]
    assert "another machine's" in checks[1][2]


def test_an_address_of_each_family_stands_for_a_leased_one() -> None:
    assert [good for _, good, _ in look([], [("eth9", "dhcp4"), ("eth9", "dhcp6")], [])] == [True, True]
    flushed = "ip addr flush dev eth9 scope global\n"
    assert [good for _, good, _ in look([], [("eth9", "dhcp4"), ("eth9", "dhcp6")], [], 2, flushed)] == [False, False]
