# SPDX-License-Identifier: Apache-2.0
"""Noise_KX_25519_ChaChaPoly_SHA256, in the Noise paper's own names (The Noise Protocol Framework, revision 34).

    KX:
      -> s
      ...
      -> e
      <- e, ee, se, s, es

The initiator's static key is known to the responder before the handshake (here it stands in the greeting, and `trust`
decides whether it is believed); the responder's is sent encrypted. One round trip, both sides authenticated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from pv_channel.digest import hkdf_sha256, sha256
from pv_channel.errors import LocalError, NotAuthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL_NAME: Final = b"Noise_KX_25519_ChaChaPoly_SHA256"
#: Bytes of a public key, a private key and a hash (DHLEN and HASHLEN of section 4).
DHLEN: Final = 32
HASHLEN: Final = 32
#: Bytes that encryption adds: Poly1305's tag.
TAG_BYTES: Final = 16
#: Nonces at or above this are reserved (section 5.1).
MAX_NONCE: Final = 2**64 - 1


class KeyPair:
    """An X25519 key pair. Neither its repr nor a pickle of it shows the private half."""

    __slots__ = ("_private", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public: Final[bytes] = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> KeyPair:
        """A new random key pair."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_private(cls, private: bytes) -> KeyPair:
        """The pair whose private half is these 32 bytes; raise `LocalError` for any other number of them."""
        if len(private) != DHLEN:
            raise LocalError(f"a private key has {DHLEN} bytes, this has {len(private)}")
        return cls(X25519PrivateKey.from_private_bytes(private))

    def private_bytes(self) -> bytes:
        """The private half, for writing to a 0600 file and for nothing else."""
        return self._private.private_bytes_raw()

    def dh(self, public_key: bytes) -> bytes:
        """DH(self, public_key); raise `NotAuthenticated` for a point of low order (RFC 7748, section 6.1)."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public_key))
        except ValueError:
            raise NotAuthenticated("a public key that is no good X25519 point") from None

    def __reduce__(self) -> str:
        raise LocalError("a key pair is not pickled")

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


def _nonce(n: int) -> bytes:
    """Four zero bytes and *n* in eight, little-endian (section 12.3); raise `LocalError` where the key is used up."""
    if n >= MAX_NONCE:
        raise LocalError("the key is used up")
    return (n << 32).to_bytes(12, "little")


class CipherState:
    """Section 5.1: a key and the number of messages it has sealed."""

    __slots__ = ("_aead", "_k", "n")

    def __init__(self, k: bytes) -> None:
        self._k = k
        self._aead: ChaCha20Poly1305 | None = None
        self.n = 0

    def rest(self) -> None:
        """Nothing is sealed for a while: let go of what the library prepares for a key, 2 KiB that a microsecond makes anew."""
        self._aead = None

    @property
    def state(self) -> tuple[bytes, int]:
        """The key and the number: what `awake` goes on from. It is the key, and never leaves this process's memory."""
        return self._k, self.n

    @classmethod
    def awake(cls, state: tuple[bytes, int]) -> CipherState:
        """The cipher that had this `state`, which must seal nothing more itself."""
        cipher = cls(state[0])
        cipher.n = state[1]
        return cipher

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        """Seal *plaintext*; a nonce is used once, and running out of them is a `LocalError`."""
        nonce = _nonce(self.n)
        self.n += 1
        return self._cipher().encrypt(nonce, plaintext, ad)

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """Open *ciphertext* or raise `NotAuthenticated`, which leaves the nonce as it was."""
        try:
            plaintext = self._cipher().decrypt(_nonce(self.n), ciphertext, ad)
        except InvalidTag:
            raise NotAuthenticated("a tag that does not verify") from None
        self.n += 1
        return plaintext

    def _cipher(self) -> ChaCha20Poly1305:
        if self._aead is None:
            self._aead = ChaCha20Poly1305(self._k)
        return self._aead

    def __reduce__(self) -> str:
        raise LocalError("a live key is not pickled")


