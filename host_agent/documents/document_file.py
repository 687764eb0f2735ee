# SPDX-License-Identifier: Apache-2.0
"""An operator's files for one VM, YAML or JSON, into what it should become; errors say file, line and the path inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from host_agent.documents.layer import INHERIT, own_of
from host_agent.documents.layers import Unsettled
from host_agent.documents.stack import Stack
from host_agent.documents.text_file import located, text_of
from pv_channel.document import from_values
from pv_channel.errors import LocalError
from pv_channel.greeting import NO_UUID, uuid_bytes, uuid_text

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.documents.layers import Layers
    from pv_channel.document import Document


class Wanted:
    """What one VM should become. *digest* is the document's; *uuid* is the VM's, or `NO_UUID` where nothing names one.

    `key` is what the ledger knows the VM by: its uuid, or else its name. `generation` is None where the host counts.
    """

    __slots__ = ("_document", "_text", "digest", "generation", "instance_id", "key", "name", "uuid")

    def __init__(self, name: str, uuid: bytes, document: Document, digest: str) -> None:
        self.name, self.uuid, self.digest = name, uuid, digest
        self.key = name if uuid == NO_UUID else uuid_text(uuid)
        self.instance_id = str(document.instance_id)
        self.generation = None if document.generation is msgspec.UNSET else document.generation
        self._document: Document | None = document
        self._text: bytes | None = None

    @property
    def document(self) -> Document:
        """The document itself, which while nobody wants it is kept as its JSON: a tenth of the memory."""
        if self._document is None:
            self._document = from_values(msgspec.json.decode(self._as_text()))
        return self._document

    def rest(self) -> None:
        """Nobody wants the document for a while."""
        self._as_text()
        self._document = None

    def _as_text(self) -> bytes:
        if self._text is None:
            self._text = msgspec.json.encode(self.document, enc_hook=str)
        return self._text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Wanted):
            return NotImplemented
        same_vm = (self.name, self.uuid, self.digest) == (other.name, other.uuid, other.digest)
        return same_vm and self._as_text() == other._as_text()

    def __hash__(self) -> int:
        return hash((self.name, self.uuid, self.digest))

    def __repr__(self) -> str:
        return f"Wanted({self.name!r}, {self.key!r}, {self.digest!r})"


def read(path: Path, layers: Layers | None = None) -> Document:
    """The document in the file at *path* over *layers*, or alone; raise `BadFile`: it has file, line, path inside and problem."""
    return stack_of(text_of(path), path, layers).document()


def stack_of(text: str, path: Path, layers: Layers | None) -> Stack:
    """The VM's own file *text*, which stands at *path*, over *layers*, or alone; raise `BadFile`."""
    own = own_of(text, path)
    if layers is None:
        if own.inherit:
            raise own.layer.refusal(INHERIT, "it is read without groups; --documents says beside which directory they are")
        return Stack((own.layer,))
    try:
        return layers.stack(own)
    except Unsettled:
        raise located(path, None, "", "what is below it is being written at this moment; try again") from None


def wanted(document: Document, path: Path, name: str, uuid: str | None = None) -> Wanted:
    """What the VM *name* should become. Its uuid is *uuid*, else the document's, else the file's stem.

    Raise `BadFile` where the first two disagree.
    """
    named = document.uuid if document.uuid is not msgspec.UNSET else None
    if uuid is not None and named is not None and uuid_bytes(uuid) != uuid_bytes(named):
        raise located(path, None, "uuid", f"the document is for {named}, and {uuid.lower()} was asked for")
    try:
        raw = uuid_bytes(uuid or named or path.stem)
    except LocalError:
        raw = NO_UUID
    return Wanted(name, raw, document, document.digest())
