# SPDX-License-Identifier: Apache-2.0
"""Metrics: what they say of a fleet, as a file and over HTTP, and what whoever asks for them cannot do to the service."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import stat
from typing import TYPE_CHECKING, Any, Final

import pytest

from host_agent.__main__ import main
from host_agent.errors import BadFile, HostError, LedgerTrouble
from host_agent.ledger.census import OfOne
from host_agent.ledger.ledger import Ledger
from host_agent.metrics import endpoint, text_file
from host_agent.metrics.loopback import address, bind
from host_agent.metrics.of_vms import of_each_vm
from tests.host.dom0 import eventually, hostnames
from tests.host.fakes import FakeGuest, FakeQemu
from tests.host.measured import Measured, Values, values

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.ledger.census import Group

#: Any port that is free.
ANY: Final = address("127.0.0.1:0")
GET: Final = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def dom0(tmp_path: Path) -> Measured:
    return Measured(tmp_path)


async def where(caplog: pytest.LogCaptureFixture) -> int:
    """The port, once it is listened to."""
    await eventually(lambda: "metrics are at" in caplog.text, "the address")
    return int(re.findall(r"metrics are at http://127\.0\.0\.1:(\d+)/metrics", caplog.text)[0])


async def ask(port: int, request: bytes) -> bytes:
    """What comes back until the other end closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def test_what_happens_to_a_vm_is_counted(dom0: Measured) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")
    dom0.document("vm2", "web2")
    dom0.document("vm3", "'web3; reboot'")

    async def story() -> None:
        await eventually(lambda: hostnames(guest) == ["web1"], "the document")
        await eventually(lambda: dom0.read().get("pv_host_agent_documents standing=applied") == 1, "in the file")
        seen.update(dom0.read())

    seen: Values = {}
    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.measure(story)
    counted = {
        "vms state=ready": 1, "vms state=unreachable": 1, "vms state=bad-document": 1, "vms state=greeting": 0,
        "documents standing=pending": 1, "documents standing=failed": 1, "document_errors": 1,
        "handshakes_total guest=new": 1, "handshakes_total guest=known": 0, "refusals_total reason=key-changed": 0,
        "refusals_total reason=host-key": 0, "documents_sent_total": 1, "answers_total outcome=applied": 1,
        "answers_total outcome=failed": 0, "streams": 1, "streams_opened_total": 1, "ledger_up": 1,
        "ledger_commit_failures_total": 0, "dropped_lines_total reason=garbage": 0, "log_lines_total level=error": 1,
    }  # fmt: skip
    assert {name: seen[f"pv_host_agent_{name}"] for name in counted} == counted
    for grown in ("received_bytes_total", "sent_bytes_total", "ledger_commit_seconds_count", "ledger_size_bytes", "open_fds",
                  "max_fds", "resident_memory_bytes", "cpu_seconds_total", "start_time_seconds",
                  "oldest_pending_timestamp_seconds reachable=no"):  # fmt: skip
        assert seen[f"pv_host_agent_{grown}"] > 0, grown


def test_a_stream_that_is_not_our_protocol_and_a_guest_that_is_another_are_counted(dom0: Measured) -> None:
    first, second = FakeGuest(), FakeGuest()
    dom0.document("vm1", "web1")

    async def story() -> None:
        with FakeQemu(dom0.sockets / "vm1.sock", first):
            await eventually(lambda: hostnames(first) == ["web1"], "the first guest")
        with FakeQemu(dom0.sockets / "vm1.sock", second):
            await eventually(lambda: dom0.read().get("pv_host_agent_refusals_total reason=key-changed", 0) >= 1, "the refusal")
        (dom0.sockets / "vm1.sock").unlink(missing_ok=True)
        (dom0.sockets / "vm1.sock").touch()
        failed = "pv_host_agent_stream_failures_total reason=no-socket"
        await eventually(lambda: dom0.read().get(failed, 0) >= 1, "the failure")
        assert dom0.read()["pv_host_agent_vms state=key-changed"] == 1

    dom0.measure(story)


def test_the_file_is_for_all_to_read_and_gone_at_the_end(dom0: Measured) -> None:
    async def story() -> None:
        await eventually(dom0.file.exists, "the file")
        assert stat.S_IMODE(dom0.file.stat().st_mode) == 0o644
        assert dom0.file.read_bytes().endswith(b"\n")

    dom0.measure(story)
    assert not dom0.file.exists()
    assert [path.name for path in dom0.file.parent.iterdir() if "prom" in path.name] == []


def test_a_file_that_cannot_be_written_is_said_once_and_stops_nothing(dom0: Measured, caplog: pytest.LogCaptureFixture) -> None:
    guest = FakeGuest()
    directory = dom0.file.parent / "collector"
    directory.mkdir()
    dom0.file = directory / "pv.prom"

    async def story() -> None:
        await eventually(dom0.file.exists, "the file")
        directory.rename(directory.with_name("away"))
        await eventually(lambda: "cannot be written there" in caplog.text, "the complaint")
        dom0.document("vm1", "web1")
        await eventually(lambda: hostnames(guest) == ["web1"], "served all the same")
        directory.with_name("away").rename(directory)
        (dom0.file).unlink()
        await eventually(dom0.file.exists, "the file once more")

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.measure(story)
    assert caplog.text.count("cannot be written there") == 1


