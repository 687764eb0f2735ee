# SPDX-License-Identifier: Apache-2.0
"""What a QEMU can do to move a VM, read from its own schema: a version says nothing of what a distribution left out or put in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from host_agent.errors import shown
from host_agent.qemu.qmp import QmpTrouble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from host_agent.qemu.qmp import Qmp

#: The mode of a QEMU that knows of none.
NORMAL: Final = "normal"


class _Member(msgspec.Struct):
    """Of an object; of an enumeration, which has no types; or of an alternate, which has no names."""

    name: str = ""
    type: str = ""


class _Entry(msgspec.Struct, rename="kebab"):
    """One of a schema's types and commands, as far as this asks; they refer to one another by made-up names."""

    name: str
    arg_type: str = ""
    element_type: str = ""
    members: list[_Member] = []


_NOTHING: Final = _Entry("")
#: From a command to its arguments, or from a list to its elements, and to theirs if those are lists.
_BETWEEN: Final = 2


class Capabilities(NamedTuple):
    """What a QEMU's schema says of migration."""

    #: Whether `migrate` and `migrate-incoming` take typed channels; where not, they take a uri alone.
    channels: bool
    #: The types of channels, and the transports of their addresses; nothing where it has no channels.
    channel_types: frozenset[str]
    transports: frozenset[str]
    #: The modes to move in.
    modes: frozenset[str]
    #: Whether a destination can be told to stay, and say why, where the move fails.
    exit_on_error: bool
    #: The names of what `migrate-set-capabilities` can switch, and of what `migrate-set-parameters` can set.
    switches: frozenset[str]
    parameters: frozenset[str]


class _Schema:
    """Look-ups in a schema; what is not in it has no members and no values."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._entries: Mapping[str, _Entry] = {entry.name: entry for entry in entries}

    def members(self, name: str) -> dict[str, _Entry]:
        """The members of an object, or of a command's arguments, with their types; of a list, those of its elements."""
        entry = self._entry(name)
        for _ in range(_BETWEEN):
            entry = self._entries.get(entry.arg_type or entry.element_type, entry)
        return {member.name: self._entry(member.type) for member in entry.members}

    def values(self, name: str, *path: str) -> frozenset[str]:
        """The values of the enumeration that is reached from *name* by these members."""
        entry = self._entry(name)
        for step in path:
            entry = self.members(entry.name).get(step, _NOTHING)
        return frozenset(member.name for member in entry.members)

    def _entry(self, name: str) -> _Entry:
        return self._entries.get(name, _NOTHING)


def read(schema: object) -> Capabilities:
    """What the answer to `query-qmp-schema` says; raise `msgspec.ValidationError` where it is no schema."""
    known = _Schema(msgspec.convert(schema, list[_Entry]))
    modes = known.values("migrate-set-parameters", "mode")
    return Capabilities(
        channels="channels" in known.members("migrate") and "channels" in known.members("migrate-incoming"),
        channel_types=known.values("migrate", "channels", "channel-type"),
        transports=known.values("migrate", "channels", "addr", "transport"),
        modes=modes or frozenset({NORMAL}),
        exit_on_error="exit-on-error" in known.members("migrate-incoming"),
        switches=known.values("migrate-set-capabilities", "capabilities", "capability"),
        parameters=frozenset(known.members("migrate-set-parameters")),
    )


async def asked(qmp: Qmp) -> Capabilities:
    """What this QEMU can do; raise `QmpTrouble`."""
    try:
        found = read(await qmp.execute("query-qmp-schema"))
    except msgspec.ValidationError as exc:
        raise QmpTrouble(f"{shown(qmp.path)}: what it says of its commands is no schema: {exc}") from None
    if not found.switches:
        raise QmpTrouble(f"{shown(qmp.path)}: this QEMU cannot move a VM: it has no migrate-set-capabilities")
    return found
