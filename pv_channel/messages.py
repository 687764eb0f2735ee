# SPDX-License-Identifier: Apache-2.0
"""What is said once a session is sealed: one JSON object a message, told apart by its ``type`` (PROTOCOL.md, "Messages").

Decoding is strict and bounded, and is the one door for a message's values; what a guest says in free text is cut to
bounds here, and whoever prints it passes it through `printable` first.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Annotated, Any, Final

import msgspec

from pv_channel.errors import Malformed
from pv_channel.text import printable

#: A whole document's worth for the guest to hold. Enough for a host's worth of ssh keys, small enough to buffer per VM.
MAX_DOCUMENT_BYTES: Final = 1024 * 1024
#: The longest message to a guest: a document and what stands around it.
MAX_HOST_MESSAGE_BYTES: Final = MAX_DOCUMENT_BYTES + 1024
#: The longest message from a guest, which dom0 buffers for each of its VMs: a result with every log tail full.
MAX_GUEST_MESSAGE_BYTES: Final = 64 * 1024

#: A reason is one lower-case word or several with hyphens, for programs; a detail is a sentence, for people.
MAX_DETAIL: Final = 400
#: The tail of what a failed command printed.
MAX_LOG_LINES: Final = 20
MAX_LOG_LINE: Final = 200
#: A line of a plan: of a diff, or a command.
MAX_STEP: Final = 200
#: Why a message was not one; it may quote the peer, who names fields as it likes.
_MAX_REASON: Final = 200
#: An OpenSSH server has at most one host key of each of a handful of types.
MAX_HOST_KEYS: Final = 16
#: A name, an id, a version.
MAX_TEXT: Final = 128
#: A machine with more addresses names this many of them.
MAX_ADDRESSES: Final = 64
#: What a guest looked at after a change of its network: with every detail full, half of what its message may have.
MAX_CHECKS: Final = 64
#: A document has a dozen items.
MAX_ITEMS: Final = 64
#: An hour: no operator waits longer for one change.
MAX_CONFIRM_SECONDS: Final = 3600

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=40, pattern=r"\A[a-z0-9][a-z0-9-]*\Z")]
Detail = Annotated[str, msgspec.Meta(max_length=MAX_DETAIL)]
Log = Annotated[list[Annotated[str, msgspec.Meta(max_length=MAX_LOG_LINE)]], msgspec.Meta(max_length=MAX_LOG_LINES)]
Generation = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
HostKey = Annotated[str, msgspec.Meta(max_length=2048)]
Address = Annotated[str, msgspec.Meta(max_length=64)]


#: How msgspec says that bytes are not what was asked for. Text that is not UTF-8 is Python's own error, and no MsgspecError.
UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="kebab"):
    """A value inside a message."""


class _Message(_Value, frozen=True, tag_field="type", tag=lambda name: name.lower()):
    """A message: frozen, told apart by its lower-case class name."""


class Outcome(Enum):
    """What became of an item, or of a generation as a whole. *PENDING* is an item that is under way and will be reported."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"
    PENDING = "pending"


class ItemResult(_Value, frozen=True):
    """What became of one item of a document. *reason* and *log* say why, where it failed; *detail* names what did it."""

    item: Word
    outcome: Outcome
    reason: Word | msgspec.UnsetType = msgspec.UNSET
    detail: Detail = ""
    log: Log = []


class Hello(_Value, frozen=True):
    """What a guest says of itself inside the handshake: its agent's version, and the generation in force (0: none yet)."""

    agent: Annotated[str, msgspec.Meta(max_length=32)]
    generation: Count = 0
    instance_id: Text = ""
    digest: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Facts(_Value, frozen=True):
    """What a guest says of its machine, for the operator's eyes and for known_hosts; dom0 decides nothing by it.

    *os* is os-release(5)'s PRETTY_NAME, *kernel* uname(2)'s release, *boot_id* the kernel's random name of this boot. *addresses*
    are those of global scope, with their prefix lengths. *host_keys* are the ssh host public keys, as they are now.
    """

    os: Text = ""
    kernel: Text = ""
    hostname: Text = ""
    boot_id: Text = ""
    addresses: Annotated[list[Address], msgspec.Meta(max_length=MAX_ADDRESSES)] = []
    host_keys: Annotated[list[HostKey], msgspec.Meta(max_length=MAX_HOST_KEYS)] = []


class Ping(_Message, frozen=True):
    """The host's question whether the guest is there; *n* comes back."""

    n: Count


