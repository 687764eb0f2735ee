# SPDX-License-Identifier: Apache-2.0
"""The place of one VM's channel, look after look: when it is news, how to get a stream to it, and when a stream is to be left."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from host_agent.channels import kept_links
from host_agent.channels.connect import open_stream
from host_agent.channels.endpoint import domid_of
from host_agent.channels.peer import expected
from host_agent.channels.sockets import NOT_THERE, made
from host_agent.channels.whereabouts import Nowhere

if TYPE_CHECKING:
    from host_agent.channels.endpoint import Endpoint


class News(Enum):
    """What a look found that the look before did not."""

    NONE = "none"
    SEEN = "seen"
    #: The channel that was there already is known to be this domain's.
    WHOSE = "whose"
    #: It has been missing for long enough to do something about it.
    MISSING = "missing"
    GONE = "gone"


class Place:
    """Where the channel is.

    A socket that was there *missing_seconds* ago, and is not, may be just being made anew; so may a domain without a channel,
    for *nowhere_seconds*.
    """

    __slots__ = (
        "_kept", "_kept_before", "_missing_seconds", "_missing_since", "_nowhere_seconds", "_seen", "_stream",
        "_told_missing", "_wrong_since", "where",
    )  # fmt: skip

    def __init__(self, missing_seconds: float, nowhere_seconds: float) -> None:
        self.where: Endpoint | Nowhere = Nowhere("not looked for yet", wrong=False)
        self._missing_seconds, self._nowhere_seconds = missing_seconds, nowhere_seconds
        self._wrong_since: float | None = None
        self._missing_since: float | None = None
        self._told_missing = False
        self._seen: Endpoint | None = None
        self._stream: Endpoint | None = None
        self._kept: Endpoint | None = None
        self._kept_before: tuple[Endpoint, ...] = ()

    def is_as_before(self, where: Endpoint | Nowhere) -> bool:
        """Whether a look has found nothing but what the present stream leads to, as did the look before."""
        return where is self.where and where is self._seen and where is self._stream and self._missing_since is None

    def found(self, where: Endpoint | Nowhere, now: float) -> News:
        """Take what a look found."""
        self.where = where
        if not (isinstance(where, Nowhere) and where.wrong):
            self._wrong_since = None
        elif self._wrong_since is None:
            self._wrong_since = now
        for endpoint in where.claimed if isinstance(where, Nowhere) else (where,):
            self._keep(endpoint)
        if isinstance(where, Nowhere):
            self._missing_since, gone = None, self._seen is not None
            self._seen = None
            return News.GONE if gone else News.NONE
        if where.made == NOT_THERE:
            return self._found_missing(now)
        self._missing_since = None
        before, self._seen = self._seen, where
        if before is None or not _is_same(where, before):
            return News.SEEN
        if domid_of(before) == domid_of(where):
            return News.NONE
        return News.WHOSE if domid_of(before) is None else News.SEEN

    def _found_missing(self, now: float) -> News:
        if self._missing_since is None:
            self._missing_since, self._told_missing = now, False
        if self._told_missing or not self.is_missing(now):
            return News.NONE
        self._told_missing = True
        return News.MISSING

    def open(self, endpoint: Endpoint, now: float) -> tuple[int, bool]:
        """A stream to *endpoint*, and whether its socket had to be put back where it belongs; raise `Unreachable`."""
        put_back = False
        if self.is_missing(now):
            descriptor, put_back = kept_links.connect(endpoint.path, expected(endpoint.domain))
        else:
            descriptor = open_stream(endpoint)
        there = endpoint.made if endpoint.is_pty else made(endpoint.path)
        self._stream = endpoint if there == endpoint.made else endpoint._replace(made=there)
        return descriptor, put_back

    def is_first_met(self, endpoint: Endpoint) -> bool:
        """Whether the present stream, which is to *endpoint*, was had before a look has seen that it is there."""
        if self._stream is None:
            return False
        there, before = endpoint._replace(made=self._stream.made), self._seen
        if _is_same(there, before):
            return False
        self._seen = there
        return True

    def is_missing(self, now: float) -> bool:
        """Whether the socket of a VM that has one has been missing for long enough to do something about it."""
        return self._missing_since is not None and now - self._missing_since >= self._missing_seconds

    def is_nowhere(self, now: float) -> bool:
        """Whether something has stood in the way of finding the channel for long enough to say so."""
        return self._wrong_since is not None and now - self._wrong_since >= self._nowhere_seconds

    def mend(self, now: float) -> bool:
        """Put the socket of the present stream back where it belongs, if it is missing; whether that was done."""
        if self._stream is None or not self.is_missing(now):
            return False
        return kept_links.put_back(self._stream.path, self._stream.made)

    def stale(self, now: float, *, live: bool) -> str:
        """Why the present stream is to be left, or ""; *live* is whether a guest answers on it."""
        where = self.where
        if isinstance(where, Nowhere):
            return where.why if where.wrong or not live else ""
        if where.made != NOT_THERE:
            return "" if _is_same(where, self._stream) else "another socket or terminal is the VM's channel now"
        return "its socket is gone, and no guest answers" if self.is_missing(now) and not live else ""

    def forget(self) -> None:
        """The VM is not served any more."""
        for endpoint in self._all_kept():
            kept_links.forget(endpoint.path)

    def _keep(self, endpoint: Endpoint) -> None:
        if endpoint.is_pty or endpoint.made == NOT_THERE or any(_is_same(endpoint, kept) for kept in self._all_kept()):
            return
        self._kept_before = tuple(kept for kept in self._all_kept() if kept.path != endpoint.path)
        self._kept = endpoint
        kept_links.keep(endpoint.path)

    def _all_kept(self) -> tuple[Endpoint, ...]:
        return self._kept_before if self._kept is None else (*self._kept_before, self._kept)


def _is_same(endpoint: Endpoint, other: Endpoint | None) -> bool:
    """Whether the two are one socket or terminal, whosever it is."""
    return endpoint is other or (other is not None and (endpoint.made, endpoint.path) == (other.made, other.path))
