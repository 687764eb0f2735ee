# SPDX-License-Identifier: Apache-2.0
"""Where channels are known from: xenstore, followed by `Discovery`, and directories of sockets; looked at together."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from host_agent.channels import kept_links, sockets
from host_agent.channels.whereabouts import Whereabouts
from host_agent.errors import BadFile, shown
from host_agent.supervision import supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from host_agent.channels.endpoint import Domain, Endpoint

#: What changed a directory longer ago than this has another time than what changes it next.
_SETTLED_NANOSECONDS: Final = 2_000_000_000


class Follower(Protocol):
    """What follows the running domains and their channels: `Discovery`."""

    @property
    def endpoints(self) -> Mapping[tuple[int, str], Endpoint]:
        """Every channel of every domain, by domid and console."""

    @property
    def domains(self) -> Mapping[int, Domain]:
        """Every domain."""

    @property
    def trouble(self) -> str:
        """Why nothing is known of them, or ""."""

    @property
    def first_look(self) -> asyncio.Event:
        """Set once it is known what runs, or that this cannot be known."""

    async def run(self) -> None:
        """Follow until cancelled."""


class _Last(NamedTuple):
    """What was found in a directory, when it had last changed, and when that was looked at."""

    changed: int
    at: int
    found: dict[str, Endpoint]


class Sources:
    """The *directories* of sockets, libvirt's, and xenstore as the one follows it that *discover* makes."""

    def __init__(
        self,
        directories: Sequence[Path],
        channel: str,
        discover: Callable[[Callable[[], None]], Follower] | None = None,
        libvirts: Path = sockets.LIBVIRT,
    ) -> None:
        self._directories, self._channel = directories, channel
        self._discover, self._libvirts = discover, libvirts
        self._xen: Follower | None = None
        #: Which directory could not be read at the last look, and why; else "".
        self.complaint = ""
        #: Every channel of every running domain at the last look, whoever serves it.
        self.discovered: Sequence[Endpoint] = ()
        self._last: dict[Path, _Last] = {}
        self._others: dict[Path, int] = {}

    @property
    def said(self) -> str:
        """Where channels are known from, for people."""
        directories = ", ".join(shown(directory) for directory in self._directories)
        by_xenstore = self._xen is not None and not self._xen.trouble
        return f"channels in xenstore and in {directories}" if by_xenstore else f"channels in {directories}, without xenstore"

    def follow(self, changed: Callable[[], None]) -> list[asyncio.Task[None]]:
        """Begin to follow xenstore, if that was asked for, and call *changed* on changes; the tasks to cancel in the end."""
        for directory in (*self._directories, self._libvirts):
            kept_links.clean(directory)
        if self._discover is None:
            return []
        self._xen = self._discover(changed)
        # What was found so far is served meanwhile; without it no VM that starts would be found.
        return [asyncio.create_task(supervise(self._xen.run, "xenstore", "it is followed"))]

    async def first_look(self) -> None:
        """Wait until it is known what runs, or that this cannot be known."""
        if self._xen is not None:
            await self._xen.first_look.wait()

    def look(self) -> Whereabouts:
        """What is where now. Of a directory that cannot be read, which `complaint` tells of, it is what was there last."""
        named = sockets.look_at_libvirts(self._libvirts, self._channel)
        self.complaint = ""
        for directory in reversed(self._directories):
            named |= self._look_into(directory)
        xen = self._xen
        if xen is None:
            return Whereabouts(self._channel, (), (), named, xen=False)
        discovered = self.discovered = list(_with_made(xen.endpoints))
        named = self._without_others(named, discovered)
        return Whereabouts(self._channel, discovered, xen.domains.values(), named, xen=not xen.trouble)

    def _look_into(self, directory: Path) -> dict[str, Endpoint]:
        """What stands in it, read again only where something was made or removed there since."""
        changed = _changed(directory)
        last = self._last.get(directory)
        if last is not None and changed and last.changed == changed and last.at - changed > _SETTLED_NANOSECONDS:
            return last.found
        try:
            at = time.time_ns()
            last = self._last[directory] = _Last(changed, at, sockets.look(directory, {} if last is None else last.found))
        except BadFile as exc:
            self.complaint = str(exc)
        return {} if last is None else last.found

    def _without_others(self, named: dict[str, Endpoint], discovered: list[Endpoint]) -> dict[str, Endpoint]:
        """The sockets of directories but for those that were another application's when xenstore last knew of them.

        Their QEMU may outlive its domain's nodes by a moment.
        """
        there = {endpoint.path: endpoint.made for endpoint in named.values()}
        others = {path: made for path, made in self._others.items() if there.get(path) == made}
        self._others = others | {each.path: each.made for each in discovered if each.channel != self._channel}
        running = {endpoint.path for endpoint in discovered}
        return {name: each for name, each in named.items() if each.path in running or others.get(each.path) != each.made}


def _changed(directory: Path) -> int:
    """When something was last made or removed in it; 0 where it cannot be told."""
    try:
        return directory.stat().st_mtime_ns
    except OSError:
        return 0


def _with_made(endpoints: Mapping[tuple[int, str], Endpoint]) -> Iterator[Endpoint]:
    """The channels in xenstore, each with what tells its socket from the one that stands there next."""
    for (domid, _), endpoint in sorted(endpoints.items(), key=_by_console):
        yield endpoint._replace(made=domid if endpoint.is_pty else sockets.made(endpoint.path))


def _by_console(item: tuple[tuple[int, str], Endpoint]) -> tuple[int, int, str]:
    (domid, console), _ = item
    return domid, int(console) if console.isdecimal() else 0, console