def test_the_page_is_served_over_http_and_nothing_else_is(dom0: Measured, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        port = await where(caplog)
        head, _, body = (await ask(port, GET)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"Content-Type: text/plain; version=" in head
        assert values(body)["pv_host_agent_ledger_up"] == 1
        answer = await ask(port, b"HEAD /metrics?name=x HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"\r\n\r\n")
        for request, status in (
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
            (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405),
            (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
            (b"GET /metrics HTTP/1.1\r\n" + b"x: y\r\n" * 5000, 431),
        ):
            assert (await ask(port, request)).startswith(f"HTTP/1.1 {status} ".encode()), request[:40]

    with caplog.at_level(logging.INFO):
        dom0.measure(story, listen=ANY)


def test_clients_that_say_nothing_are_bounded_and_delay_neither_vms_nor_the_end(
    dom0: Measured, caplog: pytest.LogCaptureFixture
) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")

    silent: list[socket.socket] = []

    async def turned_away(port: int) -> bool:
        try:
            return await ask(port, GET) == b""
        except ConnectionError:
            return True

    async def story() -> None:
        port = await where(caplog)
        silent.extend(socket.create_connection(("127.0.0.1", port)) for _ in range(endpoint.MAX_CLIENTS))
        while not await turned_away(port):  # all of the others are not met yet
            await asyncio.sleep(0.01)
        await eventually(lambda: hostnames(guest) == ["web1"], "the VM is served")
        silent.pop().close()
        while await turned_away(port):
            await asyncio.sleep(0.01)

    with FakeQemu(dom0.sockets / "vm1.sock", guest), caplog.at_level(logging.INFO):
        dom0.measure(story, listen=ANY)
    for client in silent:
        client.close()


def test_every_vm_is_measured_only_where_that_is_asked_for(dom0: Measured) -> None:
    guest = FakeGuest()
    dom0.document("vm1", "web1")
    one = "pv_host_agent_vm_document key=vm1 standing=applied vm=vm1"

    async def story() -> None:
        await eventually(lambda: dom0.read().get(one) == 1, "the VM")
        assert dom0.read()["pv_host_agent_vm_generation_applied key=vm1 vm=vm1"] == 1
        assert dom0.read()["pv_host_agent_vm_handshakes key=vm1 vm=vm1"] == 1

    async def without() -> None:
        await eventually(lambda: dom0.read().get("pv_host_agent_vms state=unreachable") == 1, "the VM among others")
        assert b"vm1" not in dom0.file.read_bytes()

    with FakeQemu(dom0.sockets / "vm1.sock", guest):
        dom0.measure(story, per_vm=True)
    dom0.measure(without)


def test_there_are_as_many_series_for_200_vms_as_for_one(dom0: Measured) -> None:
    sizes = []
    for count in (1, 200):
        for number in range(count):
            dom0.document(f"vm{number}", "web")

        async def story(count: int = count) -> None:
            await eventually(lambda: dom0.read().get("pv_host_agent_vms state=unreachable") == count, "all of them")
            sizes.append(len(dom0.read()))

        dom0.measure(story)
    assert sizes[0] == sizes[1]


def test_whatever_a_vm_is_called_the_page_can_be_read() -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    name = 'web"1\\\n\x1b[2J# HELP x'

    class One:
        def collect(self) -> Any:
            return of_each_vm([OfOne("key", name, "ready", 1, 2, 3, 4.0)])

    registry = CollectorRegistry()
    registry.register(One())
    text = generate_latest(registry)
    assert b"\x1b" not in text
    assert len(values(text)) == 5


class LedgerThatIsNotRead(Ledger):
    """Says of every question what SQLite says of a damaged file."""

    def census(self) -> list[Group]:
        raise LedgerTrouble("ledger: database disk image is malformed")


def test_a_ledger_that_cannot_be_read_leaves_the_rest_of_the_page(dom0: Measured) -> None:
    dom0.ledger = LedgerThatIsNotRead

    async def story() -> None:
        await eventually(lambda: dom0.read().get("pv_host_agent_streams") == 0, "the rest")
        assert "pv_host_agent_vms state=ready" not in dom0.read()

    dom0.measure(story)


@pytest.mark.parametrize("text", ["127.0.0.1:9999", "127.1.2.3:1", "[::1]:9999", "127.0.0.1:0"])
def test_an_address_of_this_host_alone_is_taken(text: str) -> None:
    assert str(address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:9999", "[::]:9999", "192.0.2.1:9999", "localhost:9999", "9999", "127.0.0.1", "::1:9999", "127.0.0.1:65536",
     "127.0.0.1:-1", "127.0.0.1:\u0661", "[127.0.0.1]:1", "[::ffff:192.0.2.1]:1", "[::1%lo]:1x", "", ":"],
)  # fmt: skip
def test_any_other_address_is_refused_with_a_sentence(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--state", str(tmp_path), f"--metrics-listen={text}"])
    assert "127.0.0.1:PORT or [::1]:PORT" in capsys.readouterr().err


def test_a_port_that_somebody_has_is_an_error_with_a_cure() -> None:
    said = "Address already in use; cure: another port"
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(HostError, match=said):
        bind(address(f"127.0.0.1:{taken.getsockname()[1]}"))


def test_a_place_where_no_file_can_be_is_an_error_with_a_cure(tmp_path: Path) -> None:
    text_file.check(tmp_path / "pv.prom")
    with pytest.raises(BadFile, match=r"no other files than \*\.prom; cure: --metrics-file .*pv\.txt\.prom"):
        text_file.check(tmp_path / "pv.txt")
    with pytest.raises(BadFile, match="no such directory; cure: mkdir"):
        text_file.check(tmp_path / "nowhere/pv.prom")
