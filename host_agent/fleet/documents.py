# SPDX-License-Identifier: Apache-2.0
"""The documents of a whole fleet as texts out of etcd: which of them are for VMs of this host, and what those should become.

A document is read once to see whose it is, and parsed whole only where its VM is.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.documents.document_file import wanted
from host_agent.documents.inventory import SLICE_SECONDS
from host_agent.documents.layer import DEFAULTS, INHERIT, own_of, shared_of
from host_agent.documents.layers import names
from host_agent.documents.stack import Stack
from host_agent.documents.text_file import text_of_bytes
from host_agent.errors import BadFile, shown
from host_agent.fleet.layout import DOCUMENTS
from pv_channel.errors import LocalError
from pv_channel.greeting import NO_UUID, uuid_bytes, uuid_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from host_agent.channels.whereabouts import Whereabouts
    from host_agent.documents.document_file import Wanted
    from host_agent.documents.layer import Layer, Own
    from host_agent.fleet.cache import Text

#: Changes whenever a document does, or what lies below it.
Signature = tuple[int, ...]


class Documents:
    """*texts* by their names in etcd, which an error shows below *prefix*."""

    def __init__(self, prefix: str, texts: Mapping[str, Text], clock: Callable[[], float] = time.monotonic) -> None:
        self._prefix, self._clock = prefix, clock
        self._texts: dict[str, Text] = {}
        self._layers: dict[str, tuple[int, Layer | str]] = {}
        self._uuids: dict[str, bytes] = {}
        self._by_uuid: defaultdict[bytes, set[str]] = defaultdict(set)
        self._below: dict[str, tuple[str, ...]] = {}
        self._unread: dict[str, None] = {}
        self._faults: list[str] = []
        self.change(texts)

    def replace(self, texts: Mapping[str, Text]) -> dict[str, Text | None]:
        """There are these and no others; what of that is a change."""
        gone = dict.fromkeys(self._texts.keys() - texts.keys())
        news = {name: text for name, text in texts.items() if self._texts.get(name) != text}
        changes: dict[str, Text | None] = {**gone, **news}
        self.change(changes)
        return changes

    def change(self, changes: Mapping[str, Text | None]) -> None:
        """Some were written, or (None) are gone."""
        for name, text in changes.items():
            if text is None:
                self._texts.pop(name, None)
            else:
                self._texts[name] = text
            if name.startswith(f"{DOCUMENTS}/"):
                self._unread[_vm(name)] = None

    def read_some(self) -> bool:
        """Read whose the documents are that are new, for as long as one look may take; whether there are more."""
        end = self._clock() + SLICE_SECONDS
        while self._unread and self._clock() < end:
            vm = next(iter(self._unread))
            del self._unread[vm]
            self._see_whose(vm)
        return bool(self._unread)

    def has(self, vm: str) -> bool:
        """Whether there is a document for the VM of that name."""
        return f"{DOCUMENTS}/{vm}" in self._texts

    def key(self, vm: str) -> str:
        """What the ledger knows the VM by, as `Wanted.key`."""
        uuid = self._uuids.get(vm, NO_UUID)
        return vm if uuid == NO_UUID else uuid_text(uuid)

    def faults(self) -> list[str]:
        """What is wrong with documents of which nobody knows whose they are, each fault once."""
        faults, self._faults = self._faults, []
        return faults

    def here(self, whereabouts: Whereabouts) -> dict[str, str]:
        """The VMs that are on this host and have a document: their names, by their keys. Of two documents the first counts."""
        found = {vm for uuid in whereabouts.uuids if uuid != NO_UUID for vm in self._by_uuid.get(uuid, ())}
        found |= {vm for vm in whereabouts.names if vm in self._uuids and whereabouts.runs(vm, self._uuids[vm])}
        return {self.key(vm): vm for vm in sorted(found, reverse=True)}

    def signature(self, vm: str) -> Signature:
        """Of the VM's document with all that is known to lie below it."""
        return tuple(self._revision(name) for name in (f"{DOCUMENTS}/{vm}", *self._below.get(vm, ())))

    def wanted(self, vm: str) -> Wanted:
        """What the VM should become; raise `BadFile`, which names the key in etcd that is at fault."""
        own = self._own(vm)
        self._below[vm] = names(own)
        return wanted(self.stack(own).document(), self._path(f"{DOCUMENTS}/{vm}"), vm)

    def stack(self, own: Own) -> Stack:
        """*own* over what lies below it; raise `BadFile` where that is bad or missing."""
        below = [layer for layer in map(self._layer, names(own)) if layer is not None]
        return Stack((*below, own.layer))

    def vms(self) -> list[str]:
        """The names of all VMs that have documents."""
        return [_vm(name) for name in self._texts if name.startswith(f"{DOCUMENTS}/")]

    def problem(self, vm: str) -> str | None:
        """What is wrong with the VM's document, if anything is."""
        try:
            self.wanted(vm)
        except BadFile as exc:
            return str(exc)
        return None

    def _see_whose(self, vm: str) -> None:
        """One that cannot be read is still whose it was."""
        before = self._uuids.pop(vm, NO_UUID)
        self._by_uuid[before].discard(vm)
        if not self._by_uuid[before]:
            del self._by_uuid[before]
        if not self.has(vm):
            self._below.pop(vm, None)
            return
        uuid = self._uuids[vm] = self._uuid(vm, before)
        others = sorted(self._by_uuid[uuid])
        if uuid != NO_UUID and others:
            path = shown(self._path(f"{DOCUMENTS}/{vm}"))
            self._faults.append(f"{path}: {uuid_text(uuid)} has a document already, {others[0]}'s; cure: remove one")
        self._by_uuid[uuid].add(vm)

    def _uuid(self, vm: str, otherwise: bytes) -> bytes:
        """The uuid that the document names, else the one that the VM is called by."""
        try:
            said = self._own(vm).layer.values.get("uuid", vm)
            return uuid_bytes(said) if isinstance(said, str) else otherwise
        except LocalError:
            return NO_UUID
        except BadFile as exc:
            if otherwise == NO_UUID:
                self._faults.append(str(exc))
            return otherwise

    def _own(self, vm: str) -> Own:
        path = self._path(f"{DOCUMENTS}/{vm}")
        return own_of(text_of_bytes(self._texts[f"{DOCUMENTS}/{vm}"].value, path), path)

    def _layer(self, name: str) -> Layer | None:
        """The defaults or a group; None where there are no defaults."""
        text = self._texts.get(name)
        if text is None:
            if name == DEFAULTS:
                return None
            path = shown(self._path(name))
            raise BadFile(f"{path}: there is no such group, and '{INHERIT}' names it; cure: fleet push it, or take it out")
        revision, layer = self._layers.get(name, (0, ""))
        if revision != text.revision:
            layer = self._shared(name, text)
            self._layers[name] = (text.revision, layer)
        if isinstance(layer, str):
            raise BadFile(layer)
        return layer

    def _shared(self, name: str, text: Text) -> Layer | str:
        path = self._path(name)
        try:
            return shared_of(text_of_bytes(text.value, path), path)
        except BadFile as exc:
            return str(exc)

    def _revision(self, name: str) -> int:
        text = self._texts.get(name)
        return 0 if text is None else text.revision

    def _path(self, name: str) -> Path:
        """As an error names it: no file, but where it is all the same."""
        return Path(f"etcd:{self._prefix}{name}")


def _vm(name: str) -> str:
    return name.removeprefix(f"{DOCUMENTS}/")
