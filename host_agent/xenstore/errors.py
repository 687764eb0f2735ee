# SPDX-License-Identifier: Apache-2.0
"""What xenstore can answer instead of what was asked for: one kind per error that a caller treats differently."""

from __future__ import annotations

from typing import Final

from host_agent.errors import HostError
from pv_channel.text import printable


class XenstoreError(HostError):
    """Xenstore did not do what was asked."""


class Lost(XenstoreError):  # noqa: N818 -- it says what the connection is
    """There is no connection to xenstored, or none any more. Whatever was under way on it may have happened or not."""


class Garbled(Lost):
    """What came is not xenstore's protocol: nothing after it can be understood."""


class Refused(XenstoreError):  # noqa: N818 -- it says what became of the request
    """Xenstored answered with the error *word*, ``EACCES`` for example, about *path*."""

    def __init__(self, word: str, path: str) -> None:
        super().__init__(f"xenstore: {printable(path, 200)}: {printable(word, 40)}")
        self.word, self.path = word, path


class NoEntry(Refused):
    """ENOENT: there is no such node."""


class Forbidden(Refused):
    """EACCES: not for us; or EPERM, as newer daemons say."""


class Invalid(Refused):
    """EINVAL: the path, the permissions or the request itself cannot be."""


class Exists(Refused):
    """EEXIST: there is one already, a watch with this token for example."""


class TooBig(Refused):
    """E2BIG: it does not fit into one message. Said by us, too, before the daemon would drop the connection for it."""


class Again(Refused):
    """EAGAIN: the transaction met somebody else's; nothing of it was done, and all of it can be tried anew."""


_KINDS: Final = {
    "ENOENT": NoEntry,
    "EACCES": Forbidden,
    "EPERM": Forbidden,
    "EINVAL": Invalid,
    "EEXIST": Exists,
    "E2BIG": TooBig,
    "EAGAIN": Again,
}


def refused(word: str, path: str) -> Refused:
    """The error for the daemon's *word* about *path*."""
    return _KINDS.get(word, Refused)(word, path)
