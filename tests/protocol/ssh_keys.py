# SPDX-License-Identifier: Apache-2.0
"""Real keys and certificates, made once a run: OpenSSH's private keys, its host certificates, and X.509 in PEM."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

KINDS = ("ed25519", "ecdsa256", "ecdsa384", "ecdsa521", "rsa2048", "rsa3072")
_CURVES = {"ecdsa256": ec.SECP256R1(), "ecdsa384": ec.SECP384R1(), "ecdsa521": ec.SECP521R1()}


@cache
def key(kind: str, number: int = 0) -> PrivateKey:
    """A key of *kind*; another for another *number*."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(bytes([7 + number]) * 32)
    if kind in _CURVES:
        return ec.derive_private_key(1234567 + number, _CURVES[kind])
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


@cache
def armoured(kind: str, number: int = 0) -> str:
    """The key as ssh-keygen(1) writes it."""
    return key(kind, number).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


@cache
def public(kind: str, number: int = 0) -> str:
    """Its public half, ``type blob``."""
    return key(kind, number).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@cache
def certificate(kind: str, number: int = 0, purpose: SSHCertificateType = SSHCertificateType.HOST) -> str:
    """A certificate for it by an authority of ours."""
    builder = SSHCertificateBuilder().public_key(key(kind, number).public_key()).type(purpose).serial(1).key_id(b"web1")
    builder = builder.valid_principals([b"web1"]).valid_after(0).valid_before(2**63).add_extension(b"x@example.org", b"")
    return builder.sign(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([5]) * 32)).public_bytes().decode()


@cache
def pem(kind: str = "ecdsa256") -> str:
    """An authority's own certificate."""
    ours, now = key(kind), datetime(2026, 1, 1, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(ours.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=3650))
    signed = builder.sign(ours, None if kind == "ed25519" else SHA256())
    return signed.public_bytes(Encoding.PEM).decode()
