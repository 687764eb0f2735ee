# SPDX-License-Identifier: Apache-2.0
"""A migration address as a uri, in each form that QEMU knows (its `migrate_uri_parse`), read and written.

What is accepted and written here means the same to each version of QEMU; what one overlooks or reads in its own way is refused.
"""

from __future__ import annotations

import re
import shlex
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from host_agent.qemu.inet_uri import read_inet, written_inet
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
)
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from host_agent.qemu.migration_address import MigrationAddress

_WORDS: Final = 200
_SHELL: Final = ("/bin/sh", "-c")
_OFFSET: Final = ",offset="
#: A size of QEMU's: a decimal number with a fraction and a unit, or a hexadecimal one. No hexadecimal one has a unit.
_SIZE: Final = re.compile(r"(?P<number>[0-9]{1,20}(?:\.[0-9]{1,20})?)(?P<unit>[bkmgtpe]?)", re.IGNORECASE)
_HEXADECIMAL: Final = re.compile("0x[0-9a-f]{1,16}", re.IGNORECASE)
_UNITS: Final = "bkmgtpe"


def read(uri: str) -> MigrationAddress:
    """The address that *uri* means; raise `BadChannel`."""
    form, colon, rest = uri.partition(":")
    if not colon or form not in _READ:
        known = ", ".join(f"{each}:" for each in _READ)
        raise BadChannel(f"unknown migration protocol: {printable(uri, _WORDS)}; it begins with one of {known}")
    try:
        return _READ[form](rest)
    except BadAddress as exc:
        raise BadChannel(f"{printable(uri, _WORDS)}: {exc}") from None


def written(address: MigrationAddress) -> str:
    """A uri that means the same as *address*; raise `BadChannel` with the reason where there is none."""
    match address:
        case InetSocketAddress():
            return f"tcp:{written_inet(address)}"
        case RdmaAddress():
            return f"rdma:{written_inet(address)}"
        case UnixSocketAddress():
            return f"unix:{_path(address)}"
        case VsockSocketAddress():
            return f"vsock:{address.cid}:{address.port}"
        case FdSocketAddress():
            return f"fd:{address.str_}"
        case MigrationExecCommand():
            return f"exec:{_command(address)}"
        case FileMigrationArgs():
            return f"file:{_filename(address)}"


def _read_unix(rest: str) -> UnixSocketAddress:
    if not rest:
        raise BadAddress("invalid Unix socket address")
    return UnixSocketAddress(rest)


def _read_vsock(rest: str) -> VsockSocketAddress:
    cid, colon, port = rest.partition(":")
    if not (cid and colon and port) or port.startswith(","):
        raise BadAddress(f"error parsing address '{printable(rest)}'")
    if "," in port:
        raise BadAddress(f"trailing characters in address '{printable(rest)}'")
    return VsockSocketAddress(cid, port)


def _read_fd(rest: str) -> FdSocketAddress:
    if not rest:
        raise BadAddress("invalid file descriptor address")
    return FdSocketAddress(rest)


def _read_rdma(rest: str) -> RdmaAddress:
    try:
        return RdmaAddress(**read_inet(rest))
    except BadAddress as exc:
        # QEMU 7.2 has these words; QEMU 10 aborts.
        raise BadAddress(f"bad RDMA migration address '{printable(rest)}': {exc}") from None


def _read_file(rest: str) -> FileMigrationArgs:
    filename, option, size = rest.partition(_OFFSET)
    return FileMigrationArgs(filename, _size(size) if option else 0)


def _size(text: str) -> int:
    """Bytes; raise `BadAddress` where it is no whole number of them."""
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    match = _SIZE.fullmatch(text)
    if match:
        size = Fraction(match["number"]) * (1 << 10 * _UNITS.index((match["unit"] or "b").lower()))
        if size.denominator == 1:
            return size.numerator
    raise BadAddress(f"file URI has bad offset {printable(text)}: Invalid argument")


def _path(address: UnixSocketAddress) -> str:
    if address.abstract:
        raise BadChannel("no uri can say of a unix socket that it is abstract")
    if not address.path:
        raise BadChannel("no uri can leave a unix socket's path to QEMU")
    return address.path


def _command(address: MigrationExecCommand) -> str:
    args = address.args
    if len(args) == 3 and args[:2] == _SHELL:
        return args[2]
    if not args[0].startswith("/"):
        raise BadChannel(f"no uri can name a program of QEMU's own directory, as {printable(args[0])} is; cure: its whole path")
    return f"exec {shlex.join(args)}"


def _filename(address: FileMigrationArgs) -> str:
    if _OFFSET in address.filename:
        raise BadChannel(f"no uri can name a file with {_OFFSET!r} in its name")
    return f"{address.filename}{_OFFSET}{address.offset}" if address.offset else address.filename


_READ: Final[Mapping[str, Callable[[str], MigrationAddress]]] = {
    "tcp": lambda rest: InetSocketAddress(**read_inet(rest, reserved=True)),
    "unix": _read_unix,
    "vsock": _read_vsock,
    "fd": _read_fd,
    "exec": lambda rest: MigrationExecCommand((*_SHELL, rest)),
    "rdma": _read_rdma,
    "file": _read_file,
}
