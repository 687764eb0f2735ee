# SPDX-License-Identifier: Apache-2.0
"""The channels of one migration: which there may be in which mode, from and to what QMP's `migrate` and `migrate-incoming` take.

Everything is checked before QEMU hears of it: some of what is wrong here ends QEMU, and the VM in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from host_agent.qemu import migration_json, migration_uri
from host_agent.qemu.migration_address import BadChannel, FileMigrationArgs, InetSocketAddress, UnixSocketAddress
from host_agent.qemu.qmp_members import Members
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.qemu.migration_address import MigrationAddress

_EITHER: Final = "need either 'uri' or 'channels' argument"


class MigrationChannelType(StrEnum):
    """What goes through a channel: the VM, or what a QEMU that takes it over needs even earlier."""

    MAIN = "main"
    CPR = "cpr"


class MigMode(StrEnum):
    """How a VM moves: to another machine or a file, across a reboot of the host, or to a new QEMU that takes its memory over."""

    NORMAL = "normal"
    CPR_REBOOT = "cpr-reboot"
    CPR_TRANSFER = "cpr-transfer"
    CPR_EXEC = "cpr-exec"


@dataclass(frozen=True, slots=True)
class MigrationChannel:
    """One stream of a migration."""

    channel_type: MigrationChannelType
    addr: MigrationAddress


def from_uri(uri: str) -> tuple[MigrationChannel, ...]:
    """What QEMU makes of a *uri*: one main channel; raise `BadChannel`."""
    return (MigrationChannel(MigrationChannelType.MAIN, migration_uri.read(uri)),)


def from_json(channels: object) -> tuple[MigrationChannel, ...]:
    """QMP's `channels`, each judged by itself; `check_outgoing` and `check_incoming` judge them together. Raise `BadChannel`."""
    if not isinstance(channels, list):
        raise BadChannel("Invalid parameter type for 'channels', expected: array")
    return tuple(_channel(Members(each, f"channels[{index}]")) for index, each in enumerate(channels))


def from_arguments(arguments: object) -> tuple[MigrationChannel, ...]:
    """The channels of a command's arguments, which are a `uri` or `channels`; raise `BadChannel`."""
    members = Members(arguments, "")
    uri = members.string("uri") if "uri" in members else None
    channels = from_json(members.take("channels")) if "channels" in members else ()
    members.end()
    if (uri is None) == (not channels):
        raise BadChannel(_EITHER)
    return channels if uri is None else from_uri(uri)


def to_json(channels: Sequence[MigrationChannel]) -> list[dict[str, object]]:
    """QMP's `channels`."""
    return [{"channel-type": each.channel_type.value, "addr": migration_json.written(each.addr)} for each in channels]


def check_outgoing(channels: Sequence[MigrationChannel], mode: MigMode = MigMode.NORMAL) -> None:
    """Raise `BadChannel` where `migrate` would refuse *channels* in this *mode*, crash on them, or not look at them."""
    if not channels:
        raise BadChannel(_EITHER)
    for kind in MigrationChannelType:
        if len(_places(channels, kind)) > 1:
            raise BadChannel(f"Channel list has more than one {kind} entry: {' and '.join(_places(channels, kind))}")
    if not _places(channels, MigrationChannelType.MAIN):
        raise BadChannel("Channel list has no main entry, which crashes QEMU 10; cure: a channel whose channel-type is main")
    _check_cpr(channels, mode)
    for index, each in enumerate(channels):
        _check_reachable(each.addr, f"channels[{index}].addr")


def check_incoming(channels: Sequence[MigrationChannel]) -> None:
    """Raise `BadChannel` where `migrate-incoming` would refuse *channels*, or take one for what it is not."""
    if not channels:
        raise BadChannel(_EITHER)
    if len(channels) > 1:
        raise BadChannel("Channel list must have only one entry, for type 'main'; QEMU's own -incoming option takes the other")
    if channels[0].channel_type is not MigrationChannelType.MAIN:
        raise BadChannel("channels[0]: Channel list has no main entry; QEMU's own -incoming option takes a cpr channel")


def downgrade(channels: Sequence[MigrationChannel]) -> str:
    """The one uri that says all of *channels* to a QEMU that knows none; raise `BadChannel` with the reason where none does."""
    if len(channels) != 1 or channels[0].channel_type is not MigrationChannelType.MAIN:
        raise BadChannel("this QEMU takes one uri and no channels, and a uri is one main channel; cure: a newer QEMU")
    if isinstance(channels[0].addr, FileMigrationArgs):
        raise BadChannel(
            "this QEMU takes no channels, and none that takes no channels knows file:; cure: exec:cat >FILE, or exec:cat <FILE"
        )
    try:
        return migration_uri.written(channels[0].addr)
    except BadChannel as exc:
        raise BadChannel(f"this QEMU takes a uri and no channels, and {exc}") from None


def _channel(members: Members) -> MigrationChannel:
    kind = MigrationChannelType(members.one_of("channel-type", [each.value for each in MigrationChannelType]))
    addr = migration_json.read(members.members("addr"))
    members.end()
    return MigrationChannel(kind, addr)


def _places(channels: Sequence[MigrationChannel], kind: MigrationChannelType) -> list[str]:
    return [f"channels[{index}]" for index, each in enumerate(channels) if each.channel_type is kind]


def _check_reachable(addr: MigrationAddress, place: str) -> None:
    """An address that only one who listens can have; QEMU would say that all is well, and fail then."""
    if isinstance(addr, InetSocketAddress) and not addr.host:
        raise BadChannel(f"{place}: address resolution failed for :{printable(addr.port)}; cure: a host to connect to")
    if isinstance(addr, UnixSocketAddress) and not addr.path and not addr.abstract:
        raise BadChannel(f"{place}: Failed to connect to ''; cure: the path of a socket")


def _check_cpr(channels: Sequence[MigrationChannel], mode: MigMode) -> None:
    places = _places(channels, MigrationChannelType.CPR)
    if mode is MigMode.CPR_TRANSFER and not places:
        raise BadChannel("missing 'cpr' migration channel; cure: beside the main one a channel whose channel-type is cpr")
    if mode is not MigMode.CPR_TRANSFER and places:
        raise BadChannel(f"{places[0]}: a cpr channel is for mode cpr-transfer alone; QEMU would not look at it in mode {mode}")
    for each in channels:
        if each.channel_type is MigrationChannelType.CPR and not isinstance(each.addr, UnixSocketAddress):
            raise BadChannel(f"{places[0]}.addr: bad cpr channel address; must be unix")
