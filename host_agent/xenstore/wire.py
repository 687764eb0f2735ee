# SPDX-License-Identifier: Apache-2.0
"""Xenstore's messages as bytes (Xen's docs/misc/xenstore.txt and public/io/xs_wire.h). No input and output happens here.

A message is a header of four 32-bit numbers in the machine's byte order, and a payload. Whatever bytes come, reading them
gives messages or raises `Garbled`.
"""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from typing import Final, NamedTuple

from host_agent.xenstore.errors import Garbled, Invalid, TooBig

#: The daemon drops the connection of whoever sends more (XENSTORE_PAYLOAD_MAX).
MAX_PAYLOAD_BYTES: Final = 4096
#: The C daemon sends no more either; oxenstored lists a node's children in one message, and there are at most 32,752 domains.
MAX_REPLY_BYTES: Final = 1024 * 1024
#: XENSTORE_ABS_PATH_MAX.
MAX_PATH_BYTES: Final = 3072
_HEADER: Final = struct.Struct("=IIII")
_PATH: Final = re.compile(r"/|(?:/[A-Za-z0-9_@+:-]+)+", re.ASCII)
_SPECIAL: Final = re.compile(r"@[A-Za-z0-9_/-]+", re.ASCII)
_PERMISSION: Final = re.compile(rb"([nrwb])([0-9]{1,5})")
_ERROR: Final = re.compile(rb"(E[A-Z0-9]{1,30})\0?")
_NUMBER: Final = re.compile(rb"[0-9]{1,20}")


class Operation(IntEnum):
    """What is asked, and what is answered."""

    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    SET_TARGET = 19
    DIRECTORY_PART = 22


class Message(NamedTuple):
    """One message, either way. *operation* is a bare number: what came may be none that we know."""

    operation: int
    request: int
    transaction: int
    payload: bytes


class Event(NamedTuple):
    """Something changed at or below *path*, as the watch with *token* was to tell."""

    path: str
    token: str


class Permission(NamedTuple):
    """What *domid* may do: ``n``othing, ``r``ead, ``w``rite, ``b``oth; the first entry's *domid* is the owner, who may do all."""

    access: str
    domid: int

    def __str__(self) -> str:
        return f"{self.access}{self.domid}"


def checked_path(path: str) -> bytes:
    """*path* for the wire; raise `Invalid` where no node can have it, which spares the daemon the question."""
    if len(path) > MAX_PATH_BYTES or not _PATH.fullmatch(path):
        raise Invalid("EINVAL", path)
    return path.encode("ascii")


def checked_watch(path: str) -> bytes:
    """*path*, or one of the daemon's own events such as ``@introduceDomain``, for the wire; raise `Invalid`."""
    return path.encode("ascii") if _SPECIAL.fullmatch(path) else checked_path(path)


def joined(*parts: bytes) -> bytes:
    """*parts* as a payload, each with its final NUL; none of them may contain one."""
    return b"".join(part + b"\0" for part in parts)


def encode(operation: Operation, request: int, transaction: int, payload: bytes, path: str) -> bytes:
    """A request about *path* for the wire; raise `TooBig` rather than send what the daemon would hang up on."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise TooBig("E2BIG", path)
    return _HEADER.pack(operation, request, transaction, len(payload)) + payload


class MessageReader:
    """Messages out of a stream that comes in pieces; holds less than one message."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now; raise `Garbled` at the first that cannot be one."""
        buffer, found, at = self._buffer, [], 0
        buffer += data
        while len(buffer) - at >= _HEADER.size:
            operation, request, transaction, length = _HEADER.unpack_from(buffer, at)
            if length > MAX_REPLY_BYTES:
                raise Garbled(f"xenstored announced a message of {length} bytes, more than any can have")
            end = at + _HEADER.size + length
            if len(buffer) < end:
                break
            found.append(Message(operation, request, transaction, bytes(buffer[at + _HEADER.size : end])))
            at = end
        del buffer[:at]
        return found


def strings(payload: bytes) -> list[str]:
    """The NUL-terminated strings of a payload, of any bytes whatsoever."""
    parts = payload.decode("latin-1").split("\0")
    return parts[:-1] if not parts[-1] else parts


def event(payload: bytes) -> Event:
    """What a watch tells; raise `Garbled`."""
    parts = strings(payload)
    if len(parts) < 2:  # Xen's newest daemons can append a domid and a depth
        raise Garbled("xenstored sent a watch's event without its token")
    return Event(parts[0], parts[1])


def error_word(payload: bytes) -> str:
    """The name of an error, such as ``ENOENT``; raise `Garbled`."""
    matched = _ERROR.fullmatch(payload)
    if matched is None:
        raise Garbled("xenstored sent an error that is none")
    return matched[1].decode("ascii")


def permissions(payload: bytes) -> list[Permission]:
    """Whose a node is (the first entry), and who else may do what; raise `Garbled`."""
    found = []
    for part in payload.removesuffix(b"\0").split(b"\0"):
        matched = _PERMISSION.fullmatch(part)
        if matched is None:
            raise Garbled("xenstored sent permissions that are none")
        found.append(Permission(matched[1].decode("ascii"), int(matched[2])))
    return found


def number(payload: bytes) -> int:
    """A transaction's number; raise `Garbled`."""
    digits = payload.removesuffix(b"\0")
    if not _NUMBER.fullmatch(digits) or int(digits) > 0xFFFFFFFF:
        raise Garbled("xenstored sent a transaction's number that is none")
    return int(digits)


class Part(NamedTuple):
    """Some of a node's children: *names* with their NULs, as of one *generation* of the node; *last* if no more follow."""

    generation: bytes
    names: bytes
    last: bool


def part(payload: bytes) -> Part:
    """The answer to DIRECTORY_PART; raise `Garbled`. An empty name after the last one says that it was the last."""
    generation, separator, names = payload.partition(b"\0")
    if not separator or not _NUMBER.fullmatch(generation):
        raise Garbled("xenstored sent a part of a listing without its generation")
    last = names in (b"", b"\0") or names.endswith(b"\0\0")
    return Part(generation, names[:-1] if last and names else names, last)


def answer(payload: bytes) -> bool:
    """Yes or no, which the daemon writes as T or F; raise `Garbled`."""
    word = payload.removesuffix(b"\0")
    if word not in (b"T", b"F"):
        raise Garbled("xenstored answered neither yes nor no")
    return word == b"T"
