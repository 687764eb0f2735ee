# SPDX-License-Identifier: Apache-2.0
"""`serve`: documents and sockets that come, change and go, with fake QEMUs; the same code as the daemon, in this process."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

import pytest

from host_agent.at_start import check_directories
from host_agent.errors import BadFile, LedgerTrouble
from host_agent.ledger.ledger import Ledger
from host_agent.talk.intake import BURST_BYTES
from pv_channel.messages import Confirm, Provision, Reject, Unconfirmed
from tests.host.dom0 import Dom0, eventually, hostnames
from tests.host.fakes import FakeGuest, FakeQemu

if TYPE_CHECKING:
    import selectors
    import socket
    from pathlib import Path

    from pv_channel.messages import HostMessage
    from pv_channel.session import Guest


class FloodingQemu(FakeQemu):
    """Sends ten megabytes without a newline to whoever connects, as fast as they are taken."""

    sent = 0

    def _serve(self, client: socket.socket, selector: selectors.BaseSelector) -> None:
        client.settimeout(0.5)
        while not self._stop.is_set() and self.sent < 10_000_000:
            try:
                self.sent += client.send(b"x" * 65536)
            except TimeoutError:
                continue
            except OSError:  # the host has left
                return
        self._stop.wait()


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    return Dom0(tmp_path)


def test_a_document_and_its_changes_reach_the_guest(dom0: Dom0) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")

    async def story() -> None:
        await eventually(lambda: hostnames(guest) == ["web1"], "the first document")
        dom0.document("vm1", "web2")
        await eventually(lambda: hostnames(guest) == ["web1", "web2"], "the second")
        await eventually(lambda: dom0.vm("vm1").get("generation-applied") == 2, "the ledger")

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.serve(story)
    assert dom0.vm("vm1")["state"] == "ready"


def test_a_bad_file_leaves_the_good_one_in_force_and_is_shown(dom0: Dom0, caplog: pytest.LogCaptureFixture) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")

    async def story() -> None:
        await eventually(lambda: hostnames(guest) == ["web1"], "the first document")
        dom0.document("vm1", "'web1; reboot'")
        await eventually(lambda: bool(dom0.vm("vm1").get("document-error")), "the error")
        assert "vm1.yaml:2:17: local-hostname" in dom0.vm("vm1")["document-error"]
        qemu.cut()
        await eventually(lambda: guest.pinged > 0, "the guest asked again after a new connection")
        dom0.document("vm1", "web3")
        await eventually(lambda: hostnames(guest) == ["web1", "web3"], "the mended document")

    with FakeQemu(dom0.sockets / "vm1.sock", guest) as qemu, caplog.at_level(logging.ERROR):
        dom0.serve(story)
    assert caplog.text.count("local-hostname") == 1
    assert dom0.vm("vm1")["document-error"] == ""


def test_a_socket_may_come_late_vanish_and_come_back(dom0: Dom0) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")

    async def story() -> None:
        await eventually(lambda: dom0.vm("vm1").get("state") == "unreachable", "no socket")
        assert "no such socket" in dom0.vm("vm1")["detail"]
        with FakeQemu(dom0.sockets / "vm1", guest):
            await eventually(lambda: hostnames(guest) == ["web1"], "the late socket")
        await eventually(lambda: dom0.vm("vm1")["state"] == "unreachable", "gone")
        guest.restart()
        dom0.document("vm1", "web2")
        with FakeQemu(dom0.sockets / "vm1.sock", guest):
            await eventually(lambda: hostnames(guest) == ["web1", "web2"], "the socket that came back")

    dom0.serve(story)


def test_a_connection_cut_before_the_result_applies_nothing_twice(dom0: Dom0) -> None:
    guest = FakeGuest()
    guest.answer = lambda message, end: None
    dom0.document("vm1", "web1")

    async def story() -> None:
        await eventually(lambda: dom0.vm("vm1").get("state") == "provisioning", "under way")
        guest.answer = guest.comply
        guest.restart()
        qemu.cut()
        await eventually(lambda: dom0.vm("vm1")["state"] == "ready", "resumed")
        assert [document.generation for document in guest.applied] == [1]

    with FakeQemu(dom0.sockets / "vm1.sock", guest) as qemu:
        dom0.serve(story)


def test_one_vm_floods_and_the_other_is_served(dom0: Dom0) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")

    async def story() -> None:
        await eventually(lambda: flood.sent >= BURST_BYTES, "the flood")
        dom0.document("vm2", "web2")
        await eventually(lambda: hostnames(guest) == ["web2"], "the quiet VM")

    with FloodingQemu(dom0.sockets / "vm1.sock", None) as flood, FakeQemu(dom0.sockets / "vm2.sock", guest):
        dom0.serve(story)
    assert dom0.vm("vm1")["state"] == "greeting"


def test_a_changed_key_marks_the_vm_and_forget_key_resolves_it_while_serving(
    dom0: Dom0, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = FakeGuest(), FakeGuest()
    dom0.document("vm1", "web1")

    async def story() -> None:
        with FakeQemu(dom0.sockets / "vm1.sock", first):
            await eventually(lambda: hostnames(first) == ["web1"], "the first guest")
        with FakeQemu(dom0.sockets / "vm1.sock", second):
            await eventually(lambda: dom0.vm("vm1")["state"] == "key-changed", "the mark")
            await asyncio.sleep(0.5)
            assert second.applied == []
            other = Ledger.open(dom0.state)
            assert other.forget_key("vm1")
            other.close()
            await eventually(lambda: hostnames(second) == ["web1"], "resolved")

    dom0.serve(story)
    assert caplog.text.count("the guest's key changed") == 1


def test_a_document_that_is_removed_leaves_the_vm_alone(dom0: Dom0) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")

    async def story() -> None:
        await eventually(lambda: hostnames(guest) == ["web1"], "served")
        (dom0.documents / "vm1.yaml").unlink()
        await eventually(lambda: dom0.vm("vm1")["state"] == "removed", "removed")
        dom0.document("vm1", "web2")
        await eventually(lambda: hostnames(guest) == ["web1", "web2"], "and served again")

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.serve(story)


def test_two_documents_for_one_uuid_are_not_both_served(dom0: Dom0) -> None:
    uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    dom0.document("vm1", "web1", uuid=uuid)

    async def story() -> None:
        await eventually(lambda: dom0.vm("vm1").get("key") == uuid, "the first")
        dom0.document("vm2", "web2", uuid=uuid)
        await eventually(lambda: "has a document already" in dom0.vm("vm2").get("document-error", ""), "the second is refused")

    dom0.serve(story)


class LedgerOnAFullDisk(Ledger):
    """Says of every commit what SQLite says of a full disk, for as long as it is."""

    full = True

    def commit(self) -> None:
        if LedgerOnAFullDisk.full and self._db.in_transaction:
            raise LedgerTrouble("ledger: database or disk is full")
        super().commit()


def test_a_ledger_that_cannot_be_written_sends_nothing(dom0: Dom0) -> None:
    guest = FakeGuest()
    dom0.ledger = LedgerOnAFullDisk
    dom0.document("vm1", "web1")

    async def story() -> None:
        await asyncio.sleep(0.5)
        assert guest.applied == []
        LedgerOnAFullDisk.full = False
        await eventually(lambda: hostnames(guest) == ["web1"], "served once there is room")

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.serve(story)


def test_sighup_looks_at_once_and_many_vms_are_held(dom0: Dom0) -> None:
    for number in range(200):
        dom0.document(f"vm{number}", "web")

    async def story() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: dom0.vm("vm199").get("state") == "unreachable", "all looked at")

    dom0.serve(story)


def test_a_directory_of_sockets_that_cannot_be_read_is_complained_of_once_and_ends_nothing(
    dom0: Dom0, caplog: pytest.LogCaptureFixture
) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")

    async def story() -> None:
        await eventually(lambda: hostnames(guest) == ["web1"], "served")
        aside = dom0.sockets.rename(dom0.sockets.with_name("aside"))
        await eventually(lambda: "what was read before stays in force" in caplog.text, "the complaint")
        dom0.document("vm1", "web2")
        await eventually(lambda: hostnames(guest) == ["web1", "web2"], "the session goes on, documents are read")
        aside.rename(dom0.sockets)
        assert qemu.accepted == 1

    with FakeQemu(dom0.sockets / "vm1.sock", guest) as qemu:
        dom0.serve(story)
    assert caplog.text.count(f"{dom0.sockets}: No such file or directory") == 1


def test_a_directory_that_everybody_may_write_to_is_refused(dom0: Dom0) -> None:
    check_directories([dom0.documents, dom0.sockets])
    dom0.documents.chmod(0o777)
    with pytest.raises(BadFile, match="everybody may write there; cure: chmod"):
        check_directories([dom0.documents, dom0.sockets])
    with pytest.raises(BadFile, match="cure: mkdir"):
        check_directories([dom0.sockets, dom0.state / "nowhere"])


def test_a_slow_check_of_one_vm_delays_no_other_and_decides_over_its_own(dom0: Dom0, tmp_path: Path) -> None:
    slow, quick = FakeGuest(), FakeGuest()
    go_on = tmp_path / "go-on"
    words: list[HostMessage] = []
    held: list[Provision] = []

    def wait_for_a_word(message: HostMessage, end: Guest) -> None:
        if isinstance(message, Provision):
            held.append(message)
            end.send(Unconfirmed(1, 60, []))
        elif isinstance(message, Confirm | Reject):
            words.append(message)
            slow.apply(held[0])
            end.send(slow.result(held[0]))
        slow.pong(message, end)

    slow.answer = wait_for_a_word
    script = f"until [ -e {go_on} ]; do sleep 0.1; done"
    dom0.document("slow", "web1", confirm=f"{{check: command, command: [/bin/sh, -c, '{script}']}}")
    dom0.document("quick", "web2")

    async def story() -> None:
        await eventually(lambda: "waiting for the command" in dom0.vm("slow").get("detail", ""), "the question")
        await eventually(lambda: hostnames(quick) == ["web2"], "the other VM")
        dom0.document("quick", "web3")
        await eventually(lambda: hostnames(quick) == ["web2", "web3"], "the other VM's next")
        assert words == []
        go_on.touch()
        await eventually(lambda: dom0.vm("slow").get("generation-applied") == 1, "the verdict")

    with FakeQemu(dom0.sockets / "slow.sock", slow), FakeQemu(dom0.sockets / "quick.sock", quick):
        dom0.serve(story)
    assert words == [Confirm(1)]
    events = [event["what"] for event in dom0.vm("slow")["events"]]
    assert any("the network has changed" in event for event in events)
    assert any("the changed network is confirmed" in event for event in events)
