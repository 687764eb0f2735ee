# SPDX-License-Identifier: Apache-2.0
"""The host's own key, an authority's key, and the certificate that joins them: made, read and kept in private files."""

from __future__ import annotations

import platform
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import BadFile, shown
from host_agent.files import PUBLIC_FILE, private_directory, read_private, write_whole
from pv_channel.errors import LocalError, PvChannelError
from pv_channel.noise import KeyPair
from pv_channel.text import printable
from pv_channel.trust import AUTHORITY_TYPE, HOST_KEY_TYPE, KEY_BYTES, Certificate, fingerprint, format_key, parse_trusted, sign

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: What a file of ours starts with, so that no key is taken for another kind.
HOST_PRIVATE_TYPE: Final = "pv-host-x25519-private"
AUTHORITY_PRIVATE_TYPE: Final = "pv-authority-ed25519-private"
CERTIFICATE_TYPE: Final = "pv-host-certificate"

HOST_KEY_NAME: Final = "host.key"
AUTHORITY_NAME: Final = "authority.key"
#: A type, 32 bytes or a certificate as base64, and a comment.
_MAX_FILE_BYTES: Final = 2048


class Identity(NamedTuple):
    """Who this host is to a guest."""

    key: KeyPair
    certificate: Certificate | None = None

    @property
    def fingerprint(self) -> str:
        """Of the host's public key."""
        return fingerprint(self.key.public)

    def same_as(self, other: Identity) -> bool:
        """Whether no guest could tell the two apart."""
        return (self.key.public, self.certificate) == (other.key.public, other.certificate)


def beside(path: Path, suffix: str) -> Path:
    """The file that belongs to the key file *path*: its public half or its certificate."""
    return path.with_suffix(suffix)


def load(directory: Path) -> Identity | None:
    """This host's identity as it is kept in *directory*, None without one; raise `BadFile` for files that cannot be it."""
    path = directory / HOST_KEY_NAME
    try:
        key = KeyPair.from_private(_secret(path, HOST_PRIVATE_TYPE))
    except FileNotFoundError:
        return None
    certificate = _certificate(beside(path, ".cert"), key.public)
    return Identity(key, certificate)


def load_or_create(directory: Path, comment: str) -> tuple[Identity, bool]:
    """This host's identity, and whether it was made just now; raise `BadFile`."""
    private_directory(directory)
    found = load(directory)
    if found is not None:
        return found, False
    try:
        create_host_key(directory, comment, replace=False)
        created = True
    except FileExistsError:  # another of us was quicker
        created = False
    return existing(directory), created


def create_host_key(directory: Path, comment: str, *, replace: bool) -> KeyPair:
    """Make this host's key in *directory*; an old certificate goes. Raise `FileExistsError` for a key that *replace* spares."""
    private_directory(directory)
    path, key = directory / HOST_KEY_NAME, KeyPair.generate()
    write_whole(path, _line(HOST_PRIVATE_TYPE, key.private_bytes(), comment), replace=replace)
    beside(path, ".cert").unlink(missing_ok=True)
    write_whole(beside(path, ".pub"), (format_key(HOST_KEY_TYPE, key.public, comment) + "\n").encode("ascii"), PUBLIC_FILE)
    return key


def create_authority(path: Path, comment: str) -> bytes:
    """Make an authority's key file and its ``.pub``; return the public half. Raise `FileExistsError` where there is one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    write_whole(path, _line(AUTHORITY_PRIVATE_TYPE, key.private_bytes_raw(), comment), replace=False)
    write_whole(beside(path, ".pub"), (format_key(AUTHORITY_TYPE, public, comment) + "\n").encode("ascii"), PUBLIC_FILE)
    return public


def identify(state: Path, tell: Callable[[str], None]) -> Identity:
    """This host's identity, made on first use; *tell* hears of that. Raise `BadFile`."""
    try:
        identity, created = load_or_create(state, platform.node())
    except OSError as exc:
        raise BadFile(f"{shown(exc.filename or state)}: {exc.strerror}") from None
    if created:
        tell(f"made this host's key {identity.fingerprint} in {shown(state)}; 'keys show' prints the line a template pins")
    return identity


def sign_host_key(authority: Path, public: Path, *, label: str, issued: int) -> tuple[Path, Certificate]:
    """Sign the host key in the file *public* and put the certificate beside it; raise `BadFile` for what cannot be signed."""
    try:
        private = _secret(authority, AUTHORITY_PRIVATE_TYPE)
    except FileNotFoundError:
        raise BadFile(f"{shown(authority)}: no such file; cure: pv-host-agent keys authority FILE") from None
    host_key = _host_public(public)
    try:
        certificate = sign(private, host_key, issued=issued, label=label)
    except LocalError as exc:
        raise BadFile(f"--label: {exc}") from None
    path = beside(public, ".cert")
    write_whole(path, _line(CERTIFICATE_TYPE, certificate.encode(), label), PUBLIC_FILE)
    return path, certificate


def existing(directory: Path) -> Identity:
    """This host's identity, which has been made; raise `BadFile` where it cannot be read, or is gone."""
    try:
        identity = load(directory)
    except OSError as exc:
        raise BadFile(f"{shown(exc.filename or directory)}: {exc.strerror}") from None
    if identity is None:
        raise BadFile(f"{shown(directory / HOST_KEY_NAME)}: was there and is gone; is something else using this directory?")
    return identity


def _line(kind: str, data: bytes, comment: str) -> bytes:
    text = f"{kind} {b2a_base64(data, newline=False).decode('ascii')} {printable(comment)}".rstrip()
    return text.encode("ascii") + b"\n"


def _secret(path: Path, kind: str) -> bytes:
    return _decoded(path, read_private(path, _MAX_FILE_BYTES), kind, KEY_BYTES)


def _decoded(path: Path, data: bytes, kind: str, length: int | None) -> bytes:
    """What the one line in *data* holds; the message of the `BadFile` otherwise quotes nothing of it."""
    fields = data.split(maxsplit=2)
    try:
        if fields[0] != kind.encode("ascii"):
            raise ValueError
        value = a2b_base64(fields[1], strict_mode=True)
        if length is not None and len(value) != length:
            raise ValueError
    except (IndexError, ValueError):
        raise BadFile(f"{shown(path)}: expected one line '{kind} BASE64'; is it damaged, or another kind of file?") from None
    return value


def _certificate(path: Path, host_key: bytes) -> Certificate | None:
    try:
        data = path.read_bytes()[:_MAX_FILE_BYTES]
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}") from None
    try:
        certificate = Certificate.decode(host_key, _decoded(path, data, CERTIFICATE_TYPE, None))
        certificate.verify()
    except PvChannelError as exc:
        raise BadFile(
            f"{shown(path)}: not a certificate of the host key beside it ({exc}); cure: keys sign again, or remove it"
        ) from None
    return certificate


def _host_public(path: Path) -> bytes:
    try:
        keys = parse_trusted(path.read_text("ascii")).host_keys
    except (OSError, UnicodeDecodeError, LocalError) as exc:
        raise BadFile(f"{shown(path)}: {printable(exc, 200)}; expected a host's public key, as 'keys show' prints it") from None
    if len(keys) != 1:
        raise BadFile(f"{shown(path)}: expected one line '{HOST_KEY_TYPE} BASE64', found {len(keys)}")
    return next(iter(keys))
