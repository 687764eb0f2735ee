# SPDX-License-Identifier: Apache-2.0
"""A migration address and its uri mean the same, in each form that QEMU knows; what QEMUs read in two ways is refused."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.qemu import migration_uri
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
from host_agent.qemu.migration_channel import MigrationChannel, MigrationChannelType, from_uri
from tests.host.migration_addresses import ANY_ADDRESS

if TYPE_CHECKING:
    from host_agent.qemu.migration_address import MigrationAddress


@pytest.mark.parametrize(
    ("uri", "address", "canonical"),
    [
        ("tcp:192.0.2.7:4444", InetSocketAddress("192.0.2.7", "4444"), None),
        ("tcp::4444", InetSocketAddress("", "4444"), None),
        ("tcp:[2001:db8::7]:4444", InetSocketAddress("2001:db8::7", "4444"), None),
        ("tcp:[fe80::1%eth0]:4444", InetSocketAddress("fe80::1%eth0", "4444"), None),
        ("tcp:[web1]:4444", InetSocketAddress("web1", "4444"), "tcp:web1:4444"),
        ("tcp:[unix]:4444", InetSocketAddress("unix", "4444"), None),
        ("tcp:web1:migration", InetSocketAddress("web1", "migration"), None),
        (
            "tcp::4444,to=4450,ipv4,ipv6=off,keep-alive=on,mptcp",
            InetSocketAddress("", "4444", to=4450, ipv4=True, ipv6=False, keep_alive=True, mptcp=True),
            "tcp::4444,to=4450,ipv4=on,ipv6=off,keep-alive=on,mptcp=on",
        ),
        ("unix:/run/vm.sock", UnixSocketAddress("/run/vm.sock"), None),
        ("unix:a,offset=b:c", UnixSocketAddress("a,offset=b:c"), None),
        ("vsock:2:1234", VsockSocketAddress("2", "1234"), None),
        ("fd:migration", FdSocketAddress("migration"), None),
        ("exec:cat >'a b', c", MigrationExecCommand(("/bin/sh", "-c", "cat >'a b', c")), None),
        ("exec:", MigrationExecCommand(("/bin/sh", "-c", "")), None),
        ("rdma:192.0.2.7:4444", RdmaAddress("192.0.2.7", "4444"), None),
        ("rdma:[2001:db8::7]:4444", RdmaAddress("2001:db8::7", "4444"), None),
        ("file:/var/vm.state", FileMigrationArgs("/var/vm.state", 0), None),
        ("file:/dev/fdset/1", FileMigrationArgs("/dev/fdset/1", 0), None),
        ("file:a,b", FileMigrationArgs("a,b", 0), None),
        ("file:/var/vm.state,offset=0x1000", FileMigrationArgs("/var/vm.state", 4096), "file:/var/vm.state,offset=4096"),
        ("file:/var/vm.state,offset=4k", FileMigrationArgs("/var/vm.state", 4096), "file:/var/vm.state,offset=4096"),
        ("file:/var/vm.state,offset=1.5M", FileMigrationArgs("/var/vm.state", 1572864), "file:/var/vm.state,offset=1572864"),
        ("file:/var/vm.state,offset=7B", FileMigrationArgs("/var/vm.state", 7), "file:/var/vm.state,offset=7"),
        ("file:/var/vm.state,offset=0", FileMigrationArgs("/var/vm.state", 0), "file:/var/vm.state"),
    ],
)
def test_each_form_of_uri_is_the_address_that_it_means(uri: str, address: MigrationAddress, canonical: str | None) -> None:
    assert migration_uri.read(uri) == address
    assert from_uri(uri) == (MigrationChannel(MigrationChannelType.MAIN, address),)
    assert migration_uri.written(address) == (canonical or uri)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "unknown migration protocol: ; it begins with one of tcp:, unix:, vsock:, fd:, exec:, rdma:, file:"),
        ("defer", "unknown migration protocol: defer;"),
        ("TCP:192.0.2.7:4444", "unknown migration protocol: TCP:192.0.2.7:4444;"),
        ("tcp:192.0.2.7", "tcp:192.0.2.7: error parsing address '192.0.2.7'; cure: HOST:PORT"),
        ("tcp:192.0.2.7:", "tcp:192.0.2.7:: error parsing address '192.0.2.7:'"),
        ("tcp::", "tcp::: error parsing port in address ':'"),
        (
            "tcp:2001:db8::7:4444",
            "tcp:2001:db8::7:4444: error parsing address '2001:db8::7:4444'; cure: HOST:PORT, an IPv6 address in br",
        ),
        ("tcp:[::1", "tcp:[::1: error parsing IPv6 address '[::1'"),
        ("tcp:[]:1", "tcp:[]:1: error parsing IPv6 address '[]:1'"),
        (
            "tcp:unix:/run/vm.sock",
            "tcp:unix:/run/vm.sock: QEMU 7.2 would read another address from this; cure: the host in brackets, [unix]",
        ),
        (f"tcp:{65 * 'x'}:1", f"tcp:{65 * 'x'}:1: error parsing address"),
        (f"tcp:{33 * 'é'}:1", "tcp:"),
        (f"tcp:web1:{33 * '1'}", "tcp:web1:"),
        ("tcp:web1:1,numeric", "tcp:web1:1,numeric: there is no option 'numeric', and QEMU would not say so"),
        ("tcp:web1:1,", "tcp:web1:1,: there is no option '', and QEMU would not say so"),
        ("tcp:web1:1,keep_alive", "tcp:web1:1,keep_alive: there is no option 'keep_alive'"),
        ("tcp:web1:1,ipv4=on,ipv4=off", "tcp:web1:1,ipv4=on,ipv4=off: the option 'ipv4' is there twice"),
        ("tcp:web1:1,ipv4=yes", "tcp:web1:1,ipv4=yes: error parsing 'ipv4' flag '=yes'"),
        ("tcp:web1:1,to=x", "tcp:web1:1,to=x: error parsing to= argument"),
        ("tcp:web1:1,to=65536", "tcp:web1:1,to=65536: error parsing to= argument"),
        ("tcp:web1:1,ipv4=off,ipv6=off", "tcp:web1:1,ipv4=off,ipv6=off: Cannot disable IPv4 and IPv6 at same time"),
        ("unix:", "unix:: invalid Unix socket address"),
        ("vsock:2", "vsock:2: error parsing address '2'"),
        ("vsock:2:1,x", "vsock:2:1,x: trailing characters in address '2:1,x'"),
        ("vsock:host:1", "vsock:host:1: Failed to parse cid 'host'"),
        ("fd:", "fd:: invalid file descriptor address"),
        ("rdma:web1", "rdma:web1: bad RDMA migration address 'web1': error parsing address"),
        ("rdma::1", "rdma::1: bad RDMA migration address ':1': RDMA hostname has not been set"),
        ("file:", "file:: Could not open '': No such file or directory"),
        ("file:a,offset=", "file:a,offset=: file URI has bad offset : Invalid argument"),
        ("file:a,offset=x", "file:a,offset=x: file URI has bad offset x: Invalid argument"),
        ("file:a,offset=1.5", "file:a,offset=1.5: file URI has bad offset 1.5: Invalid argument"),
        ("file:a,offset=0x1k", "file:a,offset=0x1k: file URI has bad offset 0x1k: Invalid argument"),
        ("file:a,offset=-5", "file:a,offset=-5: file URI has bad offset -5"),
        ("file:a,offset=1,offset=2", "file:a,offset=1,offset=2: file URI has bad offset 1,offset=2: Invalid argument"),
        ("file:a,offset=9E", "file:a,offset=9E: failed to truncate migration file"),
        ("file:a\x1b[31m,offset=x", "file:a\\x1b[31m,offset=x: file URI has bad offset x"),
    ],
)
def test_a_uri_that_is_none_or_that_versions_of_qemu_read_differently_is_refused(uri: str, words: str) -> None:
    with pytest.raises(BadChannel) as refused:
        migration_uri.read(uri)
    assert str(refused.value).startswith(words)


def meant(address: MigrationAddress) -> MigrationAddress:
    """*address* without what says nothing that is not so anyway, and a program as the shell's command that starts it."""
    match address:
        case InetSocketAddress() | RdmaAddress():
            return replace(address, numeric=None)
        case UnixSocketAddress():
            return UnixSocketAddress(address.path)
        case MigrationExecCommand() if address.args[:2] != ("/bin/sh", "-c") or len(address.args) != 3:
            return MigrationExecCommand(("/bin/sh", "-c", f"exec {shlex.join(address.args)}"))
        case _:
            return address


@given(ANY_ADDRESS)
def test_a_uri_that_is_written_is_read_as_what_it_was_written_for(address: MigrationAddress) -> None:
    try:
        uri = migration_uri.written(address)
    except BadChannel:
        return
    assert migration_uri.read(uri) == meant(address)


@given(st.sampled_from(["tcp", "unix", "vsock", "fd", "exec", "rdma", "file", "nope"]), st.text(max_size=40))
def test_whatever_a_uri_holds_it_is_an_address_or_refused(form: str, rest: str) -> None:
    try:
        address = migration_uri.read(f"{form}:{rest}")
    except BadChannel as refused:
        words = str(refused)
    else:
        words = migration_uri.written(address)
        assert migration_uri.read(words) == address
    assert words.isprintable() or form in words
