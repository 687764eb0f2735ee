# SPDX-License-Identifier: Apache-2.0
"""One key of this host follows another: made beside it, made known while the old one serves, put in its place by one rename."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import BadFile, HostError, shown
from host_agent.files import private_directory, sync_directory
from host_agent.keys import HOST_KEY_NAME, Identity, certificate_for, existing, read_identity, write_identity
from pv_channel.noise import KeyPair
from pv_channel.trust import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

NEXT_KEY_NAME: Final = "next.key"


class Installed(NamedTuple):
    """Who this host is now, and the fingerprint of the key that it had before, where that was another."""

    identity: Identity
    before: str | None


def next_of(directory: Path) -> Identity | None:
    """The key that is to follow this host's, None where none is under way; raise `BadFile`."""
    following, now = read_identity(directory / NEXT_KEY_NAME), read_identity(directory / HOST_KEY_NAME)
    return None if now is not None and following is not None and following.key.public == now.key.public else following


def begin(directory: Path) -> tuple[Identity, bool]:
    """The key that is to follow this host's, and whether it was made just now; raise `BadFile`."""
    private_directory(directory)
    existing(directory)
    following = next_of(directory)
    if following is not None:
        return following, False
    made = Identity(KeyPair.generate())
    write_identity(directory / NEXT_KEY_NAME, made, platform.node(), replace=True)
    return made, True


def install(directory: Path, data: bytes, path: Path) -> Installed:
    """Take the certificate in *data*, the file *path*'s: for this host's key, or for the next, which is this host's from then on.

    Raise `BadFile` where it is for neither; then, and where writing fails (`OSError`), everything is as it was.
    """
    now, following = existing(directory), next_of(directory)
    keys = [identity.key for identity in (following, now) if identity is not None]
    for key in keys:
        try:
            return _become(directory, now, Identity(key, certificate_for(key.public, data, path)))
        except BadFile as exc:
            why = exc
    if len(keys) == 1:
        raise why
    ours = " nor of ".join(fingerprint(key.public) for key in keys)
    raise BadFile(f"{shown(path)}: not a certificate of the host key {ours}; cure: pv-host-agent keys request")


def finish(directory: Path) -> Installed:
    """Have the next key be this host's without a certificate, for guests that pinned it; raise `HostError`."""
    now, following = existing(directory), next_of(directory)
    if following is None:
        raise HostError(f"{shown(directory / NEXT_KEY_NAME)}: no key is to follow this host's; cure: pv-host-agent keys rotate")
    return _become(directory, now, following)


def _become(directory: Path, now: Identity, identity: Identity) -> Installed:
    write_identity(directory / HOST_KEY_NAME, identity, platform.node(), replace=True)
    if identity.key.public == now.key.public:
        return Installed(identity, None)
    (directory / NEXT_KEY_NAME).unlink(missing_ok=True)  # what a crash leaves of it here is no next key: it is this host's
    sync_directory(directory)
    return Installed(identity, now.fingerprint)
