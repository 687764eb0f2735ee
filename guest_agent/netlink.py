# SPDX-License-Identifier: Apache-2.0
"""What the running kernel has of links, addresses and neighbours, asked by rtnetlink(7): no program need be there for it."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: linux/netlink.h and linux/rtnetlink.h.
_ERROR, _DONE, _NEW_ADDRESS, _GET_ADDRESS, _NEW_NEIGHBOUR, _REMOVE_NEIGHBOUR, _GET_NEIGHBOUR = 2, 3, 20, 22, 28, 29, 30
_NEW_LINK, _GET_LINK = 16, 18
_REQUEST, _ACKNOWLEDGE, _DUMP = 0x1, 0x4, 0x300
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
#: linux/if_addr.h: struct ifaddrmsg, and its attributes.
_ADDRESS: Final = struct.Struct("=BBBBI")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
#: linux/neighbour.h: struct ndmsg, and its one attribute that is of interest.
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")
_NDA_DST: Final = 1
#: linux/if_link.h: struct ifinfomsg, and its one attribute that is of interest.
_LINK: Final = struct.Struct("=BxHiII")
_IFLA_PERM_ADDRESS: Final = 54
#: More than one answer of a dump holds, which is a page or 32 KiB.
_RECEIVE_BYTES: Final = 128 * 1024
#: linux/if_addr.h: somebody else has the address, or it is not known yet whether somebody has.
_IFA_F_DADFAILED: Final = 0x08
_IFA_F_TENTATIVE: Final = 0x40
#: The kernel answers at once.
_SECONDS: Final = 2.0
#: RFC 863: whoever gets it throws it away. What counts is that the kernel has to find the neighbour before it can send.
_DISCARD: Final = 9


class HeldAddress(NamedTuple):
    """An address (4 or 16 bytes), and the index of the interface that has it."""

    interface: int
    address: bytes
    #: How many bits of the address name its network.
    prefix: int
    is_global: bool
    #: linux/if_addr.h, ``IFA_F_…``
    flags: int

    @property
    def is_anothers_too(self) -> bool:
        """Whether another machine was found to have it."""
        return bool(self.flags & _IFA_F_DADFAILED)

    @property
    def is_tentative(self) -> bool:
        """Whether it is not known yet if another machine has it."""
        return bool(self.flags & _IFA_F_TENTATIVE)

    @property
    def is_of_use(self) -> bool:
        """Whether others reach us by it."""
        return self.is_global and not self.is_anothers_too and not self.is_tentative


def addresses() -> list[HeldAddress]:
    """Every address that an interface has; raise `OSError`."""
    held = []
    for body in _dump(_GET_ADDRESS, _NEW_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0)):
        _, prefix, flags, scope, index = _ADDRESS.unpack_from(body)
        found = dict(_attributes(body[_ADDRESS.size :]))
        # IFA_ADDRESS is the other end's where a link has two ends.
        address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
        if _IFA_FLAGS in found:
            flags = int.from_bytes(found[_IFA_FLAGS], sys.byteorder)
        held.append(HeldAddress(index, address, prefix, scope == 0, flags))
    return held


def permanent_addresses() -> dict[int, bytes]:
    """The address that each network card was made with, by the interface's index; raise `OSError`."""
    found = {}
    for body in _dump(_GET_LINK, _NEW_LINK, _LINK.pack(0, 0, 0, 0, 0)):
        _, _, index, _, _ = _LINK.unpack_from(body)
        address = dict(_attributes(body[_LINK.size :])).get(_IFLA_PERM_ADDRESS)
        if address is not None:
            found[index] = address
    return found


def neighbours() -> dict[tuple[int, bytes], int]:
    """The state (linux/neighbour.h, ``NUD_…``) of each neighbour, by the interface's index and its address; raise `OSError`."""
    states = {}
    for body in _dump(_GET_NEIGHBOUR, _NEW_NEIGHBOUR, _NEIGHBOUR.pack(0, 0, 0, 0, 0)):
        _, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
        states[index, dict(_attributes(body[_NEIGHBOUR.size :])).get(_NDA_DST, b"")] = state
    return states


def forget_neighbour(index: int, address: bytes) -> None:
    """Have the kernel look for this neighbour anew when it is next needed. Where it does not let us, it goes by what it knows."""
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(address), _NDA_DST) + address
    body = _NEIGHBOUR.pack(_family(address), index, 0, 0, 0) + attribute
    with suppress(OSError), _open() as opened:
        opened.send(_message(_REMOVE_NEIGHBOUR, _REQUEST | _ACKNOWLEDGE, body))
        opened.recv(_RECEIVE_BYTES)


def ask_neighbour(index: int, address: bytes) -> None:
    """Give the kernel a reason to look for this neighbour. Whether it answers is seen in `neighbours`."""
    family = _family(address)
    text = socket.inet_ntop(family, address)
    to = (text, _DISCARD) if family == socket.AF_INET else (text, _DISCARD, 0, index)
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as opened:  # no route there is an answer, too
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, socket.if_indextoname(index).encode())
        opened.sendto(b"", to)


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.settimeout(_SECONDS)
    return opened


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def _dump(asked: int, answered: int, body: bytes) -> Iterator[bytes]:
    """The bodies of what the kernel answers to a question for all of a kind."""
    with _open() as opened:
        opened.send(_message(asked, _REQUEST | _DUMP, body))
        while True:
            data = opened.recv(_RECEIVE_BYTES)
            while len(data) >= _HEADER.size:
                length, kind, _, _, _ = _HEADER.unpack_from(data)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("=i", data, _HEADER.size)[0], "rtnetlink refuses")
                if kind == answered:
                    yield data[_HEADER.size : length]
                data = data[_aligned(length) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(max(length, _ATTRIBUTE.size)) :]


def _aligned(length: int) -> int:
    return (max(length, 1) + 3) & ~3
