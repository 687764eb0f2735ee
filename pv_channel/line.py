# SPDX-License-Identifier: Apache-2.0
"""One frame is one printable ASCII line: build it, parse it, and find it in a stream of anything.

    > HOSTHOST GUESTGST 1a 7 cGF5bG9hZA== 1c291ca3\\n

direction tag, the host's and the guest's session id, sequence, acknowledgement, payload, CRC-32 (PROTOCOL.md, "Lines").
Printable, because a tty in its cooked first state eats and echoes control characters (termios(3), ICANON and ECHO).
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64, crc32
from typing import Final

import msgspec

from pv_channel.errors import Malformed

#: A line with its newline. Under the 2,048 bytes of a PV console's guest-to-host ring (xen/include/public/io/console.h).
MAX_LINE_BYTES: Final = 1900

HOST_SPEAKS: Final = b">"
GUEST_SPEAKS: Final = b"<"

#: Random bytes in a session id; written as eight characters of base64url (RFC 4648, section 5).
SESSION_ID_BYTES: Final = 6
#: Stands where a session id is not known yet. It is no base64url, so it can be nobody's.
NO_SESSION: Final = b"." * 8

#: Sequence numbers are at most eight hexadecimal digits; a session ends before it would need a ninth.
MAX_SEQUENCE: Final = 0xFFFF_FFFF

_NUMBER = rb"(0|[1-9a-f][0-9a-f]{0,7})"
_ID = rb"([A-Za-z0-9_-]{8}|\.{8})"
# A tty that turns \n into \r\n (termios(3), ONLCR) leaves a carriage return at the end.
_LINE: Final = re.compile(
    rb"(([<>]) " + _ID + rb" " + _ID + rb" " + _NUMBER + rb" " + _NUMBER + rb" )([A-Za-z0-9+/]*={0,2}) ([0-9a-f]{8})\r?"
)


def session_id(raw: bytes) -> bytes:
    """The eight characters of a session id from its `SESSION_ID_BYTES` random bytes."""
    return b2a_base64(raw, newline=False).replace(b"+", b"-").replace(b"/", b"_")


class Line(msgspec.Struct, frozen=True):
    """One parsed line. *header* is what stands before the payload, and is what a sealed payload authenticates besides itself."""

    header: bytes
    direction: bytes
    host: bytes
    guest: bytes
    sequence: int
    acknowledgement: int
    payload: bytes


def header(direction: bytes, host: bytes, guest: bytes, sequence: int, acknowledgement: int) -> bytes:
    """The part of a line before its payload, the separating space included."""
    return b"%b %b %b %x %x " % (direction, host, guest, sequence, acknowledgement)


def finish(head: bytes, payload: bytes) -> bytes:
    """The whole line from its header and its raw payload, newline included."""
    body = head + b2a_base64(payload, newline=False)
    return b"%b %08x\n" % (body, crc32(body))


def parse(raw: bytes) -> Line:
    """Parse one line without its newline (a carriage return before that is ignored); raise `Malformed` for anything else."""
    match = _LINE.fullmatch(raw)
    if match is None:
        raise Malformed("not a line of this protocol")
    head, direction, host, guest, sequence, acknowledgement, text, crc = match.groups()
    if int(crc, 16) != crc32(text, crc32(head)):
        raise Malformed("a line whose CRC-32 is wrong")
    try:
        payload = a2b_base64(text)
    except Base64Error:
        payload = b""
    if b2a_base64(payload, newline=False) != text:  # canonical base64 only (RFC 4648, section 3.5)
        raise Malformed("a line whose payload is not canonical base64")
    return Line(head, direction, host, guest, int(sequence, 16), int(acknowledgement, 16), payload)


def payload_room(head: bytes, line_bytes: int = MAX_LINE_BYTES) -> int:
    """How many raw payload bytes fit in a line of *line_bytes* behind *head*."""
    return max((line_bytes - len(head) - len(" 01234567\n")) // 4 * 3, 0)


class LineReader:
    """Cut a stream into lines, holding at most one line's worth of it; what is longer than a line is dropped and counted."""

    __slots__ = ("_rest", "_skipping", "overlong")

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self.overlong = 0

    @property
    def is_empty(self) -> bool:
        """Whether the stream is between two lines."""
        return not self._rest and not self._skipping

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; return the lines that are now complete, without their newlines."""
        if data.find(b"\n") == len(data) - 1 and 1 < len(data) <= MAX_LINE_BYTES and not self._rest and not self._skipping:
            return [data[:-1]]  # one line and nothing else, as nearly always
        *complete, rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        if complete and self._skipping:
            self._skipping = False
            complete.pop(0)
        if len(rest) >= MAX_LINE_BYTES:
            if not self._skipping:
                self.overlong += 1
            self._skipping, rest = True, b""
        self._rest = b"" if self._skipping else rest
        short = [line for line in complete if len(line) < MAX_LINE_BYTES]
        self.overlong += len(complete) - len(short)
        return [line for line in short if line]