class Pong(_Message, frozen=True):
    """The guest's answer to a `Ping`. It says its *facts* in the first of a session, and where they have changed since."""

    n: Count
    facts: Facts | msgspec.UnsetType = msgspec.UNSET


class Provision(_Message, frozen=True):
    """Become this: a whole document, whose own fields name its instance and generation. Answered by one `Result`."""

    document: msgspec.Raw


class Plan(_Message, frozen=True):
    """What would it take to become this? Nothing is touched. Answered by one `Planned`."""

    document: msgspec.Raw


class PlannedItem(_Value, frozen=True):
    """What an item would take: lines of a diff and commands. *reason* says why it cannot be, where it cannot."""

    item: Word
    reason: Word | msgspec.UnsetType = msgspec.UNSET
    detail: Detail = ""
    steps: list[Annotated[str, msgspec.Meta(max_length=MAX_STEP)]] = []


class Planned(_Message, frozen=True):
    """The answer to a `Plan`. *cut*: there was more than a message holds. Without *items* the whole was refused."""

    generation: Count
    items: Annotated[list[PlannedItem], msgspec.Meta(max_length=MAX_ITEMS)] = []
    reason: Word | msgspec.UnsetType = msgspec.UNSET
    path: Detail = ""
    detail: Detail = ""
    cut: bool = False


class Check(_Value, frozen=True):
    """One thing that the guest looked at after a change of its network, and what it saw."""

    name: Word
    good: bool
    detail: Detail = ""


class Unconfirmed(_Message, frozen=True):
    """*generation* is in force and changed the network: it is put back unless a `Confirm` comes within *seconds*."""

    generation: Generation
    seconds: Annotated[int, msgspec.Meta(ge=0, le=MAX_CONFIRM_SECONDS)]
    checks: Annotated[list[Check], msgspec.Meta(max_length=MAX_CHECKS)] = []


class Confirm(_Message, frozen=True):
    """The host reaches what it wants to reach: *generation* stays."""

    generation: Generation


class Reject(_Message, frozen=True):
    """The host does not: *generation* is put back at once, because of *detail*."""

    generation: Generation
    detail: Detail = ""


class Report(_Message, frozen=True):
    """What became of items of *generation* that were pending when its `Result` was said."""

    generation: Generation
    items: Annotated[list[ItemResult], msgspec.Meta(max_length=MAX_ITEMS)]


class Progress(_Message, frozen=True):
    """An item of *generation* is being worked on; for the operator's eyes."""

    generation: Generation
    item: Word


class Result(_Message, frozen=True):
    """What became of a `Provision`, item by item. *generation* is 0 where none could be read from the document.

    *host_keys* are the guest's ssh host public keys, so that dom0 can write an exact known_hosts.
    *reason*, *path* and *detail* say why the whole was refused, where it was.
    """

    generation: Count
    outcome: Outcome
    items: Annotated[list[ItemResult], msgspec.Meta(max_length=MAX_ITEMS)] = []
    host_keys: Annotated[list[HostKey], msgspec.Meta(max_length=MAX_HOST_KEYS)] = []
    reason: Word | msgspec.UnsetType = msgspec.UNSET
    path: Detail = ""
    detail: Detail = ""
    milliseconds: Count = 0


HostMessage = Ping | Provision | Plan | Confirm | Reject
GuestMessage = Pong | Progress | Result | Planned | Unconfirmed | Report

_encoder = msgspec.json.Encoder()


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:  # made when it is needed: a guest decodes no guest's messages
    return msgspec.json.Decoder(kind)


def encode(message: HostMessage | GuestMessage | Hello) -> bytes:
    """The message's JSON, compact."""
    return _encoder.encode(message)


def decode_from_host(data: bytes) -> HostMessage:
    """What the host said; raise `Malformed`."""
    try:
        message: HostMessage = _decoder(HostMessage).decode(data)
    except UNDECODABLE as exc:
        raise Malformed(f"not a message of the host's: {printable(exc, _MAX_REASON)}") from None
    return message


def decode_from_guest(data: bytes) -> GuestMessage:
    """What the guest said; raise `Malformed`."""
    try:
        message: GuestMessage = _decoder(GuestMessage).decode(data)
    except UNDECODABLE as exc:
        raise Malformed(f"not a message of the guest's: {printable(exc, _MAX_REASON)}") from None
    return message


def decode_hello(data: bytes) -> Hello:
    """What the guest said of itself; raise `Malformed`."""
    try:
        hello: Hello = _decoder(Hello).decode(data)
    except UNDECODABLE as exc:
        raise Malformed(f"not a guest's hello: {printable(exc, _MAX_REASON)}") from None
    return hello
