# SPDX-License-Identifier: Apache-2.0
"""What is refused here is what real QEMUs refuse, in their words; what is read from a uri here is what they read from it.

What is known to end a QEMU is sent to none (`DEADLY` lists it).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from host_agent.qemu import migration_uri
from host_agent.qemu.migration_address import BadChannel, FileMigrationArgs, InetSocketAddress, UnixSocketAddress
from host_agent.qemu.migration_channel import (
    MigMode,
    check_incoming,
    check_outgoing,
    downgrade,
    from_arguments,
    from_json,
    from_uri,
    to_json,
)
from tests.qemu.machines import START_SECONDS
from tests.qemu.monitor import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.qemu.conftest import Start
    from tests.qemu.machines import Qemu
    from tests.qemu.monitor import Monitor

INET = {"transport": "socket", "type": "inet", "host": "127.0.0.1", "port": "0"}
UNIX = {"transport": "socket", "type": "unix", "path": "/nonexistent/vm.sock"}
FILE = {"transport": "file", "filename": "/nonexistent/vm.state", "offset": 0}


def without(member: str, addr: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in addr.items() if name != member}


def main(addr: object) -> dict[str, object]:
    return {"channel-type": "main", "addr": addr}


def cpr(addr: object) -> dict[str, object]:
    return {"channel-type": "cpr", "addr": addr}


#: Arguments of `migrate` that QEMU 10 refuses.
REFUSED: list[dict[str, Any]] = [
    {},
    {"uri": "tcp:127.0.0.1:1", "channels": [main(INET)]},
    {"channels": []},
    {"channels": [main(INET), main(INET)]},
    {"channels": [main(INET), cpr(UNIX), cpr(UNIX)]},
    {"channels": "tcp:"},
    {"channels": {}},
    {"channels": [5]},
    {"channels": [{"addr": INET}]},
    {"channels": [{"channel-type": "main"}]},
    {"channels": [{"channel-type": "side", "addr": INET}]},
    {"channels": [{**main(INET), "more": 1}]},
    {"uri": 5},
    {"uri": "nope:1"},
    {"uri": ""},
    {"uri": "defer"},
    {"uri": "tcp:127.0.0.1"},
    {"uri": "tcp::"},
    {"uri": "tcp:[::1"},
    {"uri": "tcp:[]:1"},
    {"uri": "tcp:127.0.0.1:0,to=x"},
    {"uri": "tcp:127.0.0.1:0,ipv4=x"},
    {"uri": "unix:"},
    {"uri": "vsock:1"},
    {"uri": "vsock:1:2,x"},
    {"uri": "fd:"},
    {"uri": "file:/tmp/vm,offset="},
    {"uri": "file:/tmp/vm,offset=x"},
    {"uri": "file:/tmp/vm,offset=1.5"},
    {"uri": "file:/tmp/vm,offset=0x1k"},
    {"uri": "file:/tmp/vm,offset=5,offset=7"},
    *(
        {"channels": [main(addr)]}
        for addr in (
            "tcp:",
            {},
            {"transport": "pigeon"},
            {"transport": 5},
            {"transport": "socket"},
            {"transport": "socket", "type": "ipx"},
            without("port", INET),
            {**INET, "port": 5},
            {**INET, "ipv4": "on"},
            {**INET, "ipv4": None},
            {**INET, "to": "9"},
            {**INET, "to": 1.5},
            {**INET, "to": True},
            {**INET, "to": 65536},
            {**INET, "to": -1},
            {**INET, "more": 1},
            {"transport": "socket", "type": "fd", "str": ""},
            {"transport": "exec", "args": "/bin/cat"},
            {"transport": "exec", "args": ["/bin/cat", 1]},
            {"transport": "rdma", "host": "", "port": "1"},
            without("offset", FILE),
            {**FILE, "offset": "0x1000"},
            {**FILE, "offset": 1.0},
            {**FILE, "offset": None},
            {**FILE, "offset": 2**64},
        )
    ),
]

#: Those that QEMU 10 takes, and fails at after it has answered that all is well.
FAILED_LATER: list[dict[str, Any]] = [
    {**INET, "host": ""},
    {**UNIX, "path": ""},
    {**INET, "ipv4": False, "ipv6": False},
    {**UNIX, "path": 109 * "x"},
    {**UNIX, "path": 108 * "x", "abstract": True},
    {"transport": "socket", "type": "vsock", "cid": "host", "port": "1"},
    {"transport": "socket", "type": "vsock", "cid": "2", "port": "4294967296"},
]

#: Those that end QEMU 10 at once, with the VM in it: abort, SIGSEGV, or a free() of what was never allocated.
DEADLY: list[dict[str, Any]] = [
    {"channels": [cpr(UNIX)]},
    {"channels": [main({"transport": "exec", "args": []})]},
    {"uri": "rdma:"},
    {"uri": "rdma:nonsense"},
]


def refusal(arguments: dict[str, Any], mode: MigMode = MigMode.NORMAL) -> str:
    """Why these arguments are not sent."""
    with pytest.raises(BadChannel) as refused:
        check_outgoing(from_arguments(arguments), mode)
    return str(refused.value)


@pytest.fixture
def new(start: Start, qemu10: Qemu) -> Iterator[Monitor]:
    """The monitor of a QEMU 10 whose VM has not moved."""
    with start(qemu10, "-machine", "none").monitor() as monitor:
        yield monitor


def test_what_qemu_refuses_is_refused_before_in_its_words(new: Monitor) -> None:
    for arguments in REFUSED:
        with pytest.raises(Refused) as refused:
            new.execute("migrate", **arguments)
        said = refused.value.desc.removeprefix("RDMA ERROR: ")
        assert said in refusal(arguments), arguments
    assert new.execute("query-migrate").get("status", "none") in ("none", "failed")


@pytest.mark.parametrize("addr", FAILED_LATER, ids=str)
def test_what_qemu_would_find_out_too_late_is_refused_before_in_its_words(new: Monitor, addr: dict[str, Any]) -> None:
    arguments = {"channels": [main(addr)]}
    assert new.execute("migrate", **arguments) == {}
    # The resolver's own reason is the machine's.
    assert failure(new).removesuffix(": Name or service not known").removesuffix(": Connection refused") in refusal(arguments)


@pytest.mark.parametrize("offset", [-1, 2**63, 2**64 - 1])
def test_an_offset_that_no_file_has_is_refused_in_qemus_words(new: Monitor, tmp_path: Path, offset: int) -> None:
    arguments = {"channels": [main({"transport": "file", "filename": str(tmp_path / "vm.state"), "offset": offset})]}
    with pytest.raises(Refused) as refused:
        new.execute("migrate", **arguments)
    assert refused.value.desc in refusal(arguments)


@pytest.mark.parametrize("arguments", DEADLY, ids=str)
def test_what_ends_a_qemu_is_never_sent(arguments: dict[str, Any]) -> None:
    assert refusal(arguments, MigMode.NORMAL)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"uri": "tcp:127.0.0.1:0", "channels": [main(INET)]},
        {"channels": [main(INET), main(INET)]},
        {"channels": [main(INET), cpr(UNIX)]},
        {"channels": [main({**INET, "port": 5})]},
        {"uri": "nope:1"},
    ],
    ids=str,
)
def test_what_an_incoming_qemu_refuses_is_refused_before_in_its_words(
    start: Start, qemu10: Qemu, arguments: dict[str, Any]
) -> None:
    with start(qemu10, "-incoming", "defer").monitor() as monitor, pytest.raises(Refused) as theirs:
        monitor.execute("migrate-incoming", **arguments)
    with pytest.raises(BadChannel) as ours:
        check_incoming(from_arguments(arguments))
    assert theirs.value.desc in str(ours.value)


def test_an_incoming_qemu_would_take_a_cpr_channel_for_the_main_one(start: Start, qemu10: Qemu) -> None:
    channels = [cpr(INET)]
    with start(qemu10, "-incoming", "defer").monitor() as monitor:
        assert monitor.execute("migrate-incoming", channels=channels) == {}
    with pytest.raises(BadChannel, match="Channel list has no main entry"):
        check_incoming(from_json(channels))


def test_cpr_transfer_wants_both_channels_and_a_unix_socket(start: Start, qemu10: Qemu) -> None:
    shared = ("-object", "memory-backend-memfd,id=m,size=32M,share=on", "-machine", "pc,aux-ram-share=on,memory-backend=m")
    with start(qemu10, *shared).monitor() as monitor:
        monitor.execute("migrate-set-parameters", mode="cpr-transfer")
        for channels in ([main(INET)], [main(INET), cpr(INET)], [main(INET), cpr(FILE)]):
            with pytest.raises(Refused) as refused:
                monitor.execute("migrate", channels=channels)
            assert refused.value.desc in refusal({"channels": channels}, MigMode.CPR_TRANSFER)


def test_the_modes_and_types_that_qemu_has_are_known_here(new: Monitor) -> None:
    schema = {each["name"]: each for each in new.execute("query-qmp-schema")}
    enumerations = [{one["name"] for one in each["members"]} for each in schema.values() if each["meta-type"] == "enum"]
    assert {"main", "cpr"} in enumerations
    modes = next(each for each in enumerations if "cpr-reboot" in each)
    assert modes <= {each.value for each in MigMode}


def test_qemu_7_knows_no_channels(start: Start, qemu7: Qemu) -> None:
    with start(qemu7, "-machine", "none").monitor() as monitor:
        for arguments, words in (
            ({"channels": [main(INET)]}, "Parameter 'uri' is missing"),
            ({"channels": [main(INET)], "uri": "tcp:127.0.0.1:1"}, "Parameter 'channels' is unexpected"),
            ({"uri": "file:/tmp/vm.state"}, "Parameter 'uri' expects a valid migration protocol"),
        ):
            with pytest.raises(Refused) as refused:
                monitor.execute("migrate", **arguments)
            assert refused.value.desc == words
    with pytest.raises(BadChannel, match="none that takes no channels knows file:"):
        downgrade(from_uri("file:/tmp/vm.state"))


# Uris: where an incoming QEMU listens is what it has read.


@pytest.mark.parametrize(
    "uri",
    [
        "tcp:127.0.0.1:0",
        "tcp:[127.0.0.1]:0",
        "tcp:localhost:0,ipv4",
        "tcp:localhost:0,ipv4=on,ipv6=off,keep-alive=off",
        "tcp::0,ipv4=on",
        "tcp:[::1]:0",
        "tcp:[::1]:0,ipv6",
        "unix:vm.sock",
        "unix:vm.sock,offset=3",
        "unix:a:b",
    ],
)
def test_a_uri_is_read_as_qemu_reads_it(start: Start, qemu: Qemu, uri: str) -> None:
    address = migration_uri.read(uri)
    heard = listens_at(start, qemu, {"uri": uri})
    assert len(heard) == 1
    if isinstance(address, UnixSocketAddress):
        assert heard == [{"type": "unix", "path": address.path}]
    else:
        assert isinstance(address, InetSocketAddress)
        assert heard[0]["host"] == {"localhost": "127.0.0.1", "": "0.0.0.0"}.get(address.host, address.host)
    if qemu.version >= 10:
        assert without("port", listens_at(start, qemu, {"channels": to_json(from_uri(uri))})[0]) == without("port", heard[0])


def test_a_uri_says_the_last_port_that_may_be_tried(start: Start, qemu: Qemu) -> None:
    first = int(listens_at(start, qemu, {"uri": "tcp:127.0.0.1:0"})[0]["port"])
    uri = f"tcp:127.0.0.1:{first},to={min(first + 20, 65535)}"
    ports = {
        int(listens_at(start, qemu, {"uri": each})[0]["port"]) for each in (uri, migration_uri.written(migration_uri.read(uri)))
    }
    assert len(ports) == 2
    assert all(first <= port <= first + 20 for port in ports)


def test_qemu_7_would_take_such_a_host_for_another_form(start: Start, qemu7: Qemu, qemu10: Qemu) -> None:
    assert listens_at(start, qemu7, {"uri": "tcp:unix:vm.sock"}) == [{"type": "unix", "path": "vm.sock"}]
    with pytest.raises(BadChannel, match=r"QEMU 7\.2 would read another address from this"):
        migration_uri.read("tcp:unix:vm.sock")
    brackets = migration_uri.written(InetSocketAddress("unix", "1"))
    for qemu in (qemu7, qemu10):
        with pytest.raises(Refused, match="address resolution failed for unix:1: "):
            listens_at(start, qemu, {"uri": brackets})


def test_qemu_would_not_say_that_it_overlooks_an_option(start: Start, qemu: Qemu) -> None:
    for option in ("nonsense=3", "numeric"):
        assert listens_at(start, qemu, {"uri": f"tcp:127.0.0.1:0,{option}"})
        with pytest.raises(BadChannel, match="QEMU would not say so"):
            migration_uri.read(f"tcp:127.0.0.1:0,{option}")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("vsock:1:2", "Failed to bind socket: Cannot assign requested address"),
        ("fd:nope", "File descriptor named 'nope' has not been found"),
    ],
)
def test_a_uri_of_what_is_not_here_is_read_as_qemu_reads_it(start: Start, qemu: Qemu, uri: str, words: str) -> None:
    told: list[dict[str, Any]] = [{"uri": uri}]
    told += [{"channels": to_json(from_uri(uri))}] if qemu.version >= 10 else []
    for arguments in told:
        with pytest.raises(Refused) as refused:
            listens_at(start, qemu, arguments)
        assert refused.value.desc == words


@pytest.mark.parametrize("name", ["said", "a, b"])
def test_a_command_is_the_same_by_uri_and_by_channels(start: Start, qemu: Qemu, tmp_path: Path, name: str) -> None:
    channels = from_uri(f"exec:cat >'{name}'")
    told: list[dict[str, Any]] = [{"uri": downgrade(channels)}]
    told += [{"channels": to_json(channels)}] if qemu.version >= 10 else []
    for arguments in told:
        with start(qemu).monitor() as monitor:
            monitor.execute("migrate", **arguments)
            assert failure(monitor) == ""
        assert (tmp_path / name).read_bytes().startswith(b"QEVM")
        (tmp_path / name).unlink()


@pytest.mark.parametrize("size", ["0", "0x1000", "1.5k", "1K", "7B", "3", "0.5M"])
def test_an_offset_in_a_uri_is_where_qemu_begins(start: Start, qemu10: Qemu, tmp_path: Path, size: str) -> None:
    address = migration_uri.read(f"file:vm.state,offset={size}")
    assert isinstance(address, FileMigrationArgs)
    with start(qemu10).monitor() as monitor:
        monitor.execute("migrate", uri=f"file:vm.state,offset={size}")
        assert failure(monitor) == ""
    written = (tmp_path / "vm.state").read_bytes()
    assert written[: address.offset] == bytes(address.offset)
    assert written[address.offset :].startswith(b"QEVM")


def listens_at(start: Start, qemu: Qemu, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Where an incoming QEMU listens when it is told these."""
    with start(qemu, "-incoming", "defer").monitor() as monitor:
        monitor.execute("migrate-incoming", **arguments)
        heard: list[dict[str, Any]] = monitor.execute("query-migrate").get("socket-address", [])
    return heard


def failure(monitor: Monitor) -> str:
    """Why a migration failed, once it has ended; or nothing."""
    deadline = time.monotonic() + START_SECONDS
    while (info := monitor.execute("query-migrate"))["status"] not in ("completed", "failed"):
        assert time.monotonic() < deadline, info
        time.sleep(0.01)
    return str(info.get("error-desc", "")) if info["status"] == "failed" else ""
