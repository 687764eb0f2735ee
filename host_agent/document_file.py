# SPDX-License-Identifier: Apache-2.0
"""One operator's file, YAML or JSON, into what a VM should become; errors say file, line and the path inside."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from host_agent.errors import BadFile, shown
from host_agent.formats.origins import Origins
from host_agent.other_words import resolve
from host_agent.yaml_values import BadText, Place, parse, place_of
from pv_channel.document import Document, from_values
from pv_channel.errors import BadDocument, LocalError
from pv_channel.greeting import NO_UUID, uuid_bytes, uuid_text
from pv_channel.messages import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    from pathlib import Path

#: YAML with its indentation and comments takes more room than the JSON that is sent.
MAX_FILE_BYTES: Final = 4 * MAX_DOCUMENT_BYTES
#: What "generation" and its number add to a document that has none yet.
_GENERATION_BYTES: Final = 32


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


def read(path: Path) -> Document:
    """The document in the file at *path*; raise `BadFile`, whose message has file, line, path inside and problem."""
    return parse_text(text_of(path), path)


def parse_text(text: str, path: Path) -> Document:
    """The document that *text* is; *path* is only named in the `BadFile` that is raised where it is none."""
    try:
        parsed = parse(text)
    except BadText as exc:
        raise located(path, exc.place, "", str(exc)) from None
    origins = Origins()
    try:
        document = from_values(resolve(parsed.values, origins))
        _check_confirm(document)
    except BadDocument as exc:
        inside = origins.of(exc.path)
        raise located(path, place_of(parsed, inside), inside, exc.problem) from None
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        raise located(path, None, "", "a string that is no Unicode text") from None
    size = len(document.encode())
    if size > MAX_DOCUMENT_BYTES - _GENERATION_BYTES:
        most = MAX_DOCUMENT_BYTES - _GENERATION_BYTES
        raise located(path, None, "", f"has {size} bytes as JSON; a document has at most {most}")
    return document


def _check_confirm(document: Document) -> None:
    """What this host itself needs to know before it can confirm; a guest's document says nothing of it."""
    confirm = document.confirm
    missing = {"tcp": confirm.tcp, "command": confirm.command}.get(confirm.check)
    if missing is msgspec.UNSET:
        example = "tcp: 192.0.2.10:22" if confirm.check == "tcp" else "command: [/usr/local/bin/reaches, web1]"
        raise BadDocument("confirm", f"'check' is '{confirm.check}', and nothing says which; add '{example}'")


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


def text_of(path: Path) -> str:
    """The text of the file at *path*; raise `BadFile` for one that is none, is too long, or that everybody may change."""
    try:
        # Not to block on a FIFO somebody put in a document's place.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise located(path, None, "", "not a regular file")
            if status.st_mode & stat.S_IWOTH:
                raise located(path, None, "", "everybody may write to it and so decide what a VM becomes; cure: chmod o-w")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise located(path, None, "", exc.strerror or str(exc)) from None
    return text_of_bytes(data, path)


def text_of_bytes(data: bytes, path: Path) -> str:
    """*data* as text; *path* is only named in the `BadFile` that is raised where it is none."""
    if len(data) > MAX_FILE_BYTES:
        raise located(path, None, "", f"longer than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise located(path, Place(data.count(b"\n", 0, exc.start) + 1, 1), "", "not UTF-8") from None


def located(path: Path, place: Place | None, inside: str, problem: str) -> BadFile:
    """The error that the file at *path* says something wrong at *place*, which is *inside* it."""
    where = f"{shown(path)}:{place.line}:{place.column}" if place else shown(path)
    return BadFile(f"{where}: {inside}: {problem}" if inside else f"{where}: {problem}")
