# SPDX-License-Identifier: Apache-2.0
"""Write the negative vectors that need a computed part: `python -m tests.protocol.make_bad_vectors`. All must be refused."""

from __future__ import annotations

from binascii import crc32
from typing import Final

import msgspec

from pv_channel import trust
from pv_channel.greeting import GuestGreeting, HostGreeting, Refusal
from pv_channel.line import finish, header, parse
from pv_channel.noise import MESSAGE_2_OVERHEAD
from tests.protocol.blocks import read
from tests.protocol.ends import CHANNEL, HOST_KEY, UUID
from tests.protocol.make_vectors import AUTHORITY_PRIVATE, ISSUED, block, write

_HEAD: Final = b"> HOSTHOST GUESTGST 1a 7 "
_BODY: Final = _HEAD + b"cGF5bG9hZA=="


def _summed(body: bytes) -> bytes:
    """*body* with the right CRC-32: only its shape is wrong."""
    return b"%b %08x" % (body, crc32(body))


def lines() -> list[str]:
    """What is no line, most of it with a right CRC-32."""
    good = _summed(_BODY)
    bad = {
        "nothing": b"",
        "only a direction": b">",
        "a CRC-32 that is one off": good[:-1] + bytes([good[-1] ^ 1]),
        "no CRC-32": _BODY,
        "a CRC-32 in upper case": _BODY + b" " + good[-8:].upper() if good[-8:].upper() != good[-8:] else _BODY + b" ABCDEF01",
        "a CRC-32 of seven digits": _BODY + b" " + good[-7:],
        "a blank in front": _summed(b" " + _BODY),
        "a blank behind": good + b" ",
        "two blanks between fields": _summed(_BODY.replace(b" 1a", b"  1a")),
        "a tab between fields": _summed(_BODY.replace(b" 1a", b"\t1a")),
        "two carriage returns behind": good + b"\r\r",
        "a carriage return inside": _summed(_BODY.replace(b" 7", b"\r7")),
        "a NUL behind": good + b"\0",
        "another direction": _summed(b"=" + _BODY[1:]),
        "an id of seven characters": _summed(_BODY.replace(b"HOSTHOST", b"HOSTHOS")),
        "an id of nine characters": _summed(_BODY.replace(b"HOSTHOST", b"HOSTHOSTS")),
        "an id with a character of base64 that base64url lacks": _summed(_BODY.replace(b"HOSTHOST", b"HOST+OST")),
        "an id that is partly unknown": _summed(_BODY.replace(b"HOSTHOST", b"HOST....")),
        "an id that is not ASCII": _summed(_BODY.replace(b"HOSTHOST", b"HOSTHOS\xe9")),
        "a sequence with a leading zero": _summed(_BODY.replace(b" 1a", b" 01a")),
        "a sequence in upper case": _summed(_BODY.replace(b" 1a", b" 1A")),
        "a sequence with a sign": _summed(_BODY.replace(b" 1a", b" -1")),
        "a sequence with a prefix": _summed(_BODY.replace(b" 1a", b" 0x1a")),
        "a sequence with an underscore": _summed(_BODY.replace(b" 1a", b" 1_a")),
        "a sequence of nine digits": _summed(_BODY.replace(b" 1a", b" 100000000")),
        "no sequence": _summed(_BODY.replace(b" 1a", b"")),
        "an acknowledgement of two zeros": _summed(_BODY.replace(b" 7 ", b" 00 ")),
        "base64 without its padding": _summed(_HEAD + b"cGF5bG9hZA"),
        "base64 with too much padding": _summed(_HEAD + b"cGF5bG9hZA==="),
        "base64 with padding alone": _summed(_HEAD + b"===="),
        "base64 with padding inside": _summed(_HEAD + b"cG==bG9hZA=="),
        "base64 whose unused bits are not zero": _summed(_HEAD + b"cGF5bG9hZB=="),
        "base64 of a length that none has": _summed(_HEAD + b"cGF5b"),
        "base64url in the payload": _summed(_HEAD + b"-_-_"),
        "a second line behind a newline": good + b"\n" + good,
        "an AT command": b"AT+GCAP\r",
        "a login prompt": b"debian login: ",
        "what xencons says on Windows": b"[ATTACHED]",
    }
    return [block(case, line=raw) for case, raw in bad.items()]


def _host_payload(channel: bytes = CHANNEL, version: int = 1, tail: bytes = b"", message_1: bytes = bytes(32)) -> bytes:
    good = HostGreeting(channel, UUID, HOST_KEY.public, None, message_1).encode()
    return bytes([version]) + good[1:] + tail


