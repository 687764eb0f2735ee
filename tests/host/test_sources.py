# SPDX-License-Identifier: Apache-2.0
"""Directories and xenstore, looked at together: nothing new is missed, and nobody else's socket is taken."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from host_agent.channels.endpoint import Domain, Endpoint, made_at
from host_agent.channels.sockets import NOT_THERE
from host_agent.channels.sources import Sources
from host_agent.channels.whereabouts import Nowhere
from pv_channel import CHANNEL_NAME
from tests.host.fakes import PLAIN
from tests.host.talk import UUID, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG_AGO = 1_600_000_000_000_000_000


class Stated:
    """What follows nothing: the test says what runs."""

    def __init__(self) -> None:
        self.endpoints: dict[tuple[int, str], Endpoint] = {}
        self.domains: dict[int, Domain] = {}
        self.trouble = ""
        self.first_look = asyncio.Event()

    def run_domain(self, domid: int, name: str, *channels: tuple[str, Path]) -> None:
        domain = Domain(domid, UUID, name)
        self.domains |= {domid: domain}
        self.endpoints |= {
            (domid, str(number)): Endpoint(path, channel=channel, domain=domain)
            for number, (channel, path) in enumerate(channels, 1)
        }

    async def run(self) -> None:
        self.first_look.set()


class Dom0:
    """Two directories, libvirt's, and what runs."""

    def __init__(self, work: Path, stack: ExitStack) -> None:
        self.first, self.second, self.libvirts = work / "first", work / "second", work / "libvirts"
        for directory in (self.first, self.second, self.libvirts):
            directory.mkdir(mode=0o700)
        self._stack, self.xen = stack, Stated()
        self.sources = Sources([self.first, self.second], CHANNEL_NAME, lambda changed: self.xen, self.libvirts)

    def socket(self, path: Path) -> Path:
        path.unlink(missing_ok=True)
        end = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        end.bind(os.fspath(path))
        end.listen(1)
        return path

    def follow(self) -> None:
        """Begin to follow what runs."""

        async def follow() -> None:
            for task in self.sources.follow(lambda: None):
                task.cancel()

        asyncio.run(follow())

    def of(self, name: str = "web1") -> Endpoint | Nowhere:
        """Where the VM of a document of that name is, without a uuid."""
        return self.sources.look().of(wanted(dict(PLAIN), bytes(16), name))

    def path_of(self, name: str = "web1") -> Path | None:
        where = self.of(name)
        return None if isinstance(where, Nowhere) else where.path


@pytest.fixture
def dom0(tmp_path: Path) -> Iterator[Dom0]:
    with ExitStack() as stack:
        yield Dom0(tmp_path, stack)


def test_the_first_directory_that_has_the_name_wins_and_libvirts_comes_last(dom0: Dom0) -> None:
    libvirts = dom0.socket(dom0.libvirts / f"web1-{CHANNEL_NAME}")
    assert dom0.path_of() == libvirts
    second = dom0.socket(dom0.second / "web1.sock")
    assert dom0.path_of() == second
    first = dom0.socket(dom0.first / "web1")
    assert dom0.path_of() == first


def test_a_directory_that_has_not_changed_for_long_is_seen_to_change(dom0: Dom0) -> None:
    path = dom0.socket(dom0.first / "web1.sock")
    os.utime(dom0.first, ns=(LONG_AGO, LONG_AGO))
    before = dom0.of()
    assert dom0.of() == before
    dom0.socket(path)
    after = dom0.of()
    assert isinstance(before, Endpoint)
    assert isinstance(after, Endpoint)
    assert before.made != after.made
    os.utime(dom0.first, ns=(LONG_AGO, LONG_AGO))
    dom0.of()
    path.unlink()
    assert isinstance(dom0.of(), Nowhere)


def test_what_changes_within_one_tick_of_the_clock_is_seen(dom0: Dom0) -> None:
    now = dom0.first.stat().st_mtime_ns
    for _ in range(3):
        before = dom0.of()
        dom0.socket(dom0.first / "web1.sock")
        os.utime(dom0.first, ns=(now, now))
        assert dom0.of() != before


def test_a_directory_that_goes_away_is_told_and_what_was_there_is_remembered(dom0: Dom0) -> None:
    path = dom0.socket(dom0.first / "web1.sock")
    assert dom0.path_of() == path
    aside = dom0.first.rename(dom0.first.with_name("aside"))
    assert dom0.path_of() == path
    assert dom0.sources.complaint == f"{dom0.first}: No such file or directory"
    aside.rename(dom0.first)
    assert dom0.path_of() == path
    assert dom0.sources.complaint == ""


def test_xenstores_channel_has_its_sockets_identity(dom0: Dom0) -> None:
    path = dom0.socket(dom0.first / "whatever")
    dom0.xen.run_domain(3, "web1", ("org.example.unused", dom0.first / "other"), (CHANNEL_NAME, path))
    dom0.follow()
    where = dom0.of()
    assert isinstance(where, Endpoint)
    assert (where.path, where.domain, where.made) == (path, dom0.xen.domains[3], made_at(path.stat()))
    path.unlink()
    missing = dom0.of()
    assert isinstance(missing, Endpoint)
    assert missing.made == NOT_THERE


def test_a_socket_that_was_another_applications_is_not_taken_when_its_domain_goes(dom0: Dom0) -> None:
    path = dom0.socket(dom0.first / "web1.sock")
    dom0.xen.run_domain(3, "vm", ("org.qemu.guest_agent.0", path))
    dom0.follow()
    assert isinstance(dom0.of(), Nowhere)
    dom0.xen.endpoints, dom0.xen.domains = {}, {}
    for _ in range(3):
        assert isinstance(dom0.of(), Nowhere)
    dom0.socket(path)  # another QEMU's
    assert dom0.path_of() == path
