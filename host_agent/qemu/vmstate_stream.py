# SPDX-License-Identifier: Apache-2.0
"""The bundle of several programs' state that travels with a VM, byte for byte as QEMU's dbus-vmstate writes it.

``u32 n {u32 length, id, u32 length, state}``, big-endian, and zeros: QEMU hands on the whole of the buffer that it wrote into
(backends/dbus-vmstate.c). It comes from another host or a disk: what is not exactly that is refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: What QEMU takes of one program (DBUS_VMSTATE_SIZE_LIMIT).
MAX_STATE_BYTES: Final = 1024 * 1024
#: QEMU's buffer for an id holds 256 bytes, with a NUL.
MAX_ID_BYTES: Final = 255
#: QEMU has no such bound; a VM has a handful of programs beside it.
MAX_PARTS: Final = 64
#: The parts and what stands before them; and as many zeros: GLib doubles a buffer that is too small.
MAX_BUNDLE_BYTES: Final = 2 * (4 + MAX_PARTS * (4 + MAX_ID_BYTES + 4 + MAX_STATE_BYTES))

_LENGTH: Final = struct.Struct(">I")
_MAX_WORDS: Final = 300


class BadBundle(HostError):  # noqa: N818 -- it says what the bundle is
    """Bytes that are no bundle, or parts that cannot be one."""


class Part(NamedTuple):
    """The state of one program, under its id."""

    id: str
    state: bytes

    def __repr__(self) -> str:
        """Without the state, which is that program's own affair."""
        return f"Part({self.id!r}, {len(self.state)} bytes)"


def encode(parts: Sequence[Part]) -> bytes:
    """The bundle of *parts*, in their order; raise `BadBundle` where QEMU would not take it."""
    _check_count(len(parts))
    check_ids(part.id for part in parts)
    pieces = [_LENGTH.pack(len(parts))]
    for part in parts:
        if len(part.state) > MAX_STATE_BYTES:
            raise BadBundle(f"{printable(part.id, 100)}: its state has {len(part.state):,} bytes; QEMU takes {MAX_STATE_BYTES:,}")
        name = part.id.encode()
        pieces += [_LENGTH.pack(len(name)), name, _LENGTH.pack(len(part.state)), part.state]
    return b"".join(pieces)


def decode(data: bytes) -> list[Part]:
    """The parts of a bundle, in their order; raise `BadBundle`."""
    reader = _Reader(data)
    count = reader.number("the number of parts")
    _check_count(count)
    parts = []
    for number in range(1, count + 1):
        name = _text(reader.counted(f"the id of part {number}", MAX_ID_BYTES), number)
        parts.append(Part(name, reader.counted(f"the state of part {number}", MAX_STATE_BYTES)))
    reader.end()
    check_ids(part.id for part in parts)
    return parts


def check_ids(ids: Iterable[str]) -> None:
    """Raise `BadBundle` where one is none of QEMU's, or is there twice."""
    seen = set()
    for each in ids:
        check_id(each)
        if each in seen:
            raise BadBundle(f"two programs have the id {printable(each, 100)}; cure: end one of them")
        seen.add(each)


def check_id(name: str) -> None:
    """Raise `BadBundle` where QEMU would not take it for an id."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # a half of a surrogate pair, which D-Bus has no bytes for
        length = 0
    if not 1 <= length <= MAX_ID_BYTES or "\0" in name:
        raise BadBundle(f"'{printable(name, 100)}' cannot be an id: those have 1 to {MAX_ID_BYTES} bytes of text, and no NUL")


class _Reader:
    """What is left of the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, what: str) -> int:
        """The next number."""
        (value,) = _LENGTH.unpack(self._take(_LENGTH.size, what))
        return int(value)

    def counted(self, what: str, at_most: int) -> bytes:
        """The next bytes, whose number stands before them."""
        length = self.number(f"the length of {what}")
        if length > at_most:
            raise BadBundle(f"no bundle of VM state: {what} has {length:,} bytes, of at most {at_most:,}")
        return self._take(length, what)

    def end(self) -> None:
        """Nothing but zeros may be left."""
        left = len(self._data) - self._at
        if self._data.count(0, self._at) != left:
            raise BadBundle(f"no bundle of VM state: {left:,} bytes follow its last part")

    def _take(self, length: int, what: str) -> bytes:
        taken = self._data[self._at : self._at + length]
        if len(taken) < length:
            raise BadBundle(f"no bundle of VM state: it ends inside {what}")
        self._at += length
        return taken


def _check_count(count: int) -> None:
    if count > MAX_PARTS:
        raise BadBundle(f"no bundle of VM state: it has {count:,} parts, of at most {MAX_PARTS}")


def _text(name: bytes, number: int) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise BadBundle(f"no bundle of VM state: the id of part {number} is no text: {printable(name, _MAX_WORDS)}") from None
