# SPDX-License-Identifier: Apache-2.0
"""What a host asks its fleet's authority for: a certificate for its key, under a label, with a proof that it holds that key."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.authorities import key_lines
from host_agent.authorities.possession import check, prove
from host_agent.errors import BadFile, shown
from pv_channel.errors import LocalError, NotAuthenticated
from pv_channel.text import printable
from pv_channel.trust import KEY_BYTES, MAX_LABEL_BYTES, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from pv_channel.noise import KeyPair

REQUEST_TYPE: Final = "pv-host-request"
_FIXED: Final = struct.Struct(">32s32sB")
_PROOF_BYTES: Final = 32


class Request(NamedTuple):
    """The host that holds *host_key* wants *authority* to call it *label*."""

    authority: bytes
    host_key: bytes
    label: str
    proof: bytes

    def line(self) -> bytes:
        """As it goes to the authority."""
        return key_lines.line(REQUEST_TYPE, self._asked + self.proof, self.label)

    @property
    def _asked(self) -> bytes:
        label = self.label.encode("ascii")
        return _FIXED.pack(self.authority, self.host_key, len(label)) + label

    def check(self, private: bytes, public: bytes) -> None:
        """Raise `BadFile` unless it is for the authority that holds *private*, and by who holds the host key."""
        if self.authority != public:
            raise BadFile(f"the request is for the authority {fingerprint(self.authority)}, and this is {fingerprint(public)}")
        try:
            check(private, public, self.host_key, self._asked, self.proof)
        except NotAuthenticated:
            problem = "the request was not made by who holds the host key in it, or was changed since; have it made anew"
            raise BadFile(problem) from None


def ask(key: KeyPair, authority: bytes, label: str) -> Request:
    """The request of the host with *key*; raise `BadFile` for a label that cannot be one, or an authority that is none."""
    if not 0 < len(label) <= MAX_LABEL_BYTES or printable(label, MAX_LABEL_BYTES) != label:
        raise BadFile(f"--label: a label has 1 to {MAX_LABEL_BYTES} printable ASCII characters")
    unproven = Request(authority, key.public, label, b"")
    try:
        return unproven._replace(proof=prove(key, authority, unproven._asked))
    except LocalError as exc:
        raise BadFile(f"--authority: {exc}") from None


def parse(data: bytes, path: Path) -> Request:
    """The request that the file *path* holds, not yet checked; raise `BadFile`."""
    raw = key_lines.decoded(path, data, REQUEST_TYPE)
    if len(raw) > _FIXED.size:
        authority, host_key, length = _FIXED.unpack_from(raw)
        label, proof = raw[_FIXED.size : _FIXED.size + length], raw[_FIXED.size + length :]
        if 0 < length <= MAX_LABEL_BYTES and len(proof) == _PROOF_BYTES and printable(label) == label.decode("latin-1"):
            return Request(authority, host_key, label.decode("ascii"), proof)
    raise BadFile(f"{shown(path)}: a request of the wrong shape; is it damaged? Keys have {KEY_BYTES} bytes")
