# SPDX-License-Identifier: Apache-2.0
"""A QEMU's helpers with state of their own (dbus-vmstate) before a migration: all are there, answer, and stand in its id-list.

QEMU counts them before it asks them, and a source without a list takes a helper's failure for success: the VM would run nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError
from host_agent.qemu.vmstate_peers import checked, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.qemu.migration_end import End

_TYPE: Final = "child<dbus-vmstate>"


async def named(end: End, ids: Sequence[str] | None = None, *, leaves: bool) -> list[str]:
    """The ids whose state moves with the VM of *end*, which are in its id-list then; none where it has no dbus-vmstate.

    *ids* are the source's, for a destination that is told. *leaves* is for the source. Raise `HostError` where a helper is not
    there, or does not answer.
    """
    found = await _object(end)
    if found is None:
        if ids:
            raise HostError(
                f"{end.text} has no dbus-vmstate object, and the VM brings the state of {', '.join(ids)};"
                " cure: start it with '-object dbus-vmstate,…' on a bus with the same helpers"
            )
        return []
    own = await _property(end, found, "id-list")
    wanted = ids if ids is not None else (listed(own) if own else None)
    names = await checked(await _property(end, found, "addr"), wanted, saves=leaves)
    if names and ",".join(names) != own:
        await end.qmp.execute("qom-set", {"path": found, "property": "id-list", "value": ",".join(names)})
    return names


async def _object(end: End) -> str | None:
    """The path of the one that there can be."""
    for each in await end.objects():
        if each.type == _TYPE:
            return f"/objects/{each.name}"
    return None


async def _property(end: End, path: str, name: str) -> str:
    value = await end.qmp.execute("qom-get", {"path": path, "property": name})
    return value if isinstance(value, str) else ""
