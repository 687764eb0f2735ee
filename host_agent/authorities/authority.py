# SPDX-License-Identifier: Apache-2.0
"""An authority's key: made once, kept where no host is, and used to sign what hosts ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.authorities import key_lines
from host_agent.errors import BadFile, shown
from host_agent.files import PUBLIC_FILE, read_private, write_whole
from pv_channel.errors import LocalError
from pv_channel.trust import AUTHORITY_TYPE, KEY_BYTES, Certificate, fingerprint, format_key, parse_key, sign

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.authorities.request import Request

PRIVATE_TYPE: Final = "pv-authority-ed25519-private"
CERTIFICATE_TYPE: Final = "pv-host-certificate"
#: Where one is made that nobody names a place for.
FILE_NAME: Final = "authority.key"


def create(path: Path, comment: str) -> bytes:
    """Make an authority's key file and its ``.pub``; return the public half. Raise `FileExistsError` where there is one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    write_whole(path, key_lines.line(PRIVATE_TYPE, key.private_bytes_raw(), comment), replace=False)
    pin = format_key(AUTHORITY_TYPE, public, comment) + "\n"
    write_whole(path.with_suffix(".pub"), pin.encode("ascii"), PUBLIC_FILE)
    return public


def public_of(path: Path, data: bytes) -> bytes:
    """The public key in *data*, the file *path*'s, as `create` wrote it; raise `BadFile`."""
    try:
        return parse_key(AUTHORITY_TYPE, data.decode("ascii"))
    except ValueError:
        raise BadFile(f"{shown(path)}: expected one line '{AUTHORITY_TYPE} BASE64', the authority's .pub") from None


def certify(path: Path, request: Request, *, label: str, issued: int, expected: str = "") -> Certificate:
    """Sign what *request* asks for with the key in *path*, under *label*; raise `BadFile` for a request that is not to be signed.

    With *expected*, the key in the request must have that fingerprint.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        private = key_lines.decoded(path, read_private(path, key_lines.MAX_BYTES), PRIVATE_TYPE, KEY_BYTES)
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}; cure: pv-host-agent keys authority FILE makes one") from None
    request.check(private, Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())
    found = fingerprint(request.host_key)
    if expected and found != expected:
        raise BadFile(f"the key in the request is {found}, not {shown(expected)}: another host's, or replaced on its way")
    try:
        return sign(private, request.host_key, issued=issued, label=label)
    except LocalError as exc:
        raise BadFile(f"--label: {exc}") from None


def certificate_line(certificate: Certificate) -> bytes:
    """*certificate* as a line of a file. The host key that it is for is not in it."""
    return key_lines.line(CERTIFICATE_TYPE, certificate.encode(), certificate.label)
