# SPDX-License-Identifier: Apache-2.0
"""Both ends of a channel in dom0, looked at from outside: what stands at its path, who listens there, and who is connected."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.channels.processes import PROC, Process, holders, socket_name
from host_agent.channels.unix_peers import listening, unix_sockets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from host_agent.channels.unix_peers import Listening

#: What can stand at a path.
SOCKET, TERMINAL, NOTHING, OTHER = "socket", "terminal", "nothing", "other"
_KINDS: Final = ((stat.S_ISSOCK, SOCKET), (stat.S_ISCHR, TERMINAL))


class Listener(NamedTuple):
    """Who listens on a socket of that name. *here* is whether it is the one that stands at the path now: QEMU's may be gone from
    there, or replaced. *unread* is what its clients wrote and it has not read.
    """

    here: bool
    processes: tuple[Process, ...] = ()
    clients: tuple[Process, ...] = ()
    queued: tuple[Process, ...] = ()
    unread: int = 0


class Ends(NamedTuple):
    """What is at *path*, whose it is, and who uses it. For a terminal, *holders* have it open; a socket has *listeners*."""

    path: str
    kind: str = NOTHING
    owner: int = 0
    mode: int = 0
    listeners: tuple[Listener, ...] = ()
    holders: tuple[Process, ...] = ()

    @property
    def listener(self) -> Listener | None:
        """Who listens at the path now."""
        return next((one for one in self.listeners if one.here), None)

    @property
    def clients(self) -> tuple[Process, ...]:
        """Who is connected to it, whoever's turn it is."""
        return self.holders + tuple(client for one in self.listeners for client in one.clients + one.queued)


def ends(paths: Iterable[str], proc: Path = PROC) -> dict[str, Ends]:
    """What is at each of *paths*; raise `HostError` where the kernel does not say."""
    wanted = sorted(set(paths))
    heard = listening(unix_sockets()) if wanted else {}
    by_path = {path: heard.get(path, []) for path in wanted}
    names = {socket_name(inode) for found in by_path.values() for one in found for inode in _inodes(one)}
    held = holders(names | set(wanted), proc)
    return {path: _ends(path, found, held) for path, found in by_path.items()}


def _inodes(one: Listening) -> tuple[int, ...]:
    return (one.socket.inode, *one.served, *one.socket.queued)


def _ends(path: str, found: list[Listening], held: dict[str, tuple[Process, ...]]) -> Ends:
    try:
        status = Path(path).lstat()
    except (OSError, ValueError):  # not there; or a path that cannot be one
        return Ends(path, listeners=tuple(_listener(one, None, held) for one in found))
    kind = next((kind for test, kind in _KINDS if test(status.st_mode)), OTHER)
    return Ends(
        path,
        kind,
        status.st_uid,
        stat.S_IMODE(status.st_mode),
        tuple(_listener(one, status.st_ino, held) for one in found),
        held[path] if kind == TERMINAL else (),
    )


def _listener(one: Listening, inode: int | None, held: dict[str, tuple[Process, ...]]) -> Listener:
    def of(inodes: tuple[int, ...]) -> tuple[Process, ...]:
        return tuple(process for each in inodes for process in held[socket_name(each)])

    # The diagnosis has 32 bits of an inode's number.
    here = inode is not None and one.socket.made == inode & 0xFFFF_FFFF
    return Listener(here, of((one.socket.inode,)), of(one.served), of(one.socket.queued), one.unread)
