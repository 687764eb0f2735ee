# SPDX-License-Identifier: Apache-2.0
"""What the two greetings carry: who speaks, on which channel, for which VM, and the two Noise messages.

The payloads of the lines with sequence 0 (PROTOCOL.md, "Greetings"). Fixed widths, big-endian, nothing after the end.
"""

from __future__ import annotations

import re
import struct
from enum import Enum
from typing import Final

import msgspec

from pv_channel.errors import LocalError, Malformed
from pv_channel.noise import DHLEN, MESSAGE_2_OVERHEAD
from pv_channel.trust import KEY_BYTES, Certificate

#: The version of everything in PROTOCOL.md; another number is another protocol.
VERSION: Final = 1

#: xl and libxl check neither charset nor length of a name; these are what a name on the bus may be here.
MAX_CHANNEL_NAME_BYTES: Final = 128
_CHANNEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)

#: What stands for "no VM in particular" where the host does not know a uuid: a relay in a test, a guest that is no Xen domain.
NO_UUID: Final = bytes(16)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def channel_name(text: str) -> bytes:
    """*text* as a channel's name; raise `LocalError` for what cannot be one."""
    if not _CHANNEL_NAME.fullmatch(text):
        raise LocalError(
            f"a channel's name has 1 to {MAX_CHANNEL_NAME_BYTES} of A-Z a-z 0-9 . _ - and starts with a letter or a digit"
        )
    return text.encode("ascii")


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a VM's uuid in its usual form, upper or lower case; raise `LocalError` for anything else."""
    lower = text.strip().lower()
    if not _UUID.fullmatch(lower):
        raise LocalError("a uuid looks like 01234567-89ab-cdef-0123-456789abcdef")
    return bytes.fromhex(lower.replace("-", ""))


def uuid_text(raw: bytes) -> str:
    """The usual form of a uuid's 16 bytes."""
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class HostGreeting(msgspec.Struct, frozen=True):
    """The host's greeting, sent again and again until it is answered. Nothing in it is believed before the handshake is done."""

    channel: bytes
    uuid: bytes
    host_key: bytes
    certificate: Certificate | None
    message_1: bytes

    def encode(self) -> bytes:
        """version, uuid, length of the name, name, static key, Noise message 1, certificate or nothing."""
        certificate = b"" if self.certificate is None else self.certificate.encode()
        fixed = struct.pack(">B16sB", VERSION, self.uuid, len(self.channel))
        return fixed + self.channel + self.host_key + self.message_1 + certificate

    @classmethod
    def decode(cls, payload: bytes) -> HostGreeting:
        """The inverse of `encode`; raise `Malformed`."""
        if len(payload) < 18 or payload[0] != VERSION:
            raise Malformed("not a greeting of this version")
        uuid, length = payload[1:17], payload[17]
        name, rest = payload[18 : 18 + length], payload[18 + length :]
        if not _CHANNEL_NAME.fullmatch(name.decode("latin-1")) or len(rest) < KEY_BYTES + DHLEN:
            raise Malformed("a greeting of the wrong shape")
        host_key, message_1, sealed = rest[:KEY_BYTES], rest[KEY_BYTES : KEY_BYTES + DHLEN], rest[KEY_BYTES + DHLEN :]
        return cls(name, uuid, host_key, Certificate.decode(host_key, sealed) if sealed else None, message_1)


class Refusal(Enum):
    """Why a guest answers without a handshake. Unauthenticated: a hint to greet anew or to tell the operator, never more."""

    #: The greeting is for another VM; the detail is this one's uuid.
    UUID = 1
    #: The host's key is not believed here; the detail is the start of the SHA-256 of one that is.
    HOST_KEY = 2
    #: A sealed line came for a session that this guest does not have: it restarted. The detail is empty (zeros).
    SESSION = 3
    #: The host's key, or its authority's, was revoked here; the detail is the start of the SHA-256 of that key.
    REVOKED = 4


#: Bytes of a refusal's detail.
DETAIL_BYTES: Final = 16


class GuestGreeting(msgspec.Struct, frozen=True):
    """The guest's answer: Noise message 2, or a refusal and its detail."""

    refusal: Refusal | None
    body: bytes

    def encode(self) -> bytes:
        """version, refusal or zero, body."""
        return bytes((VERSION, 0 if self.refusal is None else self.refusal.value)) + self.body

    @classmethod
    def decode(cls, payload: bytes) -> GuestGreeting:
        """The inverse of `encode`; raise `Malformed`."""
        if len(payload) < 2 or payload[0] != VERSION or payload[1] > len(Refusal):
            raise Malformed("not an answer of this version")
        refusal, body = (Refusal(payload[1]) if payload[1] else None), payload[2:]
        if (refusal is None and len(body) < MESSAGE_2_OVERHEAD) or (refusal is not None and len(body) != DETAIL_BYTES):
            raise Malformed("an answer of the wrong shape")
        return cls(refusal, body)


def prologue(channel: bytes, uuid: bytes, host_session: bytes, guest_session: bytes) -> bytes:
    """What both sides must agree on besides keys: version, channel, VM, and both session ids (Noise, section 6)."""
    return b"pv-channel\0" + struct.pack(">B16sB", VERSION, uuid, len(channel)) + channel + host_session + guest_session
