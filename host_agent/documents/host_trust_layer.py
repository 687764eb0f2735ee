# SPDX-License-Identifier: Apache-2.0
"""What this host's documents say of hosts (``host_trust``): an entry for all VMs into a layer's file, and which VMs lack it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

import msgspec

from host_agent.documents.directory import listing, named
from host_agent.documents.document_file import read
from host_agent.documents.entry import NoRoom, with_entry
from host_agent.documents.layer import DEFAULTS, shared_of
from host_agent.documents.layers import Layers
from host_agent.documents.merge import merged
from host_agent.documents.text_file import located, text_of
from host_agent.documents.yaml_values import BadText
from host_agent.errors import BadFile, shown
from host_agent.files import PRIVATE_FILE, check_writers, write_whole
from pv_channel.document import converted
from pv_channel.errors import BadDocument
from pv_channel.host_trust import HostTrust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIELD: Final = "host_trust"
REVOKED: Final = "revoked"


def defaults_beside(documents: Path) -> Path:
    """The file that says what every VM has which says nothing else, whether it is there or not; raise `BadFile`."""
    top = documents.absolute().parent
    found = named(top, DEFAULTS).get(DEFAULTS)
    return top / f"{DEFAULTS}.yaml" if found is None else found.only(DEFAULTS)


def say(path: Path, section: str, name: str, value: str) -> bool:
    """Have the layer in the file *path* say *value* of *name* in that *section*; whether it did not yet. Raise `BadFile`.

    Everything else in it stays; on any error all of it. Of a key that is revoked already it stays said why.
    """
    check_writers(path.parent)
    text, mode = "", PRIVATE_FILE
    if path.exists():
        text, mode = text_of(path), stat.S_IMODE(path.stat().st_mode)
        said = _said(text, path, section)
        if name in said and section == REVOKED:
            return False
        if said.get(name, value) != value:
            raise BadFile(f"{shown(path)}: {FIELD}.{section} has another key by the name '{name}'; cure: another --name")
    try:
        made = with_entry(text, (FIELD, section, name), value)
    except BadText as exc:
        raise located(path, exc.place, "", str(exc)) from None
    except NoRoom:
        entry = with_entry("", (FIELD, section, name), value).rstrip().replace("\n", "\n    ")
        raise BadFile(f"{shown(path)}: there is no place where it can be put; write it yourself:\n    {entry}") from None
    if made == text:
        return False
    _check(made, path)
    try:
        write_whole(path, made.encode("utf-8"), mode)
    except OSError as exc:
        raise BadFile(f"{shown(path)}: {exc.strerror}") from None
    return True


def _said(text: str, path: Path, section: str) -> dict[str, str]:
    """What the layer *text* says in that *section*."""
    trust = shared_of(text, path).values.get(FIELD) or {}
    return trust.get(section) or {}


def _check(made: str, path: Path) -> None:
    """Raise `BadFile` where no document could have that layer."""
    layer = shared_of(made, path)
    try:
        converted(merged([layer.values[FIELD]]), HostTrust)  # without what it takes away
    except BadDocument as exc:
        raise layer.refusal(f"{FIELD}.{exc.path}".rstrip("."), exc.problem) from None


def without(documents: Path, has: Callable[[HostTrust], bool]) -> Iterator[str]:
    """The names of the VMs whose documents, over all their layers, do not say it, or cannot be read; raise `BadFile`."""
    layers = Layers(documents)
    layers.look()
    for name, file in sorted(listing(documents).items()):
        try:
            said = read(file.only(name), layers).host_trust
        except BadFile:
            said = msgspec.UNSET
        if said is msgspec.UNSET or not has(said):
            yield name
