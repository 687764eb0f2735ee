# SPDX-License-Identifier: Apache-2.0
"""The life of a VM's channel as `serve` follows it: through reboots, migrations, dead QEMUs and other people's programs."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from host_agent.channels import kept_links
from pv_channel import CHANNEL_NAME
from tests.host.dom0 import Dom0, eventually, hostnames
from tests.host.fake_xenstored import Channel, FakeXenstored
from tests.host.fakes import FakeGuest, FakePty, FakeQemu

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UUID = "00010203-0405-0607-0809-0a0b0c0d0e0f"
OTHER = "10111213-1415-1617-1819-1a1b1c1d1e1f"
RAW = bytes(range(16))


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    return Dom0(tmp_path)


@pytest.fixture
def xen(dom0: Dom0) -> Iterator[FakeXenstored]:
    """A xenstore that the service follows."""
    dom0.with_xen()
    with FakeXenstored(dom0.xenstored) as made:
        yield made


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def ours(dom0: Dom0, name: str = "vm.sock") -> Channel:
    return Channel(CHANNEL_NAME, str(dom0.sockets / name))


def test_a_domain_is_found_by_its_uuid_and_its_channel_served_whatever_they_are_called(dom0: Dom0, xen: FakeXenstored) -> None:
    guest, others = FakeGuest(uuid=RAW), FakeGuest()
    dom0.document("anything", "web1", uuid=UUID)
    agent = Channel("org.qemu.guest_agent.0", str(dom0.sockets / "anything.sock"))

    xen.create(7, "vm", UUID, [agent, ours(dom0)])

    async def story() -> None:
        await eventually(lambda: dom0.stands(UUID, "ready"), "ready")
        assert hostnames(guest) == ["web1"]
        assert dom0.vm(UUID)["domid"] == 7
        assert dom0.vm(UUID)["channel"] == str(dom0.sockets / "vm.sock")
        xen.destroy(7)
        qemu.cut()
        await eventually(lambda: dom0.vm(UUID)["domid"] is None, "gone")

    with FakeQemu(dom0.sockets / "vm.sock", guest) as qemu, FakeQemu(dom0.sockets / "anything.sock", others) as left_alone:
        dom0.serve(story)
    assert left_alone.accepted == 0


def test_a_reboot_is_a_new_domain_behind_a_new_socket_and_applies_nothing_twice(dom0: Dom0, xen: FakeXenstored) -> None:
    guest = FakeGuest(uuid=RAW)
    dom0.document("vm", "web1", uuid=UUID)

    async def story() -> None:
        xen.create(7, "vm", UUID, [ours(dom0)])
        with FakeQemu(dom0.sockets / "vm.sock", guest):
            await eventually(lambda: dom0.stands(UUID, "ready"), "ready")
        xen.destroy(7)
        await eventually(lambda: dom0.stands(UUID, "unreachable", "no running domain"), "off")
        guest.restart()
        xen.create(8, "vm", UUID, [ours(dom0)])
        with FakeQemu(dom0.sockets / "vm.sock", guest):
            await eventually(lambda: dom0.stands(UUID, "ready") and dom0.vm(UUID)["domid"] == 8, "ready again")

    dom0.serve(story)
    assert hostnames(guest) == ["web1"]


def test_a_migration_within_the_host_whose_old_qemu_removes_the_new_ones_socket_is_followed(
    dom0: Dom0, xen: FakeXenstored, stack: ExitStack
) -> None:
    """Both domains have one uuid, both QEMUs one path; the order of things is that of a real `xl migrate` to localhost."""
    guest = FakeGuest(uuid=RAW)
    dom0.document("vm", "web1", uuid=UUID)
    path = dom0.sockets / "vm.sock"

    async def story() -> None:
        xen.create(7, "vm", UUID, [ours(dom0)])
        old = stack.enter_context(FakeQemu(path, guest))
        await eventually(lambda: dom0.stands(UUID, "ready"), "ready")
        xen.create(8, "vm--incoming", UUID, [ours(dom0)])
        stack.enter_context(FakeQemu(path, guest))
        await eventually(lambda: dom0.stands(UUID, "unreachable", "2 running domains have uuid", "vm--incoming (8)"), "both")
        link = kept_links.links(path)[0]
        await eventually(lambda: link.exists() and link.stat().st_ino == path.stat().st_ino, "the new socket's second link")
        guest.restart()
        old.__exit__()  # which removes the path
        assert not path.exists()
        xen.destroy(7)
        await eventually(lambda: dom0.stands(UUID, "ready") and dom0.vm(UUID)["domid"] == 8, "ready at its new domain")
        assert path.is_socket()

    dom0.serve(story)
    assert hostnames(guest) == ["web1"]
    assert any("it was put back" in event["what"] for event in dom0.vm(UUID)["events"])


def test_a_path_that_vanishes_under_a_live_session_is_put_back_and_the_session_goes_on(dom0: Dom0) -> None:
    guest = FakeGuest()
    dom0.document("vm", "web1")
    path = dom0.sockets / "vm.sock"

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm", "ready"), "ready")
        path.unlink()
        await eventually(path.is_socket, "put back")
        dom0.document("vm", "web2")
        await eventually(lambda: hostnames(guest) == ["web1", "web2"], "the session goes on")
        assert qemu.accepted == 1

    with FakeQemu(path, guest) as qemu:
        dom0.serve(story)


def test_a_service_that_starts_after_the_path_was_removed_finds_the_socket_by_its_second_link(dom0: Dom0) -> None:
    guest = FakeGuest()
    dom0.document("vm", "web1")
    path = dom0.sockets / "vm.sock"

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm", "ready"), "ready")

    with FakeQemu(path, guest):
        kept_links.keep(path)
        path.unlink()
        dom0.serve(story)
        assert path.is_socket()


def test_a_socket_that_is_replaced_while_connected_is_left_for_the_new_one(dom0: Dom0, stack: ExitStack) -> None:
    """The old QEMU hangs: it neither answers nor closes."""
    guest = FakeGuest()
    dom0.document("vm", "web1")
    path = dom0.sockets / "vm.sock"

    async def story() -> None:
        stack.enter_context(FakeQemu(path, None))
        await eventually(lambda: dom0.stands("vm", "unreachable", "QEMU does not read"), "connected to the one that hangs")
        stack.enter_context(FakeQemu(path, guest))
        await eventually(lambda: dom0.stands("vm", "ready"), "ready at the new one")

    dom0.serve(story)


def test_behind_another_client_it_waits_in_the_queue_with_one_greeting_and_is_served_when_that_leaves(dom0: Dom0) -> None:
    guest = FakeGuest()
    dom0.document("vm", "web1")
    path = dom0.sockets / "vm.sock"

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm", "unreachable", "another program holds the channel"), "queued")
        await asyncio.sleep(0.5)
        assert guest.end.counters.garbage == 0
        first.close()
        await eventually(lambda: dom0.stands("vm", "ready"), "served")

    with FakeQemu(path, guest) as qemu:
        first = socket.socket(socket.AF_UNIX)
        first.connect(os.fspath(path))
        asyncio.run(eventually(lambda: qemu.accepted == 1, "the first client"))
        dom0.serve(story)


def test_a_guest_that_never_answers_is_told_from_a_qemu_that_does_not_read(dom0: Dom0) -> None:
    class Deaf(FakeGuest):
        def receive(self, data: bytes) -> bytes:
            return b"\nlogin: \n"

    dom0.document("vm", "web1")

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm", "greeting", "no guest has answered for 0.5 s", "a getty?"), "what came")

    with FakeQemu(dom0.sockets / "vm.sock", Deaf()):
        dom0.serve(story)


def test_a_dead_qemus_file_and_a_link_in_its_place_each_have_their_sentence(dom0: Dom0, caplog: pytest.LogCaptureFixture) -> None:
    dom0.document("vm", "web1")
    path = dom0.sockets / "vm.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm", "unreachable", "its QEMU is gone and left the file"), "dead")
        path.unlink()
        path.symlink_to("/run/docker.sock")
        await eventually(lambda: dom0.stands("vm", "unreachable", "a symbolic link", "nothing was sent to it"), "squatted")
        audit = dom0.vm("vm")["audit"]
        assert len(audit) == 1
        assert audit[0]["who"] == "pv-host-agent serve"
        assert "a symbolic link" in audit[0]["what"]

    dom0.serve(story)
    assert [record.levelname for record in caplog.records if "a symbolic link" in record.message] == ["ERROR"]


def test_a_pty_channel_is_served_like_a_socket(dom0: Dom0, xen: FakeXenstored) -> None:
    dom0.document("vm", "web1", uuid=UUID)

    async def story() -> None:
        xen.create(7, "vm", UUID, [Channel(CHANNEL_NAME, tty=terminal.path)], os.getpid())
        await eventually(lambda: dom0.stands(UUID, "ready"), "ready")
        assert dom0.vm(UUID)["channel"] == terminal.path

    with FakePty(FakeGuest(uuid=RAW)) as terminal:
        dom0.serve(story)


def test_libvirts_directory_is_looked_at_without_being_asked_for(dom0: Dom0) -> None:
    guest, others = FakeGuest(), FakeGuest()
    dom0.document("vm", "web1")
    dom0.libvirts.mkdir(mode=0o700)

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm", "ready"), "ready")

    with (
        FakeQemu(dom0.libvirts / f"vm-{CHANNEL_NAME}", guest),
        FakeQemu(dom0.libvirts / "vm-org.qemu.guest_agent.0", others) as left_alone,
    ):
        dom0.serve(story)
    assert left_alone.accepted == 0


def test_two_domains_of_one_name_are_both_left_alone(dom0: Dom0, xen: FakeXenstored) -> None:
    dom0.document("vm", "web1")
    xen.create(7, "vm", UUID, [ours(dom0)])
    xen.create(8, "vm", OTHER, [ours(dom0, "vm2.sock")])

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm", "unreachable", "2 running domains have the name vm: vm (7), vm (8)"), "told")

    with FakeQemu(dom0.sockets / "vm.sock", FakeGuest()) as one, FakeQemu(dom0.sockets / "vm2.sock", FakeGuest()) as two:
        dom0.serve(story)
    assert one.accepted + two.accepted == 0


def test_without_xen_it_says_one_line_and_serves_the_directories(dom0: Dom0, caplog: pytest.LogCaptureFixture) -> None:
    dom0.with_xen()
    guest = FakeGuest()
    dom0.document("vm", "web1")

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm", "ready"), "ready")

    with FakeQemu(dom0.sockets / "vm.sock", guest):
        dom0.serve(story)
    assert len([record for record in caplog.records if "xenstore" in record.message]) == 1


def test_a_xenstored_that_is_gone_for_a_while_ends_no_session(dom0: Dom0, xen: FakeXenstored) -> None:
    guest = FakeGuest(uuid=RAW)
    dom0.document("vm", "web1", uuid=UUID)
    xen.create(7, "vm", UUID, [ours(dom0)])

    async def story() -> None:
        await eventually(lambda: dom0.stands(UUID, "ready"), "ready")
        xen.cut()
        await asyncio.sleep(0.3)
        dom0.document("vm", "web2", uuid=UUID)
        await eventually(lambda: hostnames(guest) == ["web1", "web2"], "still served")
        assert qemu.accepted == 1

    with FakeQemu(dom0.sockets / "vm.sock", guest) as qemu:
        dom0.serve(story)


def test_the_second_links_of_a_vm_that_is_not_served_any_more_are_removed(dom0: Dom0) -> None:
    guest = FakeGuest()
    dom0.document("vm", "web1")
    path = dom0.sockets / "vm.sock"

    async def story() -> None:
        await eventually(lambda: dom0.stands("vm", "ready"), "ready")
        assert kept_links.links(path)[0].is_socket()
        (dom0.documents / "vm.yaml").unlink()
        await eventually(lambda: dom0.stands("vm", "removed"), "removed")
        assert [each.name for each in dom0.sockets.iterdir()] == ["vm.sock"]

    with FakeQemu(path, guest):
        dom0.serve(story)
