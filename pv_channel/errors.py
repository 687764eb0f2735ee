# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as a tree with two kinds of blame: we called it wrongly, or the peer's bytes are wrong."""

from __future__ import annotations


class PvChannelError(Exception):
    """Everything this package raises on purpose."""


class LocalError(PvChannelError):
    """We used the protocol wrongly; no byte of the peer's can cause it."""


class PeerError(PvChannelError):
    """What came over the channel is wrong; drop it."""


class Malformed(PeerError):  # noqa: N818 -- it says what the bytes are
    """Bytes that are not a line, a greeting or a message of this protocol."""


class NotAuthenticated(PeerError):  # noqa: N818 -- it says what the peer is
    """A key that is not believed, or a tag that does not verify: a person may have to look."""


class Revoked(NotAuthenticated):
    """A host whose *key*, or whose authority's, was revoked here: whoever pins it or signs for it does not change that."""

    def __init__(self, key: bytes, message: str) -> None:
        super().__init__(message)
        self.key = key


class WrongMachine(NotAuthenticated):
    """The greeting is meant for another VM than this one."""


class BadDocument(PvChannelError):  # noqa: N818 -- it says what the document is
    """A document that cannot be what a guest becomes.

    *path* is where in the document (``network.ethernets.eth0.mtu``), *problem* what is wrong there and what was expected.
    Raised for an operator's file and for a peer's bytes alike, so it is on neither side of the blame.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem
