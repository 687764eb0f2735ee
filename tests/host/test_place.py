# SPDX-License-Identifier: Apache-2.0
"""The place of a VM's channel, look after look: what is news, and when a stream is to be left."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from host_agent.channels.endpoint import Domain, Endpoint
from host_agent.channels.kept_links import links
from host_agent.channels.place import News, Place
from host_agent.channels.sockets import NOT_THERE, made
from host_agent.channels.whereabouts import Nowhere
from pv_channel.greeting import NO_UUID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OFF = Nowhere("the VM is off", wrong=False)
CLAIMED = Nowhere("two claim it")


class Vm:
    """A VM whose QEMUs have one path, and its place."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.path, self.place = directory / "vm.sock", Place(missing_seconds=1.0, nowhere_seconds=10.0)
        self._stack = stack

    def start(self) -> Endpoint:
        """A QEMU that listens at the path; where it is."""
        self.path.unlink(missing_ok=True)
        end = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        end.bind(os.fspath(self.path))
        end.listen(8)
        return self.now()

    def now(self) -> Endpoint:
        return Endpoint(self.path, made=made(self.path))

    def connect(self, endpoint: Endpoint, now: float) -> bool:
        """Connect, and leave at once; whether the socket was put back."""
        descriptor, put_back = self.place.open(endpoint, now)
        os.close(descriptor)
        return put_back


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[Vm]:
    with ExitStack() as stack:
        yield Vm(tmp_path, stack)


def test_a_channel_is_news_once_and_again_when_it_is_another(vm: Vm) -> None:
    first = vm.start()
    domain = Domain(3, NO_UUID, "vm")
    there, rebooted = first._replace(domain=domain), first._replace(domain=domain._replace(domid=4))
    looks: list[Endpoint | Nowhere] = [OFF, first, first, there, rebooted, OFF, OFF, first]
    assert [vm.place.found(look, 0.0) for look in looks] == [
        News.NONE, News.SEEN, News.NONE, News.WHOSE, News.SEEN, News.GONE, News.NONE, News.SEEN,
    ]  # fmt: skip
    assert vm.place.found(vm.start(), 0.0) is News.SEEN


def test_a_channel_that_is_reached_before_it_is_looked_at_is_news_once(vm: Vm) -> None:
    announced = Endpoint(vm.path, made=NOT_THERE)
    assert vm.place.found(announced, 0.0) is News.NONE
    there = vm.start()
    vm.connect(announced, 0.1)
    assert [vm.place.is_first_met(announced), vm.place.is_first_met(announced)] == [True, False]
    assert vm.place.found(there, 0.2) is News.NONE
    assert vm.place.found(vm.start(), 0.3) is News.SEEN


def test_a_domain_without_a_channel_is_news_only_once_it_has_had_time_to_be_given_one(vm: Vm) -> None:
    told = []
    looks = ((0.0, OFF), (20.0, CLAIMED), (29.9, CLAIMED), (30.0, CLAIMED), (31.0, OFF), (41.0, CLAIMED), (50.0, CLAIMED))
    for at, look in looks:
        vm.place.found(look, at)
        told.append(vm.place.is_nowhere(at))
    assert told == [False, False, False, True, False, False, False]


def test_a_socket_is_missing_once_it_has_been_gone_for_a_while(vm: Vm) -> None:
    there = vm.start()
    gone = there._replace(made=NOT_THERE)
    assert [vm.place.found(gone, at) for at in (10.0, 10.9, 11.0, 12.0)] == [News.NONE, News.NONE, News.MISSING, News.NONE]
    assert vm.place.is_missing(12.0)
    assert vm.place.found(there, 13.0) is News.SEEN
    assert not vm.place.is_missing(13.0)
    assert [vm.place.found(gone, at) for at in (20.0, 21.0)] == [News.NONE, News.MISSING]


def test_a_stream_is_left_for_another_socket_and_not_for_the_same_one_with_more_known_of_it(vm: Vm) -> None:
    first = vm.start()
    vm.place.found(first, 0.0)
    assert not vm.connect(first, 0.0)
    vm.place.found(first._replace(domain=Domain(3, NO_UUID, "vm")), 1.0)
    assert vm.place.stale(1.0, live=False) == ""
    vm.place.found(vm.start(), 2.0)
    for live in (True, False):
        assert "another socket" in vm.place.stale(2.0, live=live)


def test_a_live_stream_outlives_its_path_and_a_silent_one_does_not(vm: Vm) -> None:
    first = vm.start()
    vm.place.found(first, 0.0)
    vm.connect(first, 0.0)
    vm.place.found(OFF, 1.0)
    assert (vm.place.stale(1.0, live=True), vm.place.stale(1.0, live=False)) == ("", OFF.why)
    for now in (2.0, 2.5):
        vm.place.found(first._replace(made=NOT_THERE), now)
        assert vm.place.stale(now, live=False) == ""
    vm.place.found(first._replace(made=NOT_THERE), 3.0)
    assert vm.place.stale(3.0, live=True) == ""
    assert "its socket is gone" in vm.place.stale(3.0, live=False)


def test_a_stream_to_what_two_claim_is_left(vm: Vm) -> None:
    first = vm.start()
    vm.place.found(first, 0.0)
    vm.connect(first, 0.0)
    vm.place.found(CLAIMED, 1.0)
    assert vm.place.stale(1.0, live=True) == CLAIMED.why


def test_what_two_claim_is_kept_for_the_one_that_is_left(vm: Vm) -> None:
    """The order of a migration within one host: the new socket comes and goes while two domains have the uuid."""
    vm.place.found(vm.start(), 0.0)
    second = vm.start()
    vm.place.found(CLAIMED._replace(claimed=(second, second)), 1.0)
    vm.path.unlink()
    gone = second._replace(made=NOT_THERE)
    for now in (2.0, 3.0):
        vm.place.found(gone, now)
    assert vm.connect(gone, 3.0)
    assert vm.now() == second


def test_the_path_of_a_stream_is_put_back_only_once_it_is_missing(vm: Vm) -> None:
    first = vm.start()
    vm.place.found(first, 0.0)
    vm.connect(first, 0.0)
    vm.path.unlink()
    gone = first._replace(made=NOT_THERE)
    vm.place.found(gone, 1.0)
    assert not vm.place.mend(1.5)
    vm.place.found(gone, 2.0)
    assert vm.place.mend(2.0)
    assert vm.now() == first
    assert not vm.place.mend(2.0)


def test_forgetting_it_leaves_nothing_beside_the_socket(vm: Vm) -> None:
    vm.place.found(vm.start(), 0.0)
    assert links(vm.path)[0].is_socket()
    vm.place.forget()
    assert list(vm.path.parent.iterdir()) == [vm.path]


def test_a_pty_is_told_apart_by_its_domain_and_gets_no_link(vm: Vm) -> None:
    pty = Endpoint(vm.path.parent / "7", is_pty=True, made=3, domain=Domain(3, NO_UUID, "vm"))
    assert vm.place.found(pty, 0.0) is News.SEEN
    assert vm.place.found(pty._replace(made=4), 0.0) is News.SEEN
    assert list(vm.path.parent.iterdir()) == []
