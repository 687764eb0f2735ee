# SPDX-License-Identifier: Apache-2.0
"""Prove to an authority that one holds the private half of a host key, which is X25519's and can sign nothing.

This is the static Diffie-Hellman proof of possession of RFC 6955: both agree on a secret, the holder by its private
half and the authority's public one, the authority the other way round, and a MAC under that secret covers what is asked for.
The authority's Ed25519 key is for that taken as the X25519 key that it is by RFC 7748, section 4.1 (the same curve in other
coordinates); that one key may serve both is shown in E. Thormarker, "On using the same key pair for Ed25519 and an X25519 based
KEM" (2021). Nobody but these two can make the proof, or check it.
"""

from __future__ import annotations

import hmac
from hashlib import sha256, sha512
from typing import TYPE_CHECKING, Final

from pv_channel.digest import hkdf_sha256
from pv_channel.errors import LocalError, NotAuthenticated
from pv_channel.noise import KeyPair

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTEXT: Final = b"pv-channel host key request 1\0"
_P: Final = 2**255 - 19


def prove(host: KeyPair, authority: bytes, asked: bytes) -> bytes:
    """The proof to *authority* that who asks for *asked* holds *host*; raise `LocalError` where no such authority can be."""
    try:
        return _proof(host.dh, _montgomery(authority), authority, host.public, asked)
    except NotAuthenticated:
        raise LocalError("the authority's public key is none") from None


def check(authority_private: bytes, authority: bytes, host_key: bytes, asked: bytes, proof: bytes) -> None:
    """Raise `NotAuthenticated` unless who holds *host_key* made *proof* for *asked*, to the authority with this private key."""
    ours = KeyPair.from_private(sha512(authority_private).digest()[:32])  # RFC 8032, section 5.1.5; X25519 clamps it itself
    if not hmac.compare_digest(proof, _proof(ours.dh, host_key, authority, host_key, asked)):
        raise NotAuthenticated("the proof does not verify")


def _proof(agree: Callable[[bytes], bytes], theirs: bytes, authority: bytes, host_key: bytes, asked: bytes) -> bytes:
    key, _ = hkdf_sha256(_CONTEXT + authority + host_key, agree(theirs))
    return hmac.digest(key, asked, sha256)


def _montgomery(ed25519: bytes) -> bytes:
    """The u-coordinate of the point whose y-coordinate an Ed25519 public key is: (1 + y) / (1 - y); raise `LocalError`."""
    y = int.from_bytes(ed25519, "little") & (2**255 - 1)
    if y >= _P or y == 1:
        raise LocalError("the authority's public key is none")
    return ((1 + y) * pow(1 - y, -1, _P) % _P).to_bytes(32, "little")
