# SPDX-License-Identifier: Apache-2.0
"""The messages of QEMU's vhost-user protocol as bytes (docs/interop/vhost-user.rst). No input and output happens here."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from host_agent.errors import HostError

#: request, flags, size of what follows: in the machine's own order.
HEADER: Final = struct.Struct("=3I")
_U64: Final = struct.Struct("=Q")
_VRING_STATE: Final = struct.Struct("=2I")
#: index, flags, and the addresses, in the front-end's memory, of the descriptors, the used ring, the available ring and the log.
_VRING_ADDRESS: Final = struct.Struct("=2I4Q")
_REGIONS: Final = struct.Struct("=2I")
_REGION: Final = struct.Struct("=4Q")

_VERSION: Final = 0x1
_VERSION_MASK: Final = 0x3
_REPLY: Final = 0x4
_NEED_REPLY: Final = 0x8
#: VHOST_MEMORY_BASELINE_NREGIONS: as many as one message has, and as many descriptors as come with one.
MAX_REGIONS: Final = 8
#: What is longest is a table of memory.
MAX_PAYLOAD: Final = _REGIONS.size + MAX_REGIONS * _REGION.size
#: Of the number in a SET_VRING_KICK and its like: which queue, and that no descriptor comes with it.
_INDEX_MASK: Final = 0xFF
_NO_DESCRIPTOR: Final = 0x100


class BadMessage(HostError):  # noqa: N818 -- it says what the message is
    """A front-end's bytes that are no message of the protocol, or none that has a place there."""


class Request(IntEnum):
    """The requests of a front-end that a device without configuration and without a log of its writes has to know."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    SET_VRING_ENABLE = 18


class Header(NamedTuple):
    """What stands before a message's content. *need_reply*: the front-end waits for a word whether it was done."""

    request: int
    need_reply: bool
    size: int


class Region(NamedTuple):
    """A piece of the guest's memory: where the guest has it and the front-end, and where in its file it begins."""

    guest: int
    size: int
    user: int
    offset: int


class RingAddress(NamedTuple):
    """Where the three parts of a *queue* are, in the front-end's memory."""

    queue: int
    descriptors: int
    used: int
    available: int


def header(data: bytes) -> Header:
    """What the first bytes of a message say; raise `BadMessage`."""
    request, flags, size = HEADER.unpack(data)
    if flags & _VERSION_MASK != _VERSION or flags & _REPLY:
        raise BadMessage(f"a message with flags {flags:#x}, which no front-end's has")
    if size > MAX_PAYLOAD:
        raise BadMessage(f"a message of {size} bytes, where the longest has {MAX_PAYLOAD}")
    return Header(request, bool(flags & _NEED_REPLY), size)


def encode(request: int, payload: bytes = b"", *, is_reply: bool = False) -> bytes:
    """A message, or the reply to one."""
    return HEADER.pack(request, _VERSION | (_REPLY if is_reply else 0), len(payload)) + payload


def number(payload: bytes) -> int:
    """A content that is one number; raise `BadMessage`."""
    return int(_unpacked(_U64, payload)[0])


def encode_number(value: int) -> bytes:
    """The same as bytes."""
    return _U64.pack(value)


def ring_state(payload: bytes) -> tuple[int, int]:
    """A queue's index, and the number that is said of it; raise `BadMessage`."""
    index, value = _unpacked(_VRING_STATE, payload)
    return index, value


def encode_ring_state(index: int, value: int) -> bytes:
    """The same as bytes."""
    return _VRING_STATE.pack(index, value)


def ring_address(payload: bytes) -> RingAddress:
    """Where a queue is; raise `BadMessage`."""
    index, _, descriptors, used, available, _ = _unpacked(_VRING_ADDRESS, payload)
    return RingAddress(index, descriptors, used, available)


def ring_descriptor(payload: bytes) -> tuple[int, bool]:
    """Which queue a descriptor is for, and whether one comes with it; raise `BadMessage`."""
    value = number(payload)
    return value & _INDEX_MASK, not value & _NO_DESCRIPTOR


def regions(payload: bytes) -> list[Region]:
    """The guest's memory; raise `BadMessage`."""
    if len(payload) < _REGIONS.size:
        raise BadMessage("a table of memory that is cut short")
    count, _ = _REGIONS.unpack_from(payload)
    if count > MAX_REGIONS or len(payload) < _REGIONS.size + count * _REGION.size:
        raise BadMessage(f"a table of {count} regions in {len(payload)} bytes")
    return [Region(*_REGION.unpack_from(payload, _REGIONS.size + each * _REGION.size)) for each in range(count)]


def _unpacked(shape: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) != shape.size:
        raise BadMessage(f"a content of {len(payload)} bytes, where {shape.size} belong")
    return shape.unpack(payload)
