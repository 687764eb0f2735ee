# SPDX-License-Identifier: Apache-2.0
"""What a guest can be asked to become: one JSON object with cloud-init's names, parsed once into values that cannot be wrong.

Absent means leave alone; an empty list means that there shall be none. Both sides parse with `parse` and nothing else.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec

from pv_channel.digest import sha256
from pv_channel.errors import BadDocument
from pv_channel.messages import MAX_DOCUMENT_BYTES, UNDECODABLE
from pv_channel.network import NetworkConfig  # noqa: TC001 -- msgspec reads the annotation at run time
from pv_channel.ssh_key import SshKey
from pv_channel.text import printable
from pv_channel.values import Fqdn, Hostname, InstanceId, UserName, Value, VmUuid

#: More keys for one user than any team has; each may have 8 KiB.
MAX_KEYS: Final = 1024
MAX_USERS: Final = 256
#: Generations count up from 1; the bound keeps them exact in every JSON reader (RFC 8259, section 6).
MAX_GENERATION: Final = 2**53

Keys = Annotated[list[SshKey], msgspec.Meta(max_length=MAX_KEYS)]


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A user of the guest, and the ssh keys of ours that log in as that user."""

    name: UserName
    ssh_authorized_keys: Keys | msgspec.UnsetType = msgspec.UNSET


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One generation of one instance's configuration.

    *ssh_authorized_keys* at the top are root's. *uuid* is the VM's; a guest that is another VM refuses the document.
    An operator's file may lack *generation*: the host counts then. What is sent has one.
    """

    instance_id: InstanceId = msgspec.field(name="instance-id")
    generation: Annotated[int, msgspec.Meta(ge=1, le=MAX_GENERATION)] | msgspec.UnsetType = msgspec.UNSET
    uuid: VmUuid | msgspec.UnsetType = msgspec.UNSET
    local_hostname: Hostname | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="local-hostname")
    fqdn: Fqdn | msgspec.UnsetType = msgspec.UNSET
    ssh_authorized_keys: Keys | msgspec.UnsetType = msgspec.UNSET
    users: Annotated[list[User], msgspec.Meta(max_length=MAX_USERS)] | msgspec.UnsetType = msgspec.UNSET
    network: NetworkConfig | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        names = [user.name for user in self.users] if self.users is not msgspec.UNSET else []
        if len(set(names)) != len(names):
            raise ValueError("'users' names one user twice")
        if "root" in names and self.ssh_authorized_keys is not msgspec.UNSET:
            raise ValueError("'ssh_authorized_keys' at the top are root's, and 'users' has root too")

    def at_generation(self, generation: int) -> Document:
        """The same document as generation *generation*."""
        return msgspec.structs.replace(self, generation=generation)

    def encode(self) -> bytes:
        """The document's JSON, as it crosses the channel."""
        return msgspec.json.encode(self, enc_hook=str)

    def digest(self) -> str:
        """What the document says, its generation aside, as 32 hexadecimal digits: equal exactly where nothing differs."""
        same = msgspec.structs.replace(self, generation=msgspec.UNSET)
        return sha256(msgspec.json.encode(same, enc_hook=str, order="deterministic")).hex()[:32]


def parse(data: bytes) -> Document:
    """The document that this JSON is; raise `BadDocument` for any other bytes."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise BadDocument("", f"a document has at most {MAX_DOCUMENT_BYTES} bytes, this has {len(data)}")
    try:
        values = msgspec.json.decode(data)
    except UNDECODABLE as exc:
        raise BadDocument("", f"not JSON: {exc}") from None
    return from_values(values)


def from_values(values: object) -> Document:
    """The document that these decoded JSON or YAML values are; raise `BadDocument` with the path to what is wrong."""
    try:
        return msgspec.convert(values, Document, dec_hook=_value)
    except (msgspec.ValidationError, RecursionError) as exc:
        raise _located(values, str(exc)) from None


def _value(kind: type[Any], raw: object) -> object:
    if not isinstance(raw, str):
        raise ValueError(f"expected a string, got {type(raw).__name__}")
    if not issubclass(kind, Value):
        raise ValueError(f"nothing makes a {kind.__name__}")
    return kind(raw)


_MESSAGE: Final = re.compile(r"(?P<problem>.*?)(?: - at `(?P<key>key in )?\$(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
#: A path of this length says enough.
_MAX_PATH: Final = 200


def _located(values: object, message: str) -> BadDocument:
    """msgspec's message as a path in the document and a problem; it writes ``[...]`` for a key of a mapping, we find which."""
    match = _MESSAGE.fullmatch(message)
    problem, pattern = (match["problem"], match["path"] or "") if match else (message, "")
    path, *rest = pattern.split("[...]")
    for after in rest:
        mapping = _at(values, path)
        path = f"{path}.{_culprit(values, mapping, message) if isinstance(mapping, dict) else '?'}{after}"
    unknown = _UNKNOWN.fullmatch(problem)
    if unknown:
        problem, path = "unknown field", f"{path}.{unknown['name']}"
    return BadDocument(printable(path.lstrip("."), _MAX_PATH), printable(problem, 300))


def _at(values: object, path: str) -> object:
    """What stands in *values* at a path of ``.name`` and ``[index]`` steps."""
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
        if name and isinstance(values, dict):
            values = values.get(name)
        elif index and isinstance(values, list):
            values = values[int(index)]
    return values


def _culprit(values: object, mapping: dict[Any, Any], message: str) -> str:
    """Which key of *mapping* (a part of *values*) makes conversion fail with *message*; by halves, for a large one."""
    whole = dict(mapping)
    suspects = list(whole)
    try:
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            mapping.clear()
            mapping.update((key, whole[key]) for key in half)
            try:
                msgspec.convert(values, Document, dec_hook=_value)
                suspects = suspects[len(half) :]
            except (msgspec.ValidationError, RecursionError) as exc:
                suspects = half if str(exc) == message else suspects[len(half) :]
    finally:
        mapping.clear()
        mapping.update(whole)
    return str(suspects[0]) if suspects else "?"
