# SPDX-License-Identifier: Apache-2.0
"""Take a VM's document out of etcd, but not what somebody else has written there meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from host_agent.errors import HostError, shown
from host_agent.etcd.wire import Compare, Delete, Get
from host_agent.fleet.layout import DOCUMENTS
from host_agent.fleet.push import checked

if TYPE_CHECKING:
    from host_agent.etcd.client import Etcd
    from host_agent.fleet.layout import Layout


class Removed(NamedTuple):
    """Nothing stands at *key*; *was_there* is whether something did."""

    key: str
    was_there: bool


def name_of(vm: str) -> str:
    """Where the document of the VM *vm* is; raise `BadFile` for a name that no VM can have."""
    return f"{DOCUMENTS}/{checked(vm)}"


async def remove(etcd: Etcd, layout: Layout, name: str) -> Removed:
    """Have nothing stand in etcd as *name*; raise `EtcdError`, or `HostError` where somebody else changed it meanwhile."""
    key = layout.of(name)
    before = await etcd.get(key)
    if before is None:
        return Removed(key.decode(), was_there=False)
    answer = await etcd.txn([Compare(key, "MOD", before.mod_revision)], [Delete(key)], [Get(key)])
    if answer.succeeded or answer.read == [[]]:  # it is gone: by us, though the answer may have been lost, or by somebody else
        return Removed(key.decode(), was_there=True)
    where = shown(key.decode())
    raise HostError(f"{where}: somebody else changed it meanwhile, and nothing was removed; cure: look, and remove it again")
