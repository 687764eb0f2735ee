# SPDX-License-Identifier: Apache-2.0
"""etcd's messages as the JSON gateway has them (etcd's api_grpc_gateway and rpc.proto, v3). No input and output happens here.

Numbers of 64 bits are strings there, keys and values base64, and what is 0, false or empty is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from host_agent.etcd.errors import Compacted, EtcdError, Garbled, NoSuchLease, NotAuthenticated, Refused
from pv_channel.messages import UNDECODABLE
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What etcd says of itself and of us, cut for a log.
_MAX_WORDS: Final = 200
#: From here on HTTP's statuses say that the server is at fault (RFC 9110).
_SERVER_ERROR: Final = 500
#: gRPC's numbers for what went wrong (https://grpc.io/docs/guides/status-codes).
_INVALID, _NOT_FOUND, _OUT_OF_RANGE, _UNAUTHENTICATED = 3, 5, 11, 16
#: The server is starting, has no leader, or was too slow: another may do better.
_PASSING: Final = (1, 4, 14)
#: etcd's words for a token that another one has to replace (etcd's rpctypes/error.go).
_TOKEN: Final = ("invalid auth token", "revision of auth store is old", "user name is empty")

Answer = TypeVar("Answer", bound=msgspec.Struct)


class Header(msgspec.Struct):
    """Of every answer: the store's revision when it was given."""

    revision: int = 0


class KeyValue(msgspec.Struct):
    """A key and what stands there; in an event of its removal, no more than the key and the revision of that."""

    key: bytes
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    lease: int = 0


class RangeAnswer(msgspec.Struct):
    """The keys that were asked for; *more* where there are others."""

    header: Header = msgspec.field(default_factory=Header)
    kvs: list[KeyValue] = msgspec.field(default_factory=list)
    more: bool = False


class OpAnswer(msgspec.Struct):
    """Of one operation of a transaction; None where it was no reading."""

    response_range: RangeAnswer | None = None


class TxnAnswer(msgspec.Struct):
    """*succeeded* is whether all of what was compared was so."""

    header: Header = msgspec.field(default_factory=Header)
    succeeded: bool = False
    responses: list[OpAnswer] = msgspec.field(default_factory=list)

    @property
    def read(self) -> list[list[KeyValue]]:
        """What each reading of the transaction found."""
        return [op.response_range.kvs for op in self.responses if op.response_range is not None]


class LeaseAnswer(msgspec.Struct, rename={"number": "ID", "seconds": "TTL"}):
    """A lease, and for how long it is good from now on; 0 seconds where it is over."""

    number: int = 0
    seconds: int = 0


class KeptAlive(msgspec.Struct):
    """A line of the stream of leases that were kept alive."""

    result: LeaseAnswer


class TokenAnswer(msgspec.Struct):
    """What shows who we are."""

    token: str = ""


class Event(msgspec.Struct):
    """A key was written, or removed."""

    kv: KeyValue
    type: Literal["PUT", "DELETE"] = "PUT"


class WatchAnswer(msgspec.Struct):
    """Of one watch: that it is there, what happened, or that it is over. A *fragment* is not all that happened at once."""

    header: Header = msgspec.field(default_factory=Header)
    watch_id: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    events: list[Event] = msgspec.field(default_factory=list)


class _Problem(msgspec.Struct):
    code: int = 0
    grpc_code: int = 0
    error: str = ""
    message: str = ""


class _StreamLine(msgspec.Struct):
    result: WatchAnswer | None = None
    error: _Problem | None = None


class Range(NamedTuple):
    """The one *key*, or all keys from it on up to *end*."""

    key: bytes
    end: bytes = b""

    def values(self) -> dict[str, Any]:
        """As a part of a request."""
        return {"key": self.key, "range_end": self.end} if self.end else {"key": self.key}


def below(prefix: bytes) -> Range:
    """All keys that begin with *prefix*, which ends with a byte less than the last."""
    return Range(prefix, prefix[:-1] + bytes([prefix[-1] + 1]))


