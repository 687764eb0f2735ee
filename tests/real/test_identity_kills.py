# SPDX-License-Identifier: Apache-2.0
"""A kill at any line leaves a clone the old identity or a new one: never a key without its half, never some of each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pv_channel.private_key import public_half
from tests.guest.killing import leaves_old_or_new
from tests.guest.machine import Machine, document, key

if TYPE_CHECKING:
    from pathlib import Path

#: A prime, so that loops are met at each of their lines.
STRIDE = 23
KINDS = ("ed25519", "ecdsa")
RAW = document(local_hostname="web1", ssh_trusted_user_ca_keys=[key(5)], ssh_pwauth=False)
OURS = ("etc/ssh/sshd_config.d/30-pv-guest-agent.conf", "etc/ssh/pv-guest-agent_user_ca.pub")
ID = "0123456789abcdef0123456789abcdef\n"


def cloned(top: Path) -> Machine:
    """A clone, with an sshd that nobody asks."""
    made = Machine(top)
    for kind in (*KINDS, "rsa"):
        made.write(f"etc/ssh/ssh_host_{kind}_key", b"the template's", 0o600)
        made.write(f"etc/ssh/ssh_host_{kind}_key.pub", b"the template's")
    made.write("etc/ssh/sshd_config", b"Include /etc/ssh/sshd_config.d/*.conf\n")
    made.write("usr/sbin/sshd")
    made.directory("run/sshd")
    made.write("etc/machine-id", ID.encode(), 0o444)
    return made


def is_new(machine: Machine) -> bool:
    """Whether all that the document makes is there and whole, and nothing else."""
    files = {path.name for path in (machine.root / "etc/ssh").iterdir()}
    wanted = {f"ssh_host_{kind}_key{end}" for kind in KINDS for end in ("", ".pub")}
    halves = all(
        machine.read(f"etc/ssh/ssh_host_{kind}_key.pub").startswith(public_half(machine.read(f"etc/ssh/ssh_host_{kind}_key")))
        for kind in KINDS
    )
    etc = {path.name for path in (machine.root / "etc").iterdir() if path.name.startswith(".")}
    return (
        files == {*wanted, "sshd_config", "sshd_config.d", "pv-guest-agent_user_ca.pub"}
        and halves
        and all((machine.root / name).exists() for name in OURS)
        and machine.read("etc/machine-id") != ID
        and machine.read("etc/hostname") == "web1\n"
        and etc == {".pwd.lock"}
    )


def test_a_kill_at_any_line_leaves_one_identity_whole() -> None:
    if os.geteuid() != 0:
        pytest.fail("these tests need root")
    leaves_old_or_new(cloned, RAW, STRIDE, is_new)
