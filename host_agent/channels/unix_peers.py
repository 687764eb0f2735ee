# SPDX-License-Identifier: Apache-2.0
"""Who listens on a unix socket and who is connected to it, as the kernel tells by netlink (sock_diag(7)): nothing is touched."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_SHOW_NAME, _SHOW_VFS, _SHOW_PEER, _SHOW_ICONS, _SHOW_RQLEN = 0x1, 0x2, 0x4, 0x8, 0x10
_NAME, _VFS, _PEER, _ICONS, _RQLEN = 0, 1, 2, 3, 4
_LISTEN: Final = 10  # TCP_LISTEN, of all families
_ALL_STATES: Final = 0xFFFF_FFFF
_NO_COOKIE: Final = 0xFFFF_FFFF

_MESSAGE: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBHIIIII")
_SOCKET: Final = struct.Struct("=BBBBIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_BUFFER_BYTES: Final = 1 << 18
#: A kernel answers from memory; one that does not within this time does not answer.
_SECONDS: Final = 10.0


class UnixSocket(NamedTuple):
    """One end. *name* is the path that it, or the listener that it came from, was bound to; *made* is the inode of a bound path,
    *peer* and *queued* are the inodes of other ends, *unread* is how much its owner has not read.
    """

    inode: int
    listens: bool
    name: str
    made: int | None
    peer: int
    queued: tuple[int, ...]
    unread: int


class Listening(NamedTuple):
    """A listener, and the clients' ends (by inode) that it serves and that wait for it; *unread* of theirs it has not read."""

    socket: UnixSocket
    served: tuple[int, ...] = ()
    unread: int = 0


def unix_sockets() -> list[UnixSocket]:
    """All of this network namespace; raise `HostError` where the kernel does not say."""
    show = _SHOW_NAME | _SHOW_VFS | _SHOW_PEER | _SHOW_ICONS | _SHOW_RQLEN
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, show, _NO_COOKIE, _NO_COOKIE)
    header = _MESSAGE.pack(_MESSAGE.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as end:
            end.settimeout(_SECONDS)
            end.send(header + request)
            return list(_answers(end))
    except OSError as exc:
        raise HostError(f"the kernel does not say who uses unix sockets: {exc}; cure: modprobe unix_diag") from None


def listening(sockets: Iterable[UnixSocket]) -> dict[str, list[Listening]]:
    """The listeners among *sockets* by the path that they were bound to, with whom they serve."""
    ends = list(sockets)
    found: dict[str, list[Listening]] = {}
    accepted: dict[str, list[UnixSocket]] = {}
    for end in ends:
        if end.listens:
            found.setdefault(end.name, []).append(Listening(end))
        elif end.name and end.peer:
            accepted.setdefault(end.name, []).append(end)
    return {name: [_with_served(one, accepted.get(name, [])) for one in listeners] for name, listeners in found.items()}


def _with_served(listener: Listening, accepted: list[UnixSocket]) -> Listening:
    own = [end for end in accepted if end.made == listener.socket.made]
    return listener._replace(served=tuple(end.peer for end in own), unread=sum(end.unread for end in own))


def _answers(end: socket.socket) -> Iterator[UnixSocket]:
    while True:
        data = end.recv(_BUFFER_BYTES)
        offset = 0
        while offset + _MESSAGE.size <= len(data):
            length, kind, *_ = _MESSAGE.unpack_from(data, offset)
            body = data[offset + _MESSAGE.size : offset + length]
            if kind == _NLMSG_DONE or length < _MESSAGE.size:
                return
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0]
                raise OSError(number, os.strerror(number))
            if kind == _SOCK_DIAG_BY_FAMILY:
                yield _socket(body)
            offset += _aligned(length)


def _socket(body: bytes) -> UnixSocket:
    _, _, state, _, inode, *_ = _SOCKET.unpack_from(body)
    of = dict(_attributes(body[_SOCKET.size :]))
    name = of.get(_NAME, b"")
    return UnixSocket(
        inode,
        state == _LISTEN,
        "" if name[:1] == b"\0" else os.fsdecode(name.rstrip(b"\0")),  # an abstract name is no path
        _first(of.get(_VFS)),
        _first(of.get(_PEER)) or 0,
        struct.unpack(f"={len(of[_ICONS]) // 4}I", of[_ICONS]) if _ICONS in of else (),
        _first(of.get(_RQLEN)) or 0,
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)


def _first(data: bytes | None) -> int | None:
    """The number that an attribute is, or begins with."""
    return None if data is None else int(struct.unpack_from("=I", data)[0])


def _aligned(length: int) -> int:
    return (length + 3) & ~3
