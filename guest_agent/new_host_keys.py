# SPDX-License-Identifier: Apache-2.0
"""Make ssh host keys as ssh-keygen(1) makes them: its default sizes, in OpenSSH's own format (PROTOCOL.key of OpenSSH).

Written by hand: what `cryptography` writes keys with loads another 1.5 MiB of modules, in a guest that is about to boot.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from typing import Final, NamedTuple

#: ssh-keygen's default.
_RSA_BITS: Final = 3072
#: What stands in front of one key that no passphrase protects: cipher, key derivation and its options, number of keys.
_PLAIN: Final = b"openssh-key-v1\0\0\0\0\4none\0\0\0\4none\0\0\0\0\0\0\0\1"
_COLUMNS: Final = 70
#: The cipher's block, which "none" has too.
_BLOCK: Final = 8


class Pair(NamedTuple):
    """The contents of a private key's file and of the public one's beside it."""

    private: bytes
    public: bytes


def make(kind: str, comment: str) -> Pair:
    """A new key of *kind*: ``ed25519``, ``ecdsa`` or ``rsa``."""
    public, private = {"ed25519": _ed25519, "ecdsa": _ecdsa, "rsa": _rsa}[kind]()
    remark = comment.encode("ascii", "replace")
    check = os.urandom(4)
    secret = check + check + _strings(*private, remark)
    secret += bytes(range(1, -len(secret) % _BLOCK + 1))
    body = b2a_base64(_PLAIN + _strings(_strings(*public), secret), newline=False)
    lines = [body[start : start + _COLUMNS] for start in range(0, len(body), _COLUMNS)]
    armour = [b"-----BEGIN OPENSSH PRIVATE KEY-----", *lines, b"-----END OPENSSH PRIVATE KEY-----", b""]
    blob = b2a_base64(_strings(*public), newline=False)
    return Pair(b"\n".join(armour), b"%s %s %s\n" % (public[0], blob, remark))


def _ed25519() -> tuple[list[bytes], list[bytes]]:
    """The strings of a new key's public half, and those of its private section."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public = [b"ssh-ed25519", key.public_key().public_bytes_raw()]
    return public, [*public, key.private_bytes_raw() + public[1]]


def _ecdsa() -> tuple[list[bytes], list[bytes]]:
    from cryptography.hazmat.primitives.asymmetric import ec

    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    point = b"\4" + numbers.public_numbers.x.to_bytes(32, "big") + numbers.public_numbers.y.to_bytes(32, "big")
    public = [b"ecdsa-sha2-nistp256", b"nistp256", point]
    return public, [*public, _mpint(numbers.private_value)]


def _rsa() -> tuple[list[bytes], list[bytes]]:
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS).private_numbers()
    n, e = key.public_numbers.n, key.public_numbers.e
    private = [_mpint(number) for number in (n, e, key.d, key.iqmp, key.p, key.q)]
    return [b"ssh-rsa", _mpint(e), _mpint(n)], [b"ssh-rsa", *private]


def _mpint(number: int) -> bytes:
    """A positive number (RFC 4251, section 5): no zero in front but the one that keeps it positive."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _strings(*strings: bytes) -> bytes:
    """Each with its length in front (RFC 4251, section 5)."""
    return b"".join(len(string).to_bytes(4, "big") + string for string in strings)
