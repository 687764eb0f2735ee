# SPDX-License-Identifier: Apache-2.0
"""A migration address as the JSON that QMP has for it: `MigrationAddress`, read and written."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from host_agent.qemu.migration_address import (
    BadAddress,
    BadChannel,
    FdSocketAddress,
    FileMigrationArgs,
    InetSocketAddress,
    MigrationExecCommand,
    RdmaAddress,
    UnixSocketAddress,
    VsockSocketAddress,
    member_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from host_agent.qemu.migration_address import MigrationAddress
    from host_agent.qemu.qmp_members import Members


def read(members: Members) -> MigrationAddress:
    """The address that these members make; raise `BadChannel`, with its place."""
    try:
        kind = members.one_of("transport", _TRANSPORTS)
        make = _SOCKETS[members.one_of("type", _SOCKETS)] if kind == "socket" else _OTHERS[kind]
        address = make(members)
    except BadAddress as exc:
        raise BadChannel(f"{members.name}: {exc}") from None
    members.end()
    return address


def written(address: MigrationAddress) -> dict[str, object]:
    """The JSON of *address*; an optional member that it has not is not there."""
    values = ((each.name, getattr(address, each.name)) for each in fields(address))
    said = {member_name(name): list(value) if isinstance(value, tuple) else value for name, value in values if value is not None}
    return {**address.tags, **said}


def _inet(kind: Callable[..., MigrationAddress]) -> Callable[[Members], MigrationAddress]:
    def made(members: Members) -> MigrationAddress:
        return kind(
            host=members.string("host"),
            port=members.string("port"),
            numeric=members.boolean("numeric"),
            to=members.integer("to") if "to" in members else None,
            ipv4=members.boolean("ipv4"),
            ipv6=members.boolean("ipv6"),
            keep_alive=members.boolean("keep-alive"),
            mptcp=members.boolean("mptcp"),
        )

    return made


def _unix(members: Members) -> MigrationAddress:
    return UnixSocketAddress(members.string("path"), members.boolean("abstract"), members.boolean("tight"))


_SOCKETS: Final[Mapping[str, Callable[[Members], MigrationAddress]]] = {
    "inet": _inet(InetSocketAddress),
    "unix": _unix,
    "vsock": lambda members: VsockSocketAddress(members.string("cid"), members.string("port")),
    "fd": lambda members: FdSocketAddress(members.string("str")),
}
_OTHERS: Final[Mapping[str, Callable[[Members], MigrationAddress]]] = {
    "exec": lambda members: MigrationExecCommand(members.strings("args")),
    "rdma": _inet(RdmaAddress),
    "file": lambda members: FileMigrationArgs(members.string("filename"), members.integer("offset")),
}
_TRANSPORTS: Final = ("socket", *_OTHERS)
