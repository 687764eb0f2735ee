# SPDX-License-Identifier: Apache-2.0
"""Whom a guest shall believe from now on: authorities and hosts by name, and keys that are revoked (a document's ``host_trust``).

All three are mappings, so that what several files say of them goes together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import msgspec

from pv_channel.trust import AUTHORITY_TYPE, FINGERPRINT, HOST_KEY_TYPE, fingerprint, format_key, parse_key
from pv_channel.values import Value, matching, share_defaults

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A fleet has one, and two while it changes them.
MAX_AUTHORITIES: Final = 64
#: Of hosts that no authority signs for.
MAX_HOSTS: Final = 256
#: Each takes a line of the guest's file for as long as the guest lives.
MAX_REVOKED: Final = 1024

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class _PublicKey(Value):
    """A public key as `pv-host-agent keys show` prints it: type and base64. A comment behind them is not kept."""

    __slots__ = ()
    _TYPE: ClassVar[str]

    @classmethod
    def check(cls, text: str) -> str:
        """One line of the right type."""
        try:
            return format_key(cls._TYPE, parse_key(cls._TYPE, text))
        except ValueError:
            raise ValueError(f"expected '{cls._TYPE} BASE64'") from None  # not quoted: it may be a private key

    @property
    def raw(self) -> bytes:
        """The key's 32 bytes."""
        return parse_key(self._TYPE, self)


class AuthorityKey(_PublicKey):
    """An authority's public key: ``pv-authority-ed25519`` and base64, as `pv-host-agent keys` prints it."""

    __slots__ = ()
    _TYPE = AUTHORITY_TYPE


class HostKey(_PublicKey):
    """A host's public key: ``pv-host-x25519`` and base64, as `pv-host-agent keys show` prints it."""

    __slots__ = ()
    _TYPE = HOST_KEY_TYPE


class Note(Value):
    """A few words for people: why a key was revoked."""

    __slots__ = ()
    _PATTERN: Final = re.compile(r"[ -~]{0,100}", re.ASCII)

    @classmethod
    def check(cls, text: str) -> str:
        """At most 100 printable ASCII characters."""
        return matching(text, cls._PATTERN, "at most 100 printable ASCII characters")


class HostTrust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whom the guest believes besides those that its template pinned, and whom no more.

    *authorities* and *hosts* have names for people; an empty mapping: none of a document's. *revoked* are fingerprints, each with
    why. A guest adds them to those that it has, and no document takes one back.
    """

    authorities: Annotated[dict[str, AuthorityKey], msgspec.Meta(max_length=MAX_AUTHORITIES)] | msgspec.UnsetType = msgspec.UNSET
    hosts: Annotated[dict[str, HostKey], msgspec.Meta(max_length=MAX_HOSTS)] | msgspec.UnsetType = msgspec.UNSET
    revoked: Annotated[dict[str, Note], msgspec.Meta(max_length=MAX_REVOKED)] = {}

    def __post_init__(self) -> None:
        share_defaults(self)
        for revoked in self.revoked:
            matching(revoked, FINGERPRINT, "a fingerprint like SHA256:e3b0c442-98fc1c14-9afbf4c8-996fb924-27ae41e4")
        for name, key in self.believed():
            matching(name, _NAME, "a name of at most 64 letters, digits, '.', '_' and '-'")
            if fingerprint(key.raw) in self.revoked:
                raise ValueError(f"'revoked' has the key of '{name}', which shall be believed; take one of the two away")

    def believed(self) -> Iterator[tuple[str, AuthorityKey | HostKey]]:
        """All that shall be believed, with their names."""
        for named in (self.authorities, self.hosts):
            if named is not msgspec.UNSET:
                yield from named.items()
