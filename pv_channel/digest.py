# SPDX-License-Identifier: Apache-2.0
"""SHA-256 and HKDF by `cryptography`, which is loaded anyway: hashlib would load a second OpenSSL, 4 MB of a guest's memory."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

_SHA256: Final = hashes.SHA256()
#: Of no data yet: a copy of it costs half of what a new one does.
_EMPTY: Final = hashes.Hash(_SHA256)


def sha256(data: bytes) -> bytes:
    """SHA-256 of *data*, 32 bytes."""
    state = _EMPTY.copy()
    state.update(data)
    return state.finalize()


def hkdf_sha256(salt: bytes, input_key_material: bytes) -> tuple[bytes, bytes]:
    """The first two outputs of HKDF-SHA-256 without info, 32 bytes each (RFC 5869)."""
    extract = HMAC(salt, _SHA256)
    extract.update(input_key_material)
    expand = HMAC(extract.finalize(), _SHA256)
    first = expand.copy()
    first.update(b"\x01")
    output1 = first.finalize()
    expand.update(output1 + b"\x02")
    return output1, expand.finalize()