def greetings() -> list[str]:
    """Payloads that are no greeting."""
    good, answer = _host_payload(), GuestGreeting(None, bytes(MESSAGE_2_OVERHEAD)).encode()
    refusal = GuestGreeting(Refusal.UUID, bytes(16)).encode()
    host = {
        "nothing": b"",
        "version 0": _host_payload(version=0),
        "version 2": _host_payload(version=2),
        "one byte short of a Noise message": good[:-1],
        "the fixed part alone": good[:18],
        "one byte less than the fixed part": good[:17],
        "a name that is longer than the rest": good[:17] + b"\xff" + good[18:],
        "a name of no bytes": _host_payload(b""),
        "a name with a slash": _host_payload(b"org/../x"),
        "a name with a newline": _host_payload(b"org.x\n"),
        "a name with a NUL": _host_payload(b"org\0x"),
        "a name that starts with a dot": _host_payload(b".org"),
        "a name that is not ASCII": _host_payload(b"\xc3\xa9.x"),
        "a name of 129 bytes": _host_payload(b"a" * 129),
        "one byte behind the Noise message": _host_payload(tail=b"x"),
        "a certificate that is cut short": _host_payload(tail=bytes(41)),
    }
    guest = {
        "nothing": b"",
        "a version alone": b"\x01",
        "version 2": b"\x02" + answer[1:],
        "refusal 5": b"\x01\x05" + bytes(16),
        "refusal 255": b"\x01\xff" + bytes(16),
        "an answer one byte too short": answer[:-1],
        "a refusal without a detail": refusal[:2],
        "a refusal with a byte too few": refusal[:-1],
        "a refusal with a byte too many": refusal + b"x",
    }
    cases = [block(f"host, {case}", kind="host", payload=payload) for case, payload in host.items()]
    return cases + [block(f"guest, {case}", kind="guest", payload=payload) for case, payload in guest.items()]


def certificates() -> list[str]:
    """Certificates of a wrong shape (refused: shape) or with a wrong word in them (refused: signature)."""
    made = trust.sign(AUTHORITY_PRIVATE, HOST_KEY.public, issued=ISSUED, label="dom0-a")
    good = made.encode()
    label = 32 + 8 + 1
    shape = {
        "nothing": b"",
        "cut in the fixed part": good[:40],
        "cut in the signature": good[:-1],
        "a byte behind the signature": good + b"x",
        "a label of no bytes": good[:40] + b"\0" + good[label + 6 :],
        "a label of 65 bytes": good[:40] + bytes([65]) + b"a" * 65 + good[label + 6 :],
        "a label with an escape sequence": good[:label] + b"\x1b[31mX" + good[label + 6 :],
        "a label that is not ASCII": good[:label] + b"dom0-\xe9" + good[label + 6 :],
    }
    signature = {
        "another authority": bytes([good[0] ^ 1]) + good[1:],
        "an authority that is no point": b"\xff" * 32 + good[32:],
        "another date": good[:39] + bytes([good[39] ^ 1]) + good[40:],
        "another label": good[:label] + b"dom0-b" + good[label + 6 :],
        "another signature": good[:-1] + bytes([good[-1] ^ 1]),
        "a signature of zeros": good[:-64] + bytes(64),
    }
    host = HOST_KEY.public
    cases = [block(case, refused="shape", host_key=host, encoded=encoded) for case, encoded in shape.items()]
    cases += [block(case, refused="signature", host_key=host, encoded=encoded) for case, encoded in signature.items()]
    return [*cases, block("another host key", refused="signature", host_key=bytes([host[0] ^ 1]) + host[1:], encoded=good)]


def sealed() -> list[str]:
    """The transcript's first sealed line with one thing changed; what the guest counts it as, and its state then."""
    first = parse(read("transcript")[3]["line"].encode())
    flipped = first.payload[:-1] + bytes([first.payload[-1] ^ 1])

    def of(**changed: bytes | int) -> bytes:
        line = msgspec.structs.replace(first, **changed)
        return finish(header(line.direction, line.host, line.guest, line.sequence, line.acknowledgement), line.payload)[:-1]

    def case(what: str, raw: bytes, counted: str, then: str) -> str:
        return block(what, line=raw.decode("ascii"), counted=counted, then=then)

    return [
        case("a bit of the tag", of(payload=flipped), "garbage", "silent"),
        case("a bit of the text", of(payload=bytes([first.payload[0] ^ 1]) + first.payload[1:]), "garbage", "silent"),
        case("a payload cut short", of(payload=first.payload[:-1]), "garbage", "silent"),
        case("no payload", of(payload=b""), "garbage", "silent"),
        case("a tag alone", of(payload=first.payload[-16:]), "garbage", "silent"),
        case("another acknowledgement", of(acknowledgement=1), "garbage", "silent"),
        case("another sequence", of(sequence=2), "garbage", "silent"),
        case("another host session", of(host=b"AAAAEAAB"), "stale", "answered"),
        case("another guest session", of(guest=b"AAAQAAAB"), "stale", "answered"),
        case("the other direction", of(direction=b"<"), "echoes", "answered"),
        case("as a line without sequence", of(sequence=0), "garbage", "answered"),
    ]


def main() -> None:
    """Write the files."""
    write("sealed-bad", "The transcript's first sealed line with one thing changed, its CRC-32 put right.", sealed())
    write("lines-bad", "No lines, without their newline. Most have a right CRC-32: only their shape is wrong.", lines())
    write("greetings-bad", "Payloads of lines without sequence that are no greeting.", greetings())
    write("certificates-bad", "Refused for their shape, or for a signature that does not verify.", certificates())


if __name__ == "__main__":
    main()
