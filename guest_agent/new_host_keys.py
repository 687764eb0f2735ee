# SPDX-License-Identifier: Apache-2.0
"""Make ssh host keys as ssh-keygen(1) makes them: OpenSSH's format, its default sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

#: ssh-keygen's default.
_RSA_BITS: Final = 3072


class Pair(NamedTuple):
    """The contents of a private key's file and of the public one's beside it."""

    private: bytes
    public: bytes


def make(kind: str, comment: str) -> Pair:
    """A new key of *kind*: ``ed25519``, ``ecdsa`` or ``rsa``."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = _generate(kind)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return Pair(private, b"%s %s\n" % (public, comment.encode("ascii", "replace")))


def _generate(kind: str) -> Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
