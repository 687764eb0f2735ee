# SPDX-License-Identifier: Apache-2.0
"""Put an operator's file into etcd, once it is known to be good there: over the fleet's defaults and groups, or below its VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from host_agent.documents.directory import MAX_NAME
from host_agent.documents.document_file import wanted
from host_agent.documents.layer import DEFAULTS, own_of, shared_of
from host_agent.documents.layers import GROUPS
from host_agent.documents.text_file import text_of
from host_agent.errors import BadFile, HostError, shown
from host_agent.etcd.wire import Compare, Get, Put
from host_agent.fleet.cache import Text
from host_agent.fleet.documents import Documents
from host_agent.fleet.layout import DOCUMENTS
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from host_agent.etcd.client import Etcd
    from host_agent.etcd.wire import Range
    from host_agent.fleet.layout import Layout

#: Of the VMs that a change of what they share would leave without a good document, so many are told.
_TOLD = 3


class Pushed(NamedTuple):
    """What stands at *key* now, since *revision*; *is_new* is whether that was this push."""

    key: str
    revision: int
    is_new: bool


def name_of(path: Path, called: str | None) -> str:
    """Where the file belongs, by its place: ``defaults.yaml``, ``groups/GROUP.yaml``, else a VM's that may be *called* otherwise.

    Raise `BadFile` for a name that no VM can have.
    """
    if called is None and path.stem == DEFAULTS:
        return DEFAULTS
    kind = GROUPS if called is None and path.absolute().parent.name == GROUPS else DOCUMENTS
    return f"{kind}/{checked(path.stem if called is None else called)}"


def checked(name: str) -> str:
    """The same name; raise `BadFile` for one that no VM and no group can have."""
    if not name or "/" in name or printable(name, MAX_NAME) != name:
        raise BadFile(f"{shown(name)}: a name here is 1 to {MAX_NAME} printable ASCII characters without '/'")
    return name


async def push(etcd: Etcd, layout: Layout, path: Path, name: str) -> Pushed:
    """Have what the file at *path* says stand in etcd as *name*; raise `BadFile`, `EtcdError`, or `HostError` for a conflict."""
    text = text_of(path)
    key = layout.of(name)
    before = await etcd.get(key)
    value, revision = text.encode(), 0 if before is None else before.mod_revision
    check = _check_vm if name.startswith(f"{DOCUMENTS}/") else _check_shared
    await check(etcd, layout, path, text, name)
    if before is not None and before.value == value:
        return Pushed(key.decode(), revision, is_new=False)
    answer = await etcd.txn([Compare(key, "MOD", revision)], [Put(key, value)], [Get(key)])
    if answer.succeeded:
        return Pushed(key.decode(), answer.header.revision, is_new=True)
    there = answer.read[0][0] if answer.read and answer.read[0] else None
    if there is not None and there.value == value:  # our own, whose answer was lost
        return Pushed(key.decode(), there.mod_revision, is_new=True)
    where = shown(key.decode())
    raise HostError(f"{shown(path)}: somebody else changed {where} meanwhile, and nothing was written; cure: look, push again")


async def _check_vm(etcd: Etcd, layout: Layout, path: Path, text: str, name: str) -> None:
    """Raise `BadFile` where the file is no document over the fleet's defaults and groups."""
    _, *below = layout.written
    documents = Documents(layout.prefix, await texts_of(etcd, layout, below))
    wanted(documents.stack(own_of(text, path)).document(), path, name.removeprefix(f"{DOCUMENTS}/"))


async def _check_shared(etcd: Etcd, layout: Layout, path: Path, text: str, name: str) -> None:
    """Raise `BadFile` where the file is bad, or would leave a VM without a good document that has one."""
    shared_of(text, path)
    texts = await texts_of(etcd, layout, layout.written)
    before, after = Documents(layout.prefix, texts), Documents(layout.prefix, {**texts, name: Text(0, text.encode())})
    worse = [(vm, why) for vm in before.vms() if before.problem(vm) is None and (why := after.problem(vm)) is not None]
    if worse:
        vms = ", ".join(vm for vm, _ in worse[:_TOLD]) + (f" and {len(worse) - _TOLD} more" if len(worse) > _TOLD else "")
        raise BadFile(f"{shown(path)}: not with the documents of {vms}: {worse[0][1]}")


async def texts_of(etcd: Etcd, layout: Layout, parts: Sequence[Range]) -> dict[str, Text]:
    """What operators have written in *parts*, by its name; raise one of `EtcdError`."""
    found = [kv for part in parts for kv in (await etcd.read(part)).kvs]
    names = ((layout.name(kv.key), kv) for kv in found)
    return {name: Text(kv.mod_revision, kv.value) for name, kv in names if name is not None}
