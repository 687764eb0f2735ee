# SPDX-License-Identifier: Apache-2.0
"""The two agents over a relay that misbehaves: rings that fill, sockets that vanish, processes that die, other people's bytes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import msgspec

from lab.relay import TO_HOST_RING
from pv_channel import CHANNEL_NAME
from pv_channel.greeting import NO_UUID
from pv_channel.messages import Ping, Provision
from pv_channel.noise import KeyPair
from pv_channel.session import Host
from pv_channel.states import State
from pv_channel.transport import GUEST_IN_FLIGHT_BYTES
from tests.pair.conftest import DEADLINE_SECONDS, eventually, snapshot

if TYPE_CHECKING:
    from tests.pair.conftest import Stage


def test_behind_a_backend_that_stops_reading_a_guest_never_fills_its_ring(stage: Stage) -> None:
    """A host that goes on asking, a relay that takes nothing out of the ring: at 2,048 bytes a real guest's vCPU would hang."""
    stage.start_guest()
    key = KeyPair.generate()
    host = Host(channel=CHANNEL_NAME.encode(), uuid=NO_UUID, key=key, random_bytes=os.urandom)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(stage.relay.path))
        shake_hands(host, client)
        stage.relay.stop_reading()
        highest = 0
        # Well under the window of the host's side, so that nothing but the guest's own restraint holds the answers back.
        for question in range(400):
            host.send(Ping(question))
        host.send(Provision(msgspec.Raw(b'{"instance-id": "i-1", "generation": "hostile"}')))
        client.sendall(host.data_to_send())
        greeter = Host(channel=CHANNEL_NAME.encode(), uuid=NO_UUID, key=key, random_bytes=os.urandom)
        for _ in range(200):
            greeter.greet()
            client.sendall(greeter.data_to_send())
            highest = max(highest, stage.relay.in_ring)
            time.sleep(0.005)
        eventually(lambda: stage.relay.in_ring > GUEST_IN_FLIGHT_BYTES // 2, "the guest said nothing at all")
        time.sleep(1)
        highest = max(highest, stage.relay.in_ring)
        assert highest <= GUEST_IN_FLIGHT_BYTES < TO_HOST_RING
        stage.relay.read_again()
        shake_hands(greeter, client)


def shake_hands(host: Host, client: socket.socket) -> None:
    """Greet until the guest answers."""
    client.settimeout(1)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while host.state is not State.SEALED:
        assert time.monotonic() < deadline, "the guest never answered"
        host.greet()
        client.sendall(host.data_to_send())
        with contextlib.suppress(TimeoutError):
            host.receive(client.recv(65536))
            client.sendall(host.data_to_send())


def test_a_guest_killed_and_started_again_goes_on(stage: Stage, web1: str) -> None:
    first = stage.start_guest()
    assert stage.push(web1)[0] == 0
    first.kill()
    first.wait()
    stage.relay.cook()
    stage.start_guest()
    status, result = stage.push(web1)
    assert (status, result["outcome"]) == (0, "unchanged")
    assert stage.push(web1.replace("web1", "web2"))[0] == 0
    assert stage.read("etc/hostname") == "web2\n"


def test_a_service_outlives_a_socket_that_vanishes_and_comes_back(stage: Stage, web1: str) -> None:
    stage.start_guest()
    service = stage.serve(web1)
    eventually(lambda: stage.read("etc/hostname") == "web1\n", "the guest never became web1")
    stage.relay.vanish()
    time.sleep(0.5)
    stage.write_document(web1.replace("web1", "web3"))
    time.sleep(1.5)
    assert stage.read("etc/hostname") == "web1\n"
    stage.relay.listen()
    eventually(lambda: stage.read("etc/hostname") == "web3\n", "the service never came back to the socket")
    stage.relay.vanish(leave_file=True)
    time.sleep(0.5)
    stage.relay.listen()
    stage.write_document(web1.replace("web1", "web4"))
    eventually(lambda: stage.read("etc/hostname") == "web4\n", "the service never came back after a killed backend")
    service.send_signal(signal.SIGTERM)
    assert service.wait(10) == 0


def test_a_service_killed_in_mid_life_is_followed_by_one_that_applies_nothing_twice(stage: Stage, web1: str) -> None:
    stage.start_guest()
    first = stage.serve(web1)
    keys = stage.root / "home/alice/.ssh/authorized_keys"
    eventually(keys.exists, "the guest never became web1")
    first.kill()
    first.wait()
    written = (stage.root / "etc/hostname").stat().st_mtime_ns
    stage.serve()
    stage.write_document(web1.replace("alice@example.org", "alice@example.com"))
    eventually(lambda: "alice@example.com" in keys.read_text(), "the second service never reached the guest")
    assert (stage.root / "etc/hostname").stat().st_mtime_ns == written


def test_a_host_whose_ledger_is_gone_learns_from_the_guest_and_nothing_is_applied_again(stage: Stage, web1: str) -> None:
    stage.start_guest()
    _, first = stage.push(web1)
    before = snapshot(stage.root)
    for path in (stage.work / "host").glob("ledger.sqlite*"):
        path.unlink()
    status, result = stage.push(web1)
    assert (status, result["outcome"], result["generation"]) == (0, "unchanged", 1)
    assert [item["item"] for item in result["items"]] == [item["item"] for item in first["items"]]
    assert result["host-keys"] == first["host-keys"] != []
    assert snapshot(stage.root) == before


def test_other_peoples_bytes_before_the_session_do_no_harm(stage: Stage, web1: str) -> None:
    """What a modem manager, a getty or an old session leaves in the channel, both ways."""
    stage.start_guest()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(stage.relay.path))
        client.sendall(b"AT\r\nATI1\r\nlogin: root\r\n\x1b[2J> ........ half a greeting")
    time.sleep(0.3)
    fd = os.open(stage.relay.tty, os.O_RDWR | os.O_NOCTTY)
    os.write(fd, b"\r\nDebian GNU/Linux 12 template hvc1\r\n\r\ntemplate login: < stale")
    os.close(fd)
    status, result = stage.push(web1)
    assert status == 0, (result, stage.log("push.log"))


def test_a_second_client_waits_and_is_served_when_the_first_leaves(stage: Stage, web1: str) -> None:
    stage.start_guest()
    blocker = socket.socket(socket.AF_UNIX)
    blocker.connect(os.fspath(stage.relay.path))
    time.sleep(0.3)
    status, result = stage.push(web1, timeout=3)
    assert status == 1
    assert stage.read("etc/hostname") == "template\n"
    blocker.close()
    status, result = stage.push(web1)
    assert status == 0, (result, stage.log("push.log"))


def test_a_guest_that_pinned_another_host_refuses_and_nothing_is_configured(stage: Stage, web1: str) -> None:
    stage.start_guest()
    assert stage.push(web1)[0] == 0
    (stage.work / "host").rename(stage.work / "first-host")
    status, result = stage.push(web1.replace("web1", "evil"), timeout=5)
    assert status == 1
    assert "evil" not in stage.read("etc/hostname")
    assert "SHA256:" in stage.log("guest.log")
    assert result["outcome"] != "applied"


def test_a_guest_with_a_new_key_gets_nothing_until_the_operator_says_so(stage: Stage, web1: str) -> None:
    first = stage.start_guest()
    assert stage.push(web1)[0] == 0
    first.kill()
    first.wait()
    (stage.root / "var/lib/pv-guest-agent/identity.key").unlink()
    stage.start_guest()
    status, _ = stage.push(web1.replace("web1", "web2"), timeout=5)
    assert status == 1
    assert stage.read("etc/hostname") == "web1\n"
