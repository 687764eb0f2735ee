# SPDX-License-Identifier: Apache-2.0
"""Where a migration stream goes to or comes from: QEMU's `MigrationAddress`, as values that QEMU takes.

Names, optional members and limits are those of QEMU's schema (qapi/migration.json, qapi/sockets.json). None is an optional member
that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Final

from host_agent.errors import HostError
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UINT16_MAX: Final = 0xFFFF
UINT32_MAX: Final = 0xFFFF_FFFF
UINT64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF
#: unix(7): sun_path, which QEMU fills to its last byte; an abstract name has one less.
_SUN_PATH_BYTES: Final = 108
#: off_t is signed.
_MAX_OFFSET: Final = 2**63 - 1
_WORDS: Final = 200


class BadChannel(HostError):  # noqa: N818 -- it says what the channel is
    """An address or a list of channels that QEMU would refuse, misunderstand, or crash on; in QEMU's words where it has words."""


class BadAddress(BadChannel):
    """An address whose members do not make one; wherever it stands."""


@dataclass(frozen=True, slots=True)
class _Inet:
    """The members of `InetSocketAddress`, which an RDMA address has as well."""

    tags: ClassVar[Mapping[str, str]]

    host: str
    port: str
    numeric: bool | None = None
    to: int | None = None
    ipv4: bool | None = None
    ipv6: bool | None = None
    keep_alive: bool | None = None
    mptcp: bool | None = None

    def __post_init__(self) -> None:
        check_texts(self)
        if self.to is not None and not 0 <= self.to <= UINT16_MAX:
            raise BadAddress("Parameter 'to' expects uint16_t")
        if self.ipv4 is False and self.ipv6 is False:
            raise BadAddress("Cannot disable IPv4 and IPv6 at same time")
        if self.tags["transport"] == "rdma" and not self.host:
            raise BadAddress("RDMA hostname has not been set")


@dataclass(frozen=True, slots=True)
class InetSocketAddress(_Inet):
    """A TCP socket; for who listens *host* may be empty, and *to* is the last port to try."""

    tags: ClassVar = {"transport": "socket", "type": "inet"}


@dataclass(frozen=True, slots=True)
class RdmaAddress(_Inet):
    """An RDMA peer."""

    tags: ClassVar = {"transport": "rdma"}


@dataclass(frozen=True, slots=True)
class UnixSocketAddress:
    """A unix socket; *tight* says of an abstract one that its name is not padded, as it is by default."""

    tags: ClassVar = {"transport": "socket", "type": "unix"}

    path: str
    abstract: bool | None = None
    tight: bool | None = None

    def __post_init__(self) -> None:
        check_texts(self)
        if len(self.path.encode()) > _SUN_PATH_BYTES - bool(self.abstract):
            raise BadAddress(f"UNIX socket path '{printable(self.path, _WORDS)}' is too long")


@dataclass(frozen=True, slots=True)
class VsockSocketAddress:
    """A vsock socket, vsock(7); both are numbers in decimal."""

    tags: ClassVar = {"transport": "socket", "type": "vsock"}

    cid: str
    port: str

    def __post_init__(self) -> None:
        for name, value in (("cid", self.cid), ("port", self.port)):
            # Not int() alone: it takes spaces, signs, underscores, and digits of other scripts.
            if not (value.isascii() and value.isdecimal() and len(value) <= 10 and int(value) <= UINT32_MAX):
                raise BadAddress(f"Failed to parse {name} '{printable(value)}'")


@dataclass(frozen=True, slots=True)
class FdSocketAddress:
    """A file descriptor that QEMU has: the name that it was given by `getfd`, or its number on QEMU's command line."""

    tags: ClassVar = {"transport": "socket", "type": "fd"}

    str_: str

    def __post_init__(self) -> None:
        check_texts(self)
        if not self.str_:
            raise BadAddress("File descriptor named '' has not been found")


@dataclass(frozen=True, slots=True)
class MigrationExecCommand:
    """A program that QEMU starts, and whose standard input or output is the stream; its path and its arguments, no shell."""

    tags: ClassVar = {"transport": "exec"}

    args: tuple[str, ...]

    def __post_init__(self) -> None:
        check_texts(self)
        if not self.args:
            raise BadAddress("'args' is empty: QEMU 10 aborts at that; cure: the path of a program, and its arguments")


@dataclass(frozen=True, slots=True)
class FileMigrationArgs:
    """A file; the stream begins *offset* bytes into it. What is before stays, what is behind goes."""

    tags: ClassVar = {"transport": "file"}

    filename: str
    offset: int

    def __post_init__(self) -> None:
        check_texts(self)
        if not self.filename:
            raise BadAddress("Could not open '': No such file or directory")
        if not 0 <= self.offset <= _MAX_OFFSET:
            raise BadAddress(f"failed to truncate migration file to offset {self.offset & UINT64_MAX:x}: Invalid argument")


_HasTexts = _Inet | UnixSocketAddress | FdSocketAddress | MigrationExecCommand | FileMigrationArgs
SocketAddress = InetSocketAddress | UnixSocketAddress | VsockSocketAddress | FdSocketAddress
MigrationAddress = SocketAddress | MigrationExecCommand | RdmaAddress | FileMigrationArgs


def check_texts(address: _HasTexts) -> None:
    """Raise `BadAddress` where a string in *address* would be another one to QEMU, or no string at all."""
    for name, text in _texts(address):
        if "\0" in text:
            raise BadAddress(f"'{name}' has a NUL in it, which no address can have")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadAddress(f"'{name}' is not Unicode text") from None


def _texts(address: _HasTexts) -> Iterator[tuple[str, str]]:
    for each in fields(address):
        value = getattr(address, each.name)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str):
                yield member_name(each.name), text


def member_name(field: str) -> str:
    """The schema's name of a field here."""
    return field.rstrip("_").replace("_", "-")
