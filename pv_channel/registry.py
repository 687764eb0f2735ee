# SPDX-License-Identifier: Apache-2.0
"""The registry of channel names, in the record form of xen-pv-channel(7): who speaks on which channel."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pv_channel import CHANNEL_NAME
from pv_channel.errors import LocalError

_FIELD: Final = re.compile(r" {4}([NCD]): (\S.*)")
_CONTINUATION: Final = re.compile(r" {7}(\S.*)")
_FIELDS: Final = ("N", "C", "D")


class Record(NamedTuple):
    """One channel: its name, the contact, and what it is for."""

    name: str
    contact: str
    description: str


def parse(text: str) -> list[Record]:
    """The records of a registry file; raise `LocalError` with the line for what is none. ``#`` starts a comment line."""
    records: list[Record] = []
    fields: dict[str, str] = {}
    last = ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                records.append(_record(fields, number))
            fields, last = {}, ""
        elif match := _FIELD.fullmatch(line):
            last = match[1]
            if last in fields:
                raise LocalError(f"line {number}: a record has one '{last}:'")
            fields[last] = match[2]
        elif last and (match := _CONTINUATION.fullmatch(line)):
            fields[last] += " " + match[1]
        else:
            raise LocalError(f"line {number}: expected '    N: name', '    C: contact', '    D: description' or its continuation")
    names = [record.name for record in records]
    for name in names:
        if names.count(name) > 1:
            raise LocalError(f"two records for {name}")
    return records


def _record(fields: dict[str, str], number: int) -> Record:
    missing = [field for field in _FIELDS if field not in fields]
    if missing:
        raise LocalError(f"the record that ends at line {number} has no '{missing[0]}:'")
    return Record(*(fields[field] for field in _FIELDS))


def claim(records: list[Record], name: str) -> None:
    """Raise `LocalError` where *name* is registered and not ours to speak on; a name nobody registered is the operator's own."""
    for record in records:
        if record.name == name and name != CHANNEL_NAME:
            raise LocalError(f"the channel {name} belongs to another application: {record.description} ({record.contact})")
