# SPDX-License-Identifier: Apache-2.0
"""`push` without --socket: the channel is found by the document's uuid in xenstore, or it is said why not."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest

from host_agent.channels.discovery import Discovery
from host_agent.channels.find_channel import find
from host_agent.errors import HostError
from pv_channel import CHANNEL_NAME
from pv_channel.greeting import NO_UUID
from tests.host.fake_xenstored import Channel, FakeXenstored
from tests.host.fakes import FakeGuest, FakeQemu
from tests.host.talk import UUID, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from host_agent.channels.endpoint import Endpoint

TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"


@pytest.fixture
def xen(tmp_path: Path) -> Iterator[FakeXenstored]:
    with FakeXenstored(tmp_path / "xenstored") as made:
        yield made


def found(path: Path, uuid: bytes = UUID) -> Endpoint:
    return asyncio.run(find(wanted(uuid=uuid), CHANNEL_NAME, partial(Discovery, paths=[path])))


def trouble(path: Path, uuid: bytes = UUID) -> str:
    with pytest.raises(HostError) as caught:
        found(path, uuid)
    assert "--socket PATH" in str(caught.value)
    return str(caught.value)


def test_the_channel_of_the_domain_with_that_uuid_is_found(xen: FakeXenstored) -> None:
    xen.create(3, "other", channels=[Channel(CHANNEL_NAME, "/run/pv-channel/other.sock")])
    channels = [Channel("org.example.unused", tty="/dev/pts/1"), Channel(CHANNEL_NAME, "/run/pv-channel/vm.sock")]
    xen.create(7, "vm", TEXT, channels, 4711)
    endpoint = found(xen.path)
    assert str(endpoint.path) == "/run/pv-channel/vm.sock"
    assert endpoint.domain is not None
    assert (endpoint.domain.domid, endpoint.domain.device_model) == (7, 4711)


def test_each_reason_for_finding_none_has_its_sentence(xen: FakeXenstored, tmp_path: Path) -> None:
    assert "not a Xen dom0" in trouble(tmp_path / "nowhere")
    assert "the document names no VM: add 'uuid:' to it, or say --uuid UUID" in trouble(xen.path, NO_UUID)
    assert f"no running domain has uuid {TEXT}: start the VM" in trouble(xen.path)
    xen.create(7, "vm", TEXT, [Channel("org.example.unused", tty="/dev/pts/1")])
    assert f"domain vm (7) runs without a channel {CHANNEL_NAME}" in trouble(xen.path)
    assert "drops the first 'channel=' entry" in trouble(xen.path)
    xen.create(8, "copy", TEXT, [Channel(CHANNEL_NAME, "/run/pv-channel/vm.sock")])
    assert f"2 running domains have uuid {TEXT}: vm (7), copy (8)" in trouble(xen.path)


def test_a_push_finds_its_vm_by_itself(xen: FakeXenstored, tmp_path: Path) -> None:
    path, document = tmp_path / "somewhere.sock", tmp_path / "web1.yaml"
    document.write_text(f"instance-id: i-1\nuuid: {TEXT}\nlocal-hostname: web1\n")
    guest = FakeGuest(uuid=UUID)
    words = ["push", "--json", "--timeout", "60", "--state", str(tmp_path / "state"), str(document)]
    environment = {**os.environ, "XENSTORED_PATH": str(xen.path)}

    def push() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([sys.executable, "-m", "host_agent", *words], env=environment, capture_output=True, timeout=120)

    done = push()
    assert (done.returncode, done.stdout) == (1, b"")
    assert f"no running domain has uuid {TEXT}".encode() in done.stderr
    xen.create(7, "vm", TEXT, [Channel(CHANNEL_NAME, str(path))])
    with FakeQemu(path, guest):
        done = push()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["vm"] == "web1"
    assert len(guest.applied) == 1
