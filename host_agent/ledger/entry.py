# SPDX-License-Identifier: Apache-2.0
"""What travels of a VM's place in the ledger when the VM does: one JSON object, made here or read from somebody else's disk.

It has the pinned key of the guest and what the guest has become; no private key, no session's, and nothing of a document but
its digest. Its one form is canonical: the same entry is the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from host_agent.documents.directory import MAX_NAME
from host_agent.errors import HostError
from host_agent.qemu.vmstate_stream import MAX_STATE_BYTES
from pv_channel.messages import (
    MAX_HOST_KEYS,
    MAX_ITEMS,
    MAX_LOG_LINE,
    MAX_LOG_LINES,
    MAX_TEXT,
    UNDECODABLE,
    Count,
    Detail,
    Facts,
    HostKey,
    ItemResult,
    Outcome,
    Text,
    Word,
)
from pv_channel.noise import DHLEN
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Of the object; another form is another number.
VERSION: Final = 1
#: A document with more static addresses than this names the VM by the first ones.
MAX_NAMES: Final = 256
_MAX_REASON: Final = 300

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
_Key = Annotated[bytes, msgspec.Meta(min_length=DHLEN, max_length=DHLEN)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{0,64}\Z")]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=2**53)]
#: A host's name or an address: nothing that could be more than one word of a known_hosts line.
_Called = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9._:-]{1,255}\Z")]


class BadEntry(HostError):  # noqa: N818 -- it says what the entry is
    """Bytes that are not a VM's entry, or an entry that cannot travel."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Of the VM *key*, as the host called *host* has it. The fields are the ledger's own (`ledger_schema`)."""

    version: Literal[1]
    host: Text
    key: _Name
    name: _Name
    guest_key: _Key | None
    rival_key: _Key | None
    first_met: _Seconds
    last_heard: _Seconds
    agent: Annotated[str, msgspec.Meta(max_length=32)]
    instance_id: Text
    generation_sent: Count
    digest_sent: _Digest
    generation_applied: Count
    generation_items: Count
    outcome: Outcome | None
    reason: Word | None
    path: Detail
    result_detail: Detail
    milliseconds: Count
    items: Annotated[list[ItemResult], msgspec.Meta(max_length=MAX_ITEMS)]
    host_keys: Annotated[list[HostKey], msgspec.Meta(max_length=MAX_HOST_KEYS)]
    names: Annotated[list[_Called], msgspec.Meta(max_length=MAX_NAMES)]
    certified: bool
    facts: Facts
    reprovision: bool


_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder(Entry)


def of_values(values: Mapping[str, Any], host: str) -> Entry:
    """The entry of these values of the ledger's columns, as *host* has it; raise `BadEntry` where they cannot be one."""
    words = {"outcome": values["outcome"] or None, "reason": values["reason"] or None, "names": values["names"][:MAX_NAMES]}
    rest = {"items": [_item(item) for item in values["items"]], "host": printable(host, MAX_TEXT), "version": VERSION}
    try:
        return msgspec.convert({_kebab(name): value for name, value in {**values, **words, **rest}.items()}, Entry)
    except msgspec.ValidationError as exc:
        name = printable(values["name"], 100)
        raise BadEntry(f"{name}: what the ledger has of it cannot travel: {printable(exc, _MAX_REASON)}") from None


def encode(entry: Entry) -> bytes:
    """Its one form, at most as long as QEMU takes; where it would be longer, without the logs of its items."""
    data = _encoder.encode(entry)
    if len(data) <= MAX_STATE_BYTES:
        return data
    bare = [msgspec.structs.replace(item, log=[]) for item in entry.items]
    return _encoder.encode(msgspec.structs.replace(entry, items=bare))


def decode(data: bytes) -> Entry:
    """The entry of which these bytes are the one form; raise `BadEntry`."""
    if len(data) > MAX_STATE_BYTES:
        raise BadEntry(f"no VM's entry: it has {len(data):,} bytes, of at most {MAX_STATE_BYTES:,}")
    try:
        entry = _decoder.decode(data)
    except UNDECODABLE as exc:
        raise BadEntry(f"no VM's entry: {printable(exc, _MAX_REASON)}; was it written by another version?") from None
    if _encoder.encode(entry) != data:
        raise BadEntry("no VM's entry: it is not in the form that pv-host-agent writes")
    if entry.guest_key is None and entry.rival_key is None:
        raise BadEntry("no VM's entry: it has no guest's key")
    return entry


def _item(item: Mapping[str, str]) -> dict[str, Any]:
    """An item's values, its log as the lines that it was, and no more of them than a guest may say."""
    lines = [line[:MAX_LOG_LINE] for line in item["log"].split("\n")] if item["log"] else []
    words = {name: value for name, value in item.items() if name != "reason" or value}
    return {**words, "log": lines[-MAX_LOG_LINES:]}


def _kebab(name: str) -> str:
    return name.replace("_", "-")
