# SPDX-License-Identifier: Apache-2.0
"""Migration channels: read from QMP's JSON and from uris, written as both, and refused where QEMU would refuse them or worse."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.errors import HostError
from host_agent.qemu.migration_address import (
    BadChannel,
    FdSocketAddress,
    FileMigrationArgs,
    InetSocketAddress,
    MigrationExecCommand,
    RdmaAddress,
    UnixSocketAddress,
    VsockSocketAddress,
)
from host_agent.qemu.migration_channel import (
    MigMode,
    MigrationChannel,
    MigrationChannelType,
    check_incoming,
    check_outgoing,
    downgrade,
    from_arguments,
    from_json,
    to_json,
)
from tests.host.migration_addresses import ANY_ADDRESS

if TYPE_CHECKING:
    from host_agent.qemu.migration_address import MigrationAddress

TCP = InetSocketAddress("192.0.2.7", "4444")
UNIX = UnixSocketAddress("/run/vm.sock")


def main(addr: MigrationAddress = TCP) -> MigrationChannel:
    return MigrationChannel(MigrationChannelType.MAIN, addr)


def cpr(addr: MigrationAddress = UNIX) -> MigrationChannel:
    return MigrationChannel(MigrationChannelType.CPR, addr)


# The members of an address.

#: QMP's JSON, and the value that it is.
ADDRESSES: list[tuple[dict[str, object], MigrationAddress]] = [
    ({"transport": "socket", "type": "inet", "host": "192.0.2.7", "port": "4444"}, TCP),
    (
        {
            "transport": "socket",
            "type": "inet",
            "host": "::1",
            "port": "0",
            "numeric": True,
            "to": 65535,
            "ipv4": False,
            "ipv6": True,
            "keep-alive": True,
            "mptcp": False,
        },
        InetSocketAddress("::1", "0", numeric=True, to=65535, ipv4=False, ipv6=True, keep_alive=True, mptcp=False),
    ),
    ({"transport": "socket", "type": "unix", "path": "/run/vm.sock"}, UNIX),
    (
        {"transport": "socket", "type": "unix", "path": "vm", "abstract": True, "tight": False},
        UnixSocketAddress("vm", abstract=True, tight=False),
    ),
    ({"transport": "socket", "type": "vsock", "cid": "2", "port": "4294967295"}, VsockSocketAddress("2", "4294967295")),
    ({"transport": "socket", "type": "fd", "str": "migration"}, FdSocketAddress("migration")),
    ({"transport": "exec", "args": ["/bin/cat", "a b", ""]}, MigrationExecCommand(("/bin/cat", "a b", ""))),
    ({"transport": "rdma", "host": "192.0.2.7", "port": "4444", "ipv4": True}, RdmaAddress("192.0.2.7", "4444", ipv4=True)),
    ({"transport": "file", "filename": "/var/vm.state", "offset": 4096}, FileMigrationArgs("/var/vm.state", 4096)),
]


@pytest.mark.parametrize(("said", "address"), ADDRESSES)
def test_an_address_is_the_one_of_qmps_json(said: dict[str, object], address: MigrationAddress) -> None:
    channels = [{"channel-type": "main", "addr": said}]
    assert from_json(channels) == (main(address),)
    assert to_json([main(address)]) == channels


@given(ANY_ADDRESS)
def test_no_address_is_changed_by_a_way_through_json(address: MigrationAddress) -> None:
    assert from_json(to_json([main(address)])) == (main(address),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(st.sampled_from(["channel-type", "addr", "transport", "type", "host", "port", "x"]), each, max_size=4)
    ),
)


@given(JSON)
def test_whatever_json_is_given_it_is_channels_or_refused(value: object) -> None:
    try:
        channels = from_json(value)
    except BadChannel as refused:
        words = str(refused)
    else:
        words = ""
        assert to_json(channels) == value
    assert not words or words.isprintable()


# What is refused, and in which words. That they are QEMU's is shown in tests/qemu.


def inet(**changed: object) -> dict[str, object]:
    members = {"transport": "socket", "type": "inet", "host": "192.0.2.7", "port": "4444", **changed}
    return {name: value for name, value in members.items() if value is not ...}


def unix(path: str, **more: object) -> dict[str, object]:
    return {"transport": "socket", "type": "unix", "path": path, **more}


def vsock(cid: str, port: str) -> dict[str, object]:
    return {"transport": "socket", "type": "vsock", "cid": cid, "port": port}


def in_file(**changed: object) -> dict[str, object]:
    members = {"transport": "file", "filename": "/var/vm.state", "offset": 0, **changed}
    return {name: value for name, value in members.items() if value is not ...}


@pytest.mark.parametrize(
    ("addr", "words"),
    [
        (inet(transport=...), "Parameter 'channels[0].addr.transport' is missing"),
        (inet(transport=5), "Invalid parameter type for 'channels[0].addr.transport', expected: string"),
        (inet(transport="pigeon"), "channels[0].addr: Parameter 'transport' does not accept value 'pigeon'"),
        (inet(type=...), "Parameter 'channels[0].addr.type' is missing"),
        (inet(type="ipx"), "channels[0].addr: Parameter 'type' does not accept value 'ipx'"),
        (inet(port=...), "Parameter 'channels[0].addr.port' is missing"),
        (inet(port=4444), "Invalid parameter type for 'channels[0].addr.port', expected: string"),
        (inet(ipv4="on"), "Invalid parameter type for 'channels[0].addr.ipv4', expected: boolean"),
        (inet(ipv4=None), "Invalid parameter type for 'channels[0].addr.ipv4', expected: boolean"),
        (inet(to="9"), "Parameter 'channels[0].addr.to' expects uint64"),
        (inet(to=True), "Parameter 'channels[0].addr.to' expects uint64"),
        (inet(to=65536), "channels[0].addr: Parameter 'to' expects uint16_t"),
        (inet(to=-1), "channels[0].addr: Parameter 'to' expects uint16_t"),
        (inet(ipv4=False, ipv6=False), "channels[0].addr: Cannot disable IPv4 and IPv6 at same time"),
        (inet(hots="x"), "Parameter 'channels[0].addr.hots' is unexpected"),
        (inet(**{"a\x1b[31m": 1}), "Parameter 'channels[0].addr.a\\x1b[31m' is unexpected"),
        (inet(host="a\0b"), "channels[0].addr: 'host' has a NUL in it, which no address can have"),
        (inet(host="\ud800"), "channels[0].addr: 'host' is not Unicode text"),
        ("tcp:192.0.2.7:4444", "Invalid parameter type for 'channels[0].addr', expected: object"),
        (unix(109 * "x"), f"channels[0].addr: UNIX socket path '{109 * 'x'}' is too long"),
        (unix(108 * "x", abstract=True), f"channels[0].addr: UNIX socket path '{108 * 'x'}' is too long"),
        (vsock("host", "1"), "channels[0].addr: Failed to parse cid 'host'"),
        (vsock("2", "\N{ARABIC-INDIC DIGIT THREE}"), "channels[0].addr: Failed to parse port '\\u0663'"),
        (vsock("2", "4294967296"), "channels[0].addr: Failed to parse port '4294967296'"),
        ({"transport": "socket", "type": "fd", "str": ""}, "channels[0].addr: File descriptor named '' has not been found"),
        ({"transport": "exec", "args": "/bin/cat"}, "Invalid parameter type for 'channels[0].addr.args', expected: array"),
        (
            {"transport": "exec", "args": ["/bin/cat", 1]},
            "Invalid parameter type for 'channels[0].addr.args[1]', expected: string",
        ),
        (
            {"transport": "exec", "args": []},
            "channels[0].addr: 'args' is empty: QEMU 10 aborts at that; cure: the path of a program, and its arguments",
        ),
        ({"transport": "rdma", "host": "", "port": "1"}, "channels[0].addr: RDMA hostname has not been set"),
        (in_file(offset=...), "Parameter 'channels[0].addr.offset' is missing"),
        (in_file(offset="0x1000"), "Parameter 'channels[0].addr.offset' expects uint64"),
        (in_file(offset=4096.0), "Parameter 'channels[0].addr.offset' expects uint64"),
        (in_file(offset=2**64), "Parameter 'channels[0].addr.offset' expects uint64"),
        (in_file(offset=-1), "channels[0].addr: failed to truncate migration file to offset ffffffffffffffff: Invalid argument"),
        (
            in_file(offset=2**63),
            "channels[0].addr: failed to truncate migration file to offset 8000000000000000: Invalid argument",
        ),
        (in_file(filename=""), "channels[0].addr: Could not open '': No such file or directory"),
    ],
)
def test_an_address_that_is_none_is_refused_with_its_place(addr: object, words: str) -> None:
    with pytest.raises(HostError) as refused:
        from_json([{"channel-type": "main", "addr": addr}])
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        ("tcp:", "Invalid parameter type for 'channels', expected: array"),
        ({}, "Invalid parameter type for 'channels', expected: array"),
        ([5], "Invalid parameter type for 'channels[0]', expected: object"),
        ([{"addr": inet()}], "Parameter 'channels[0].channel-type' is missing"),
        ([{"channel-type": "main"}], "Parameter 'channels[0].addr' is missing"),
        ([{"channel-type": "side", "addr": inet()}], "channels[0]: Parameter 'channel-type' does not accept value 'side'"),
        ([{"channel-type": "main", "addr": inet(), "uri": ""}], "Parameter 'channels[0].uri' is unexpected"),
        (
            [{"channel-type": "main", "addr": inet()}, {"channel-type": "cpr", "addr": inet(port=1)}],
            "Invalid parameter type for 'channels[1].addr.port', expected: string",
        ),
    ],
)
def test_a_list_of_channels_that_is_none_is_refused_with_its_place(channels: object, words: str) -> None:
    with pytest.raises(BadChannel) as refused:
        from_json(channels)
    assert str(refused.value) == words


def test_arguments_are_a_uri_or_channels() -> None:
    channels = [{"channel-type": "main", "addr": inet()}]
    assert from_arguments({"channels": channels}) == from_arguments({"uri": "tcp:192.0.2.7:4444"}) == (main(),)
    neithers: list[object] = [{}, {"uri": "tcp:192.0.2.7:4444", "channels": channels}, {"channels": []}]
    for neither in neithers:
        with pytest.raises(BadChannel, match=r"^need either 'uri' or 'channels' argument$"):
            from_arguments(neither)
    with pytest.raises(BadChannel, match=r"^Parameter 'url' is unexpected$"):
        from_arguments({"url": "tcp:192.0.2.7:4444"})
    with pytest.raises(BadChannel, match=r"^Invalid parameter type for 'uri', expected: string$"):
        from_arguments({"uri": 5})


# Which channels there may be together.


@pytest.mark.parametrize(
    ("channels", "mode", "words"),
    [
        ([], MigMode.NORMAL, "need either 'uri' or 'channels' argument"),
        ([main(), main()], MigMode.NORMAL, "Channel list has more than one main entry: channels[0] and channels[1]"),
        ([main(), cpr(), cpr()], MigMode.CPR_TRANSFER, "Channel list has more than one cpr entry: channels[1] and channels[2]"),
        ([cpr()], MigMode.CPR_TRANSFER, "Channel list has no main entry, which crashes QEMU 10"),
        ([cpr()], MigMode.NORMAL, "Channel list has no main entry, which crashes QEMU 10"),
        ([main()], MigMode.CPR_TRANSFER, "missing 'cpr' migration channel"),
        ([main(), cpr()], MigMode.NORMAL, "channels[1]: a cpr channel is for mode cpr-transfer alone"),
        (
            [main(InetSocketAddress("", "4444"))],
            MigMode.NORMAL,
            "channels[0].addr: address resolution failed for :4444; cure: a host",
        ),
        ([main(UnixSocketAddress(""))], MigMode.NORMAL, "channels[0].addr: Failed to connect to ''; cure: the path of a socket"),
        ([main(), cpr(TCP)], MigMode.CPR_TRANSFER, "channels[1].addr: bad cpr channel address; must be unix"),
    ],
)
def test_what_migrate_must_not_be_told(channels: list[MigrationChannel], mode: MigMode, words: str) -> None:
    with pytest.raises(BadChannel) as refused:
        check_outgoing(channels, mode)
    assert str(refused.value).startswith(words)


def test_what_migrate_may_be_told() -> None:
    for mode in (MigMode.NORMAL, MigMode.CPR_REBOOT, MigMode.CPR_EXEC):
        check_outgoing([main()], mode)
    check_outgoing([cpr(), main()], MigMode.CPR_TRANSFER)


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        ([], "need either 'uri' or 'channels' argument"),
        ([main(), cpr()], "Channel list must have only one entry, for type 'main'"),
        ([main(), main()], "Channel list must have only one entry, for type 'main'"),
        ([cpr()], "channels[0]: Channel list has no main entry"),
    ],
)
def test_what_migrate_incoming_must_not_be_told(channels: list[MigrationChannel], words: str) -> None:
    check_incoming([main()])
    with pytest.raises(BadChannel) as refused:
        check_incoming(channels)
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (InetSocketAddress("192.0.2.7", "1", numeric=True), "no uri can say of an address that it is numeric"),
        (InetSocketAddress("a,b", "1"), "no uri can say the host 'a,b' and the port '1'"),
        (InetSocketAddress("a]b:", "1"), "no uri can say the host 'a]b:' and the port '1'"),
        (InetSocketAddress("web1", ""), "no uri can say the host 'web1' and the port ''"),
        (InetSocketAddress("web1", "1,ipv4"), "no uri can say the host 'web1' and the port '1,ipv4'"),
        (UnixSocketAddress("vm", abstract=True), "no uri can say of a unix socket that it is abstract"),
        (UnixSocketAddress(""), "no uri can leave a unix socket's path to QEMU"),
        (MigrationExecCommand(("cat",)), "no uri can name a program of QEMU's own directory, as cat is; cure: its whole path"),
    ],
)
def test_a_qemu_without_channels_is_told_nothing_that_means_less(address: MigrationAddress, words: str) -> None:
    with pytest.raises(BadChannel) as refused:
        downgrade([main(address)])
    assert str(refused.value) == f"this QEMU takes a uri and no channels, and {words}"


def test_what_a_qemu_without_channels_can_be_told() -> None:
    assert downgrade([main()]) == "tcp:192.0.2.7:4444"
    assert downgrade([main(UnixSocketAddress("/run/vm.sock", abstract=False, tight=True))]) == "unix:/run/vm.sock"
    with pytest.raises(BadChannel, match=r"takes one uri and no channels.*; cure: a newer QEMU"):
        downgrade([main(), cpr()])
    with pytest.raises(BadChannel, match=r"none that takes no channels knows file:; cure: exec:cat >FILE"):
        downgrade([main(FileMigrationArgs("/var/vm.state", 0))])


def test_a_program_with_arguments_is_the_same_program_for_a_qemu_without_channels() -> None:
    words = ["/usr/bin/printf", "%s|", "a b", "'", '"$HOME"', "", "-n", "*"]
    uri = downgrade([main(MigrationExecCommand(tuple(words)))])
    ran = subprocess.run(["/bin/sh", "-c", uri.removeprefix("exec:")], capture_output=True, text=True, check=True)
    assert ran.stdout == subprocess.run(words, capture_output=True, text=True, check=True).stdout
