# SPDX-License-Identifier: Apache-2.0
"""The real ssh-keygen finds in our known_hosts what ssh would look up: plain, hashed, and by an authority.

Needs Debian's openssh-client.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from host_agent.views.known_hosts import lines

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["web1.example.org", "web1", "192.0.2.10", "2001:db8::10"]


def ssh_keygen(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The real one."""
    program = shutil.which("ssh-keygen")
    if program is None:
        pytest.fail("ssh-keygen is missing; on Debian: apt-get install openssh-client")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def public_key(directory: Path, name: str) -> str:
    """A new key's public line."""
    assert ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "root@web1", "-f", str(directory / name)).returncode == 0
    return (directory / f"{name}.pub").read_text().strip()


def found(file: Path, name: str) -> list[str]:
    """The lines that ssh-keygen finds for *name*, without its remarks, and without the names, which it shows as they stand."""
    out = ssh_keygen("-F", name, "-f", str(file)).stdout
    return [" ".join(word for word in line.split() if not word.startswith(("|1|", "web1"))) for line in out.splitlines()
            if not line.startswith("#")]  # fmt: skip


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("certified", [False, True])
def test_ssh_keygen_finds_every_name_and_no_other(tmp_path: Path, *, hashed: bool, certified: bool) -> None:
    key = public_key(tmp_path, "host")
    bare = " ".join(key.split()[:2])
    authority = " ".join(public_key(tmp_path, "ca").split()[:2])
    file = tmp_path / "known_hosts"
    vm = {"names": NAMES, "host-keys": [key], "certified": certified}
    file.write_text("\n".join(lines(vm, [authority], hashed=hashed)) + "\n")
    expected = [f"@cert-authority {authority}"] * certified + [bare]
    for name in NAMES:
        assert found(file, name) == expected, name
    assert found(file, "web2") == found(file, "192.0.2.1") == []


def test_our_hashed_lines_are_what_ssh_keygen_itself_calls_hashed(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    vm = {"names": NAMES, "host-keys": [public_key(tmp_path, "host")], "certified": False}
    file.write_text("\n".join(lines(vm, [], hashed=True)) + "\n")
    before = file.read_text()
    assert ssh_keygen("-H", "-f", str(file)).returncode == 0
    assert file.read_text() == before
