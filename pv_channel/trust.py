# SPDX-License-Identifier: Apache-2.0
"""Whom a guest believes: a host key that was pinned, one that a pinned authority signed, or else the first it meets.

An authority is an Ed25519 key of a fleet; each dom0 has an X25519 host key of its own and a certificate for it. A key of
either kind that is revoked is not believed, whoever pinned it or signed for it.
"""

from __future__ import annotations

import re
import struct
from binascii import a2b_base64, b2a_base64
from enum import Enum
from typing import Final

import msgspec

from pv_channel.digest import sha256
from pv_channel.errors import LocalError, Malformed, NotAuthenticated, Revoked
from pv_channel.text import printable

#: Bytes of every key that is written down here: X25519 and Ed25519 public keys both have 32.
KEY_BYTES: Final = 32
#: An operator's name for a dom0 inside its certificate: enough for a host name's label.
MAX_LABEL_BYTES: Final = 64

#: What `fingerprint` makes.
FINGERPRINT: Final = re.compile(r"SHA256:[0-9a-f]{8}(?:-[0-9a-f]{8}){4}", re.ASCII)

_SIGNATURE_BYTES: Final = 64
_CONTEXT: Final = b"pv-channel host key certificate 1\0"
_FIXED: Final = struct.Struct(">32sQB")


def fingerprint(public_key: bytes) -> str:
    """How a key is shown to people: ``SHA256:`` and the first 40 hexadecimal digits of its hash, in groups."""
    return "SHA256:" + sha256(public_key)[:20].hex("-", 4)


class Certificate(msgspec.Struct, frozen=True):
    """An authority's word that *host_key* is a host of its fleet.

    *issued* is in seconds since 1970 and informs people; a guest on first boot may have no clock to hold against it.
    """

    host_key: bytes
    authority: bytes
    issued: int
    label: str
    signature: bytes

    def encode(self) -> bytes:
        """Everything but the host key, which stands beside a certificate wherever there is one."""
        label = self.label.encode("ascii")
        return _FIXED.pack(self.authority, self.issued, len(label)) + label + self.signature

    @classmethod
    def decode(cls, host_key: bytes, data: bytes) -> Certificate:
        """The inverse of `encode`; raise `Malformed`. Verifies nothing."""
        if len(data) < _FIXED.size:
            raise Malformed("a certificate that is cut short")
        authority, issued, length = _FIXED.unpack_from(data)
        label, signature = data[_FIXED.size : _FIXED.size + length], data[_FIXED.size + length :]
        if not 0 < length <= MAX_LABEL_BYTES or len(signature) != _SIGNATURE_BYTES or printable(label) != label.decode("latin-1"):
            raise Malformed("a certificate of the wrong shape")
        return cls(host_key, authority, issued, label.decode("ascii"), signature)

    @property
    def signed(self) -> bytes:
        """The bytes that the authority's signature covers."""
        label = self.label.encode("ascii")
        return _CONTEXT + self.host_key + struct.pack(">QB", self.issued, len(label)) + label

    def verify(self) -> None:
        """Raise `NotAuthenticated` unless the signature is the authority's."""
        # Loaded here: a guest without an authority has no use for Ed25519, and its start is a budget.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.authority).verify(self.signature, self.signed)
        except (InvalidSignature, ValueError):
            raise NotAuthenticated("a certificate whose signature does not verify") from None