class Put(NamedTuple):
    """Write, under a lease where it is not 0."""

    key: bytes
    value: bytes
    lease: int = 0

    def operation(self) -> dict[str, Any]:
        """As a part of a transaction."""
        return {"request_put": {"key": self.key, "value": self.value, "lease": str(self.lease)}}


class Get(NamedTuple):
    """Read."""

    key: bytes

    def operation(self) -> dict[str, Any]:
        """As a part of a transaction."""
        return {"request_range": {"key": self.key}}


class Delete(NamedTuple):
    """Remove."""

    key: bytes

    def operation(self) -> dict[str, Any]:
        """As a part of a transaction."""
        return {"request_delete_range": {"key": self.key}}


class Compare(NamedTuple):
    """That *key* was made, or last written, at a revision; 0 is that there is none."""

    key: bytes
    target: Literal["CREATE", "MOD"]
    revision: int

    def values(self) -> dict[str, Any]:
        """As a part of a transaction."""
        member = "create_revision" if self.target == "CREATE" else "mod_revision"
        return {"key": self.key, "target": self.target, "result": "EQUAL", member: str(self.revision)}


Operation = Put | Get | Delete


def txn(compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]) -> bytes:
    """The request of a transaction."""
    return msgspec.json.encode({
        "compare": [each.values() for each in compare],
        "success": [each.operation() for each in success],
        "failure": [each.operation() for each in failure],
    })  # fmt: skip


def range_request(part: Range, limit: int, revision: int, *, keys_only: bool) -> bytes:
    """The request of a page of *part*, in the order of the keys, as it was at *revision* where that is not 0."""
    return msgspec.json.encode({**part.values(), "limit": str(limit), "revision": str(revision), "keys_only": keys_only})


def watch_request(part: Range, number: int, revision: int) -> bytes:
    """The request of the watch *number* on *part* from *revision* on, as a line of its own."""
    wanted = {**part.values(), "start_revision": str(revision), "watch_id": str(number), "fragment": True}
    return msgspec.json.encode({"create_request": wanted}) + b"\n"


def lease_request(number: int, seconds: int = 0) -> bytes:
    """The request of a lease: for so many *seconds*, or about the one with that *number*."""
    return msgspec.json.encode({"ID": str(number), "TTL": str(seconds)})


def decode(data: bytes, kind: type[Answer]) -> Answer:
    """The answer that these bytes are; raise `Garbled`."""
    try:
        return msgspec.json.decode(data, type=kind, strict=False)
    except UNDECODABLE as exc:
        raise Garbled(f"not an answer of etcd's gateway: {printable(exc, _MAX_WORDS)}") from None


def problem(status: int, data: bytes) -> EtcdError | None:
    """What an answer with an HTTP *status* of an error means; None where another server, or the same one later, may do better."""
    try:
        found = decode(data, _Problem)
    except Garbled:
        found = _Problem()
    if not found.code:
        return None if status >= _SERVER_ERROR else Garbled(f"HTTP status {status}, and not by etcd")
    return _error(found.code, found.error or found.message)


def watch_line(data: bytes) -> WatchAnswer | EtcdError | None:
    """What a line of a stream of watches says: an answer, an error, or None for one that is of the moment."""
    line = decode(data, _StreamLine)
    if line.result is not None:
        return line.result
    if line.error is None:
        raise Garbled("not a line of etcd's watches: neither a result nor an error")
    return _error(line.error.grpc_code or line.error.code, line.error.message or line.error.error)


def canceled(answer: WatchAnswer) -> EtcdError:
    """Why a watch is over."""
    if answer.compact_revision:
        return Compacted(f"etcd has no revision before {answer.compact_revision} any more")
    return _error(_INVALID, answer.cancel_reason or "the watch is over") or Refused("the watch is over")


def _error(code: int, words: str) -> EtcdError | None:
    """*words* are etcd's."""
    if code in _PASSING:
        return None
    said = printable(words.removeprefix("etcdserver: "), _MAX_WORDS)
    if code == _UNAUTHENTICATED or any(token in words for token in _TOKEN):
        return NotAuthenticated(said)
    if code == _OUT_OF_RANGE:
        return Compacted(said)
    return NoSuchLease(said) if code == _NOT_FOUND and "lease" in words else Refused(said)
