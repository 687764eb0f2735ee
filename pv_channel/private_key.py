# SPDX-License-Identifier: Apache-2.0
"""An unencrypted private key in OpenSSH's own format (PROTOCOL.key of OpenSSH): whether it is whole, and its public half.

Read by hand: `cryptography` tests an RSA key's primes for seconds, raises more than it says, and is slow to load.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Final

from pv_channel.ssh_key import SshKey

if TYPE_CHECKING:
    from collections.abc import Sequence

_BEGIN: Final = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
_END: Final = "-----END OPENSSH PRIVATE KEY-----\n"
_MAGIC: Final = b"openssh-key-v1\0"
#: What stands in front of one key that no passphrase protects: cipher, key derivation and its options, number of keys.
_PLAIN: Final = _MAGIC + b"\0\0\0\4none\0\0\0\4none\0\0\0\0\0\0\0\1"


def public_half(text: str) -> str:
    """The public key that belongs to the private one in *text*, ``type blob``; raise `ValueError` that repeats none of it.

    *text* is the armour and nothing else, ended by one newline.
    """
    try:
        if not text.startswith(_BEGIN) or not text.endswith(_END):
            raise ValueError
        raw = a2b_base64("".join(text[len(_BEGIN) : -len(_END)].split("\n")).encode("ascii"), strict_mode=True)
        if not raw.startswith(_PLAIN):
            raise ValueError
        (public, private), rest = _strings(raw[len(_PLAIN) :], 2)
        if rest or len(private) % 8 or private[:4] != private[4:8]:
            raise ValueError
        kind, fields = _fields_of(private[8:])
        _check_pair(kind, fields, _strings_of(public))
    except ValueError:
        raise ValueError("expected a private key without a passphrase, in OpenSSH's format, and nothing else") from None
    line = f"{kind.decode('ascii')} {b2a_base64(public, newline=False).decode('ascii')}"
    return SshKey(line)  # its types and sizes are those of any key that is allowed


_FIELDS: Final = {b"ssh-ed25519": 2, b"ssh-rsa": 6, **{b"ecdsa-sha2-nistp" + bits: 3 for bits in (b"256", b"384", b"521")}}


def _fields_of(private: bytes) -> tuple[bytes, list[bytes]]:
    """Type and fields of the private section; behind them a comment, and the bytes 1, 2, 3 …, at most eight, to fill a block."""
    (kind,), rest = _strings(private, 1)
    fields, rest = _strings(rest, _FIELDS.get(kind, 0))
    _, padding = _strings(rest, 1)
    if not fields or len(padding) > 8 or padding != bytes(range(1, len(padding) + 1)):
        raise ValueError
    return kind, fields


def _check_pair(kind: bytes, fields: Sequence[bytes], public: Sequence[bytes]) -> None:
    """Raise `ValueError` where *fields* are not the private key to *public*."""
    if kind == b"ssh-ed25519":
        good = [kind, fields[0]] == public and fields[1][32:] == fields[0] == _ed25519_public(fields[1][:32])
    elif kind == b"ssh-rsa":
        n, e, d, inverse, p, q = (int.from_bytes(field, "big") for field in fields)
        good = [kind, fields[1], fields[0]] == public and p > 2 and q > 2 and n == p * q and inverse * q % p == 1
        good = good and (e * d - 1) % (p - 1) == 0 and (e * d - 1) % (q - 1) == 0
    else:
        good = [kind, *fields[:2]] == public and fields[1] == _ecdsa_public(fields[0], int.from_bytes(fields[2], "big"))
    if not good:
        raise ValueError


def _ed25519_public(seed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _ecdsa_public(curve: bytes, number: int) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    curves: dict[bytes, ec.EllipticCurve] = {
        b"nistp256": ec.SECP256R1(),
        b"nistp384": ec.SECP384R1(),
        b"nistp521": ec.SECP521R1(),
    }
    if curve not in curves or not number:
        raise ValueError
    return ec.derive_private_key(number, curves[curve]).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _strings(raw: bytes, count: int) -> tuple[list[bytes], bytes]:
    """*count* strings (RFC 4251, section 5) and what is behind them."""
    found = []
    for _ in range(count):
        length = int.from_bytes(raw[:4], "big")
        if len(raw) < 4 + length:
            raise ValueError
        found.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return found, raw


def _strings_of(raw: bytes) -> list[bytes]:
    """The strings that fill *raw*; no public key has more than four."""
    found: list[bytes] = []
    while raw and len(found) < 4:
        (one,), raw = _strings(raw, 1)
        found.append(one)
    return [] if raw else found