def sign(authority_private: bytes, host_key: bytes, *, issued: int, label: str) -> Certificate:
    """Certify *host_key* with the authority's Ed25519 private key; raise `LocalError` for a label that cannot be one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not 0 < len(label) <= MAX_LABEL_BYTES or printable(label) != label:
        raise LocalError(f"a label has 1 to {MAX_LABEL_BYTES} printable ASCII characters")
    if len(host_key) != KEY_BYTES or not 0 <= issued < 2**64:
        raise LocalError("no such host key or date can be certified")
    key = Ed25519PrivateKey.from_private_bytes(authority_private)
    unsigned = Certificate(host_key, key.public_key().public_bytes_raw(), issued, label, b"")
    return msgspec.structs.replace(unsigned, signature=key.sign(unsigned.signed))


class Verdict(Enum):
    """Why a host key is believed."""

    PINNED = "pinned"
    CERTIFIED = "certified"
    FIRST_USE = "first-use"


class Trust(msgspec.Struct, frozen=True):
    """What a guest holds against a host key. With nothing pinned, the first host key it meets is believed, and then pinned.

    *revoked* are fingerprints, of hosts' keys and of authorities'. What is pinned and revoked is pinned still: where all of it
    is, nobody is believed, and never the first.
    """

    host_keys: frozenset[bytes] = frozenset()
    authorities: frozenset[bytes] = frozenset()
    revoked: frozenset[str] = frozenset()

    def __or__(self, other: Trust) -> Trust:
        """What is pinned by one of the two, and what is revoked by one of them."""
        return Trust(self.host_keys | other.host_keys, self.authorities | other.authorities, self.revoked | other.revoked)

    @property
    def pinned(self) -> frozenset[bytes]:
        """All keys that are pinned, revoked ones too."""
        return self.host_keys | self.authorities

    @property
    def believed(self) -> frozenset[bytes]:
        """The pinned keys that are not revoked."""
        if not self.revoked:
            return self.pinned
        return frozenset(key for key in self.pinned if fingerprint(key) not in self.revoked)

    def judge(self, host_key: bytes, certificate: Certificate | None) -> Verdict:
        """Why *host_key* is believed, or raise `NotAuthenticated`; `Revoked` where it, or who signed for it, was once."""
        self._check(host_key)
        if host_key in self.host_keys:
            return Verdict.PINNED
        if certificate is not None and certificate.host_key == host_key:
            self._check(certificate.authority)
            if certificate.authority in self.authorities:
                certificate.verify()
                return Verdict.CERTIFIED
        if not self.pinned:
            return Verdict.FIRST_USE
        raise NotAuthenticated(f"a host key that nothing pinned here vouches for: {fingerprint(host_key)}")

    def _check(self, key: bytes) -> None:
        if self.revoked and fingerprint(key) in self.revoked:
            raise Revoked(key, f"a key that is revoked here: {fingerprint(key)}")


#: How public keys are written in files, one a line: type, base64, and a comment for people.
HOST_KEY_TYPE: Final = "pv-host-x25519"
AUTHORITY_TYPE: Final = "pv-authority-ed25519"
GUEST_KEY_TYPE: Final = "pv-guest-x25519"
#: And what is believed no more: type, fingerprint, comment.
REVOKED_TYPE: Final = "pv-revoked"


def format_key(kind: str, public_key: bytes, comment: str = "") -> str:
    """A public key as a line of a file, without its newline."""
    return f"{kind} {b2a_base64(public_key, newline=False).decode('ascii')} {comment}".rstrip()


def parse_key(kind: str, text: str) -> bytes:
    """The key in a line of type *kind*; raise `ValueError`, which quotes nothing, where it is another kind of line, or none."""
    fields = text.split(maxsplit=2)
    if len(fields) < 2 or fields[0] != kind:
        raise ValueError(f"expected '{kind} BASE64'")
    key = a2b_base64(fields[1].encode("ascii"), strict_mode=True)
    if len(key) != KEY_BYTES:
        raise ValueError(f"expected '{kind} BASE64'")
    return key


def parse_trusted(text: str) -> Trust:
    """What a file of trusted keys pins and revokes; blank lines and ``#`` comments are passed over.

    Raise `LocalError` naming the line.
    """
    pinned: dict[str, set[bytes]] = {HOST_KEY_TYPE: set(), AUTHORITY_TYPE: set()}
    revoked: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        kind, *rest = line.split(maxsplit=2) or ["#"]
        if kind.startswith("#"):
            continue
        try:
            if kind == REVOKED_TYPE and rest and FINGERPRINT.fullmatch(rest[0]):
                revoked.add(rest[0])
            else:
                pinned[kind].add(parse_key(kind, line))
        except (KeyError, ValueError):
            expected = f"'{HOST_KEY_TYPE} BASE64', '{AUTHORITY_TYPE} BASE64' or '{REVOKED_TYPE} FINGERPRINT'"
            begins = printable(kind, 40)  # and what follows is not quoted: it may be a private key
            raise LocalError(f"line {number}: expected {expected}, got a line that begins '{begins}'") from None
    return Trust(frozenset(pinned[HOST_KEY_TYPE]), frozenset(pinned[AUTHORITY_TYPE]), frozenset(revoked))
