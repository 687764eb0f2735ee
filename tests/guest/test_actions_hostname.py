# SPDX-License-Identifier: Apache-2.0
"""The guest's name: in its file, in hosts where it wins, in the kernel; and nothing of the user's is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from guest_agent.actions.hostname import with_our_line
from pv_channel.messages import Outcome
from tests.guest.machine import HOSTS, Machine, document, no_progress

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = b"# BEGIN pv-guest-agent\n127.0.1.1 w.x w\n# END pv-guest-agent\n"


@pytest.mark.parametrize(
    ("fields", "hostname", "line"),
    [
        ({"local_hostname": "web1"}, "web1", "127.0.1.1 web1"),
        ({"local_hostname": "web1", "fqdn": "web1.example.org"}, "web1", "127.0.1.1 web1.example.org web1"),
        ({"fqdn": "web1.example.org"}, "web1", "127.0.1.1 web1.example.org web1"),
        ({"local_hostname": "web1.example.org"}, "web1", "127.0.1.1 web1.example.org web1"),
        ({"local_hostname": "web1", "fqdn": "alias.example.org"}, "web1", "127.0.1.1 alias.example.org web1"),
    ],
)
def test_the_short_name_is_the_hostname_and_both_are_in_hosts(
    tmp_path: Path, fields: dict[str, Any], hostname: str, line: str
) -> None:
    machine = Machine(tmp_path)
    assert machine.provisioner().provision(document(**fields), None, no_progress).outcome is Outcome.APPLIED
    assert machine.read("etc/hostname") == f"{hostname}\n"
    assert f"# BEGIN pv-guest-agent\n{line}\n# END" in machine.read("etc/hosts")
    assert machine.kernel.hostname() == hostname


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", BLOCK),
        (b"# only a comment", b"# only a comment\n" + BLOCK),
        (b"# c\n\n127.0.1.1 old\n", b"# c\n\n" + BLOCK + b"127.0.1.1 old\n"),
        (b"127.0.0.1 localhost\r\n", BLOCK + b"127.0.0.1 localhost\r\n"),
        (b"127.0.0.1 localhost\n" + BLOCK + b"x", BLOCK + b"127.0.0.1 localhost\nx"),
        (b"# BEGIN pv-guest-agent\n127.0.1.1 stale\n", BLOCK + b"127.0.1.1 stale\n"),
        (HOSTS, HOSTS.replace(b"127.0.0.1\t", BLOCK + b"127.0.0.1\t")),
    ],
)
def test_our_line_stands_before_every_entry_and_the_rest_stays(old: bytes, new: bytes) -> None:
    assert with_our_line(old, "127.0.1.1 w.x w") == new
    assert with_our_line(new, "127.0.1.1 w.x w") == new


def test_a_machine_without_a_hosts_file_gets_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.remove("etc/hosts")
    machine.provisioner().provision(document(local_hostname="web1"), None, no_progress)
    assert machine.read("etc/hosts") == "# BEGIN pv-guest-agent\n127.0.1.1 web1\n# END pv-guest-agent\n"


def test_a_name_that_only_the_kernel_lacks_is_set(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.provisioner().provision(document(local_hostname="web1"), None, no_progress)
    machine.kernel.set_hostname("dhcp-gave-this")
    result = machine.provisioner().provision(document(2, local_hostname="web1"), None, no_progress)
    assert result.outcome is Outcome.APPLIED
    assert machine.kernel.hostname() == "web1"


def test_a_hosts_file_that_is_a_link_is_left_and_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (machine.root / "etc/hosts").rename(machine.root / "etc/hosts.real")
    (machine.root / "etc/hosts").symlink_to("hosts.real")
    old = machine.snapshot()
    (item,) = machine.provisioner().provision(document(local_hostname="web1"), None, no_progress).items
    assert (item.outcome, item.reason) == (Outcome.FAILED, "symlink")
    assert "/etc/hosts" in item.detail
    assert machine.snapshot() == old


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (machine.root / "etc/hosts").chmod(0o664)
    machine.provisioner().provision(document(local_hostname="web1"), None, no_progress)
    assert (machine.root / "etc/hosts").stat().st_mode & 0o7777 == 0o664