def hkdf(chaining_key: bytes, input_key_material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs (section 4.3)."""
    return hkdf_sha256(chaining_key, input_key_material)


class SymmetricState:
    """Section 5.2: the chaining key, the handshake hash, and a cipher once there is a key."""

    def __init__(self) -> None:
        # The protocol's name is exactly HASHLEN bytes, so it is h as it stands.
        self.h = PROTOCOL_NAME
        self._ck = PROTOCOL_NAME
        self._cipher: CipherState | None = None

    def mix_key(self, input_key_material: bytes) -> None:
        """MixKey."""
        self._ck, temp_k = hkdf(self._ck, input_key_material)
        self._cipher = CipherState(temp_k)

    def mix_hash(self, data: bytes) -> None:
        """MixHash."""
        self.h = sha256(self.h + data)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """EncryptAndHash: plain where there is no key yet."""
        ciphertext = plaintext if self._cipher is None else self._cipher.encrypt_with_ad(self.h, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """DecryptAndHash; raise `NotAuthenticated` where the tag does not verify."""
        plaintext = ciphertext if self._cipher is None else self._cipher.decrypt_with_ad(self.h, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """Split: the initiator's sending cipher, then the responder's."""
        temp_k1, temp_k2 = hkdf(self._ck, b"")
        return CipherState(temp_k1), CipherState(temp_k2)


#: Message 1 is `e` and a payload; message 2 is `e`, an encrypted `s`, and an encrypted payload.
MESSAGE_2_OVERHEAD: Final = DHLEN + DHLEN + TAG_BYTES + TAG_BYTES


class Initiator:
    """The host's half of KX (section 5.3, with the message patterns written out).

    *s* is its static key pair and *e* its ephemeral one, which may serve one handshake only.
    """

    def __init__(self, prologue: bytes, s: KeyPair, e: KeyPair) -> None:
        self._symmetric = SymmetricState()
        self._symmetric.mix_hash(prologue)
        self._symmetric.mix_hash(s.public)
        self._s, self._e = s, e

    def write_message_1(self, payload: bytes = b"") -> bytes:
        """-> e"""
        self._symmetric.mix_hash(self._e.public)
        return self._e.public + self._symmetric.encrypt_and_hash(payload)

    def read_message_2(self, message: bytes) -> tuple[bytes, bytes]:
        """<- e, ee, se, s, es; return the responder's static public key and the payload, or raise `NotAuthenticated`."""
        if len(message) < MESSAGE_2_OVERHEAD:
            raise NotAuthenticated("a handshake message that is too short")
        re, sealed_s, sealed_payload = message[:32], message[32:80], message[80:]
        symmetric = self._symmetric
        symmetric.mix_hash(re)
        symmetric.mix_key(self._e.dh(re))
        symmetric.mix_key(self._s.dh(re))
        rs = symmetric.decrypt_and_hash(sealed_s)
        symmetric.mix_key(self._e.dh(rs))
        return rs, symmetric.decrypt_and_hash(sealed_payload)

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers for (sending, receiving)."""
        return self._symmetric.split()

    @property
    def handshake_hash(self) -> bytes:
        """h, equal on both sides of an undisturbed handshake."""
        return self._symmetric.h


class Responder:
    """The guest's half of KX. *rs* is the initiator's static public key, *e* is made anew by *generate* for message 2."""

    def __init__(self, prologue: bytes, s: KeyPair, rs: bytes, generate: Callable[[], KeyPair] = KeyPair.generate) -> None:
        self._symmetric = SymmetricState()
        self._symmetric.mix_hash(prologue)
        self._symmetric.mix_hash(rs)
        self._s, self._rs, self._generate, self._re = s, rs, generate, b""

    def read_message_1(self, message: bytes) -> bytes:
        """-> e; return the payload, which nothing protects yet."""
        if len(message) < DHLEN:
            raise NotAuthenticated("a handshake message that is too short")
        self._re = message[:DHLEN]
        self._symmetric.mix_hash(self._re)
        return self._symmetric.decrypt_and_hash(message[DHLEN:])

    def write_message_2(self, payload: bytes = b"") -> bytes:
        """<- e, ee, se, s, es; raise `NotAuthenticated` where a key of the initiator is no good point."""
        symmetric, e = self._symmetric, self._generate()
        symmetric.mix_hash(e.public)
        symmetric.mix_key(e.dh(self._re))
        symmetric.mix_key(e.dh(self._rs))
        sealed_s = symmetric.encrypt_and_hash(self._s.public)
        symmetric.mix_key(self._s.dh(self._re))
        return e.public + sealed_s + symmetric.encrypt_and_hash(payload)

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers for (sending, receiving)."""
        theirs, ours = self._symmetric.split()
        return ours, theirs

    @property
    def handshake_hash(self) -> bytes:
        """h, equal on both sides of an undisturbed handshake."""
        return self._symmetric.h
