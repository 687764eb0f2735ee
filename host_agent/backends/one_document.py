# SPDX-License-Identifier: Apache-2.0
"""What the one VM of a backend program shall become: the document in a file, or the one that the service would give it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.documents.directory import MAX_NAME, NOTHING, named
from host_agent.documents.document_file import read, wanted
from host_agent.documents.layers import Choice
from host_agent.errors import BadFile, shown
from host_agent.files import check_writers
from pv_channel.text import printable

if TYPE_CHECKING:
    from host_agent.documents.document_file import Wanted


def in_file(path: Path, documents: Path, *, everywhere: bool) -> Wanted:
    """What the file says, over the layers beside *documents* where those are for it; raise `BadFile`."""
    return wanted(read(path, Choice(documents, everywhere=everywhere).layers(path)), path, printable(path.stem, MAX_NAME))


def of_vm(name: str, documents: Path) -> Wanted:
    """What the file of the VM *name* in the directory *documents* says, as the service reads it; raise `BadFile`."""
    check_writers(documents)
    if not name or Path(name).name != name:
        raise BadFile(f"{shown(name)}: not a VM's name; cure: the name of its file in {shown(documents)}, without .yaml")
    found = named(documents, name).get(name, NOTHING)
    if not found.paths:
        raise BadFile(f"{shown(name)}: no document in {shown(documents)}; cure: write {shown(documents / f'{name}.yaml')}")
    path = found.only(name)
    return wanted(read(path, Choice(documents, everywhere=True).layers(path)), path, name)
