# SPDX-License-Identifier: Apache-2.0
"""This host's key and the certificate for it, in one private file, so that both are another's at once or not at all."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.authorities import key_lines
from host_agent.authorities.authority import CERTIFICATE_TYPE, certificate_line
from host_agent.errors import BadFile, shown
from host_agent.files import private_directory, read_private, write_whole
from pv_channel.errors import PvChannelError
from pv_channel.noise import KeyPair
from pv_channel.trust import KEY_BYTES, Certificate, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: What the file starts with, so that no key is taken for another kind.
HOST_PRIVATE_TYPE: Final = "pv-host-x25519-private"
HOST_KEY_NAME: Final = "host.key"


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


def read_identity(path: Path) -> Identity | None:
    """The key in the file *path* and its certificate, None without the file; raise `BadFile` for one that cannot be it."""
    try:
        lines = read_private(path, 2 * key_lines.MAX_BYTES).splitlines(keepends=True)
    except FileNotFoundError:
        return None
    key = KeyPair.from_private(key_lines.decoded(path, lines[0] if lines else b"", HOST_PRIVATE_TYPE, KEY_BYTES))
    rest = b"".join(lines[1:])
    return Identity(key, certificate_for(key.public, rest, path) if rest.strip() else None)


def write_identity(path: Path, identity: Identity, comment: str, *, replace: bool) -> None:
    """Give the file *path* the *identity*, whole or not at all; raise `FileExistsError` for one that *replace* spares."""
    content = key_lines.line(HOST_PRIVATE_TYPE, identity.key.private_bytes(), comment)
    if identity.certificate is not None:
        content += certificate_line(identity.certificate)
    write_whole(path, content, replace=replace)


def certificate_for(host_key: bytes, data: bytes, path: Path) -> Certificate:
    """The certificate in the line *data* from the file *path*; raise `BadFile` where it is none for *host_key*."""
    try:
        certificate = Certificate.decode(host_key, key_lines.decoded(path, data, CERTIFICATE_TYPE))
        certificate.verify()
    except PvChannelError as exc:
        raise BadFile(
            f"{shown(path)}: not a certificate of the host key {fingerprint(host_key)} ({exc}); cure: pv-host-agent keys request"
        ) from None
    return certificate


def load(directory: Path) -> Identity | None:
    """This host's identity as it is kept in *directory*, None without one; raise `BadFile` for a file that cannot be it."""
    return read_identity(directory / HOST_KEY_NAME)


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
    key = KeyPair.generate()
    write_identity(directory / HOST_KEY_NAME, Identity(key), comment, replace=replace)
    return key


def identify(state: Path, tell: Callable[[str], None]) -> Identity:
    """This host's identity, made on first use; *tell* hears of that. Raise `BadFile`."""
    try:
        identity, created = load_or_create(state, platform.node())
    except OSError as exc:
        raise BadFile(f"{shown(exc.filename or state)}: {exc.strerror}") from None
    if created:
        tell(f"made this host's key {identity.fingerprint} in {shown(state)}; 'keys show' prints the line a template pins")
    return identity


def existing(directory: Path) -> Identity:
    """This host's identity, which has been made; raise `BadFile` where it cannot be read, or is gone."""
    try:
        identity = load(directory)
    except OSError as exc:
        raise BadFile(f"{shown(exc.filename or directory)}: {exc.strerror}") from None
    if identity is None:
        raise BadFile(f"{shown(directory / HOST_KEY_NAME)}: was there and is gone; is something else using this directory?")
    return identity
