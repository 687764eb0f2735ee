# SPDX-License-Identifier: Apache-2.0
"""Where a migration goes to or comes from, as an operator says it: told to a QEMU by channels, or by a uri where it has none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from host_agent.documents.text_file import text_of
from host_agent.errors import BadFile, shown
from host_agent.qemu import migration_channel, migration_uri
from host_agent.qemu.migration_address import (
    BadChannel,
    FdSocketAddress,
    FileMigrationArgs,
    InetSocketAddress,
    MigrationExecCommand,
)
from host_agent.qemu.migration_channel import MigrationChannelType
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from host_agent.qemu.capabilities import Capabilities
    from host_agent.qemu.migration_address import MigrationAddress
    from host_agent.qemu.migration_channel import MigMode, MigrationChannel

#: What a file of channels begins with on the command line.
_FILE: Final = "@"
#: What asks a listener to choose its port.
_ANY: Final = "0"
_WORDS: Final = 300


@dataclass(frozen=True, slots=True)
class Route:
    """The channels of one migration; `route` makes it."""

    channels: tuple[MigrationChannel, ...]
    said: str

    def __str__(self) -> str:
        return self.said

    @property
    def main(self) -> MigrationAddress:
        """The address that the VM itself goes by."""
        return next(each.addr for each in self.channels if each.channel_type is MigrationChannelType.MAIN)

    @property
    def answers(self) -> bool | None:
        """Whether the other end can answer on it; None where a descriptor may be anything."""
        if isinstance(self.main, FdSocketAddress):
            return None
        return not isinstance(self.main, MigrationExecCommand | FileMigrationArgs)

    @property
    def file(self) -> str | None:
        """The name of the file that it is."""
        return printable(self.main.filename, _WORDS) if isinstance(self.main, FileMigrationArgs) else None

    def arguments(self, can: Capabilities) -> dict[str, object]:
        """It for QMP's `migrate` or `migrate-incoming` of such a QEMU; raise `BadChannel` where that cannot be told of it."""
        if not can.channels:
            return {"uri": migration_channel.downgrade(self.channels)}
        for each in self.channels:
            said = migration_channel.to_json([each])[0]
            self._check(said["channel-type"], can.channel_types)
            addr = said["addr"]
            self._check(addr.get("transport") if isinstance(addr, dict) else None, can.transports)
        return {"channels": migration_channel.to_json(self.channels)}

    def listening_at(self, addresses: Sequence[Mapping[str, object]]) -> Route:
        """It with the port of *addresses*, where a listener says it is, for one that was asked to choose."""
        main = self.main
        port = next((each["port"] for each in addresses if each.get("type") == "inet" and "port" in each), None)
        if not isinstance(main, InetSocketAddress) or main.port != _ANY or not isinstance(port, str):
            return self
        found = replace(main, port=port)
        channels = tuple(replace(each, addr=found) if each.addr is main else each for each in self.channels)
        return Route(channels, printable(migration_uri.written(found), _WORDS))

    def _check(self, word: object, known: frozenset[str]) -> None:
        if word not in known:
            raise BadChannel(f"{self}: this QEMU has no {word}, only {', '.join(sorted(known))}")


def outgoing(said: str, mode: MigMode) -> Route:
    """A way for a VM to go; raise `HostError` where QEMU would refuse it, misunderstand it, or crash on it."""
    return _checked(said, lambda channels: migration_channel.check_outgoing(channels, mode))


def incoming(said: str) -> Route:
    """A way for a VM to come; raise `HostError` likewise."""
    return _checked(said, migration_channel.check_incoming)


def _checked(said: str, check: Callable[[Sequence[MigrationChannel]], None]) -> Route:
    """*said*, a uri or ``@FILE``, where *check* has nothing against it."""
    if not said.startswith(_FILE):
        found = Route(migration_channel.from_uri(said), printable(said, _WORDS))
        check(found.channels)
        return found
    path = Path(said.removeprefix(_FILE))
    try:
        value = msgspec.json.decode(text_of(path))
        channels = migration_channel.from_json(value) if isinstance(value, list) else migration_channel.from_arguments(value)
        check(channels)
    except (msgspec.DecodeError, BadChannel) as exc:
        raise BadFile(f"{shown(path)}: {exc}") from None
    return Route(channels, f"what {shown(path)} says")
