# SPDX-License-Identifier: Apache-2.0
"""SHA-256 and HMAC by `cryptography`, which is loaded anyway: hashlib would load a second OpenSSL, 4 MB of a guest's memory."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

_SHA256: Final = hashes.SHA256()


def sha256(data: bytes) -> bytes:
    """SHA-256 of *data*, 32 bytes."""
    state = hashes.Hash(_SHA256)
    state.update(data)
    return state.finalize()


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256 of *data* under *key*, 32 bytes (RFC 2104)."""
    state = HMAC(key, _SHA256)
    state.update(data)
    return state.finalize()
