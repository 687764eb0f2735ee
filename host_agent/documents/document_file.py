# SPDX-License-Identifier: Apache-2.0
"""An operator's files for one VM, YAML or JSON, into what it should become; errors say file, line and the path inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from host_agent.documents.layer import INHERIT, own_of
from host_agent.documents.layers import Unsettled
from host_agent.documents.stack import Stack
from host_agent.documents.text_file import located, text_of
from pv_channel.errors import LocalError
from pv_channel.greeting import NO_UUID, uuid_bytes, uuid_text

if TYPE_CHECKING:
    from pathlib import Path

    from host_agent.documents.layers import Layers
    from pv_channel.document import Document


class Wanted(NamedTuple):
    """What one VM should become. *digest* is the document's; *uuid* is the VM's, or `NO_UUID` where nothing names one."""

    name: str
    uuid: bytes
    document: Document
    digest: str

    @property
    def key(self) -> str:
        """What the ledger knows the VM by: its uuid, or else its name."""
        return self.name if self.uuid == NO_UUID else uuid_text(self.uuid)


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
