# SPDX-License-Identifier: Apache-2.0
"""The channels of this host's VMs that are other applications': each that a description file names is served by its program."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from host_agent.backends.asking import Answers
from host_agent.backends.choice import by_channel
from host_agent.backends.descriptions import Convention
from host_agent.backends.directories import look
from host_agent.backends.other_channel import PATIENCE, OtherChannel, Shared
from host_agent.channels.whereabouts import Nowhere
from host_agent.errors import shown
from host_agent.log.happenings import Happening, noted
from host_agent.supervision import supervise
from host_agent.talk.timing import DEFAULT
from pv_channel import CHANNEL_NAME
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from host_agent.backends.descriptions import Description
    from host_agent.backends.other_channel import Patience
    from host_agent.channels.endpoint import Domain, Endpoint
    from host_agent.talk.timing import Timing

log = logging.getLogger("pv-host-agent")


class _Key(NamedTuple):
    """Which VM's channel it is: across a migration within this dom0 it is the same one."""

    path: Path
    channel: str
    uuid: bytes


class Others:
    """Serves those of *channels*, all that there are now, that the files in *directories* name; never *ours*."""

    def __init__(
        self,
        directories: Sequence[Path],
        ours: str,
        channels: Callable[[], Sequence[Endpoint]],
        timing: Timing = DEFAULT,
        patience: Patience = PATIENCE,
    ) -> None:
        self._directories, self._ours = directories, frozenset((ours, CHANNEL_NAME))
        self._all, self._timing, self._patience = channels, timing, patience
        self._serving: Mapping[str, tuple[Description, ...]] = {}
        self._complaints: tuple[str, ...] = ()
        self._read_at = 0.0
        self._channels: dict[_Key, OtherChannel] = {}
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._ending: dict[Path, set[asyncio.Task[None]]] = defaultdict(set)

    async def serve(self, _: object = None) -> None:
        """Serve, beside the service, until cancelled; then every program has ended, too."""
        self._shared = Shared(Answers(), asyncio.Lock(), self._timing, self._patience)
        try:
            while True:
                self._look()
                await asyncio.sleep(self._timing.look_every)
        finally:
            await self._end_all()

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._read_at:
            self._read_at = now + self._patience.read_every
            self._read()
        owners: dict[Path, list[Endpoint]] = defaultdict(list)
        for endpoint in self._all():
            owners[endpoint.path].append(endpoint)
        to_serve = self._serving.keys() - self._ours
        if not to_serve and not self._channels:
            return
        served = [one for each in owners.values() for one in each if one.channel in to_serve]
        by_key: dict[_Key, tuple[Endpoint, Domain]] = {}
        for endpoint in served:
            if endpoint.domain is not None:
                key = _Key(endpoint.path, endpoint.channel, endpoint.domain.uuid)
                by_key.setdefault(key, (endpoint, endpoint.domain))
        for key in self._channels.keys() - by_key.keys():
            self._leave(key, by_key)
        for key, (endpoint, domain) in by_key.items():
            self._channel(key, domain).found(_where(endpoint, owners[endpoint.path]), self._serving[key.channel])

    def _read(self) -> None:
        found = look(self._directories, Convention.CHANNELS)
        self._serving = by_channel(found.descriptions)
        for text in found.complaints:
            if text not in self._complaints:
                log.warning("%s", text, extra=noted(Happening.DESCRIPTION_BAD))
        self._complaints = found.complaints

    def _channel(self, key: _Key, domain: Domain) -> OtherChannel:
        """The one that is served already, or a new one: its program is started when earlier ones at its path have ended."""
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = OtherChannel(self._shared, key.channel, domain)
            vm = printable(domain.name, 100)
            work = partial(_serve_after, frozenset(self._ending.get(key.path, ())), channel)
            supervised = supervise(work, f"{vm}, channel {key.channel}", "its program is started", noted(Happening.FAULT, vm=vm))
            self._tasks[key] = asyncio.create_task(supervised)
        return channel

    def _leave(self, key: _Key, left: Iterable[_Key]) -> None:
        """The channel is not there any more, or nobody's to serve; second links to its socket stay where another needs them."""
        channel, task = self._channels.pop(key), self._tasks.pop(key)
        if all(other.path != key.path for other in left):
            channel.forget()
        task.cancel()
        self._ending[key.path].add(task)
        task.add_done_callback(partial(self._has_ended, key.path))

    def _has_ended(self, path: Path, task: asyncio.Task[None]) -> None:
        self._ending[path].discard(task)
        if not self._ending[path]:
            del self._ending[path]

    async def _end_all(self) -> None:
        for key in list(self._channels):
            self._leave(key, ())
        tasks = [task for ending in self._ending.values() for task in ending]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._shared.answers.close()


def _where(endpoint: Endpoint, owners: Sequence[Endpoint]) -> Endpoint | Nowhere:
    """*endpoint*, unless it is not the only one of *owners* of its path: then only the last to start can be reached there."""
    if len(owners) == 1:
        return endpoint
    domids = ", ".join(str(each.domain.domid) for each in owners[:4] if each.domain is not None)
    why = f"{shown(endpoint.path)} is the path of {len(owners)} consoles' channels (domains {domids})"
    cure = "none is served until one is left (a migration within this dom0 ends by itself; else give each its own)"
    return Nowhere(f"{why}: {cure}", claimed=(endpoint,))


async def _serve_after(earlier: Iterable[asyncio.Task[None]], channel: OtherChannel) -> None:
    """Serve, once *earlier* programs at the same path have ended."""
    waited = [task for task in earlier if not task.done()]
    if waited:
        await asyncio.wait(waited)
    await channel.serve()
