# SPDX-License-Identifier: Apache-2.0
"""Plug a channel into a running guest: all of it, up to both drivers being connected, or nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.channels import kept_links
from host_agent.errors import HostError, shown
from host_agent.qemu import hotplug_chardev, hotplug_nodes
from host_agent.qemu.hotplug_chardev import PREFIX, chardevs
from host_agent.qemu.hotplug_choice import IDS, IDS_IN_STUBDOMAIN, check_name, check_path, free_ids, path_of
from host_agent.qemu.hotplug_closing import take_away
from host_agent.qemu.hotplug_nodes import NewConsole, Place
from host_agent.qemu.hotplug_session import opened
from host_agent.qemu.hotplug_states import CONNECTED, INITIALISED, INITIALISING, States, wait_for
from host_agent.qemu.qmp import QmpTrouble
from host_agent.qemu.running_vm import shown as shown_domain
from host_agent.qemu.steps import TakenBack, take
from host_agent.xenstore.errors import Lost
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.channels.endpoint import Domain
    from host_agent.channels.toolstack import Console
    from host_agent.qemu.hotplug_session import Places, Session

#: QEMU takes a console up within milliseconds, or refuses it for good and says so in its log alone.
TAKEN_SECONDS: Final = 10.0
#: Ids that are tried: one that was spoilt in this QEMU's life looks like any other until it is used.
_ATTEMPTS: Final = 3


class Wanted(NamedTuple):
    """What is to be plugged. Without a *path* the socket goes where `path_of` says; a *pty* has none."""

    vm: str
    name: str
    path: Path | None = None
    pty: bool = False
    seconds: float = 30.0
    taken_seconds: float = TAKEN_SECONDS


class Plugged(NamedTuple):
    """A channel that is there, and whether it was before. *path* is its socket's or its terminal's.

    The *console* is the domain's own, or that of the *stubdomain* in which its QEMU runs.
    """

    domain: Domain
    console: int
    name: str
    connection: str
    path: str
    already: bool = False
    stubdomain: int | None = None


class NotTakenUp(HostError):  # noqa: N818 -- it says what the console was
    """QEMU does nothing about a console with this id, and another id may help."""


async def plug(wanted: Wanted, places: Places, tell: Callable[[str], None]) -> Plugged:
    """Have the channel be there and connected. Raise `HostError` with why not; what was begun is undone then, cancelled or not.

    *tell* gets a sentence for whoever waits.
    """
    check_name(wanted.name)
    async with opened(places, wanted.vm) as session:
        there = next((each for each in session.channels if each.name == wanted.name), None)
        if there is not None:
            return await _already(session, there, wanted, tell)
        path = None if wanted.pty else wanted.path or path_of(session.vm, wanted.name)
        if session.stubdomain is not None:
            tell(f"{shown_domain(session.vm)} has its QEMU in {shown_domain(session.domain)}, which gets the console")
        labels = await chardevs(session.qmp)
        used = await hotplug_nodes.used(session.store, session.domain.domid)
        ids = free_ids(used, labels, IDS if session.stubdomain is None else IDS_IN_STUBDOMAIN)
        if path is not None:
            everyones = [each for each in session.others.consoles if each.domid != session.domain.domid]
            await asyncio.to_thread(check_path, path, everyones + session.consoles, session.others.domains)
        return await _plug_at_one_of(ids[:_ATTEMPTS], path, session, wanted, tell)


async def _plug_at_one_of(
    ids: list[int], path: Path | None, session: Session, wanted: Wanted, tell: Callable[[str], None]
) -> Plugged:
    *first, last = ids
    for number in first:
        try:
            return await _plug_at(number, path, session, wanted, tell)
        except TakenBack as exc:
            if not isinstance(exc.cause, NotTakenUp) or exc.left:
                raise
            tell(str(exc))
    return await _plug_at(last, path, session, wanted, tell)


async def _plug_at(number: int, path: Path | None, session: Session, wanted: Wanted, tell: Callable[[str], None]) -> Plugged:
    making = _Making(session, wanted, number, path)
    await take((_Chardev(making), _Nodes(making), _Handshake(making, tell)), tell)
    console = making.console
    path_or_tty = console.path or console.tty
    return Plugged(session.vm, number, wanted.name, console.connection, path_or_tty, stubdomain=session.stubdomain)


async def _already(session: Session, console: Console, wanted: Wanted, tell: Callable[[str], None]) -> Plugged:
    """The channel of that name, where it is what is wanted; raise `HostError` where it is not, or does not work."""
    connection, path = ("pty", console.tty) if console.connection == "pty" else ("socket", console.path)
    if wanted.pty != (connection == "pty") or wanted.path not in (None, Path(path)):
        raise HostError(
            f"a channel {printable(wanted.name, 100)} is there, console {console.id}, at {shown(path)};"
            f" cure: pv-host-agent unplug {printable(wanted.vm, 100)} {console.id}"
        )
    place = Place(session.domain.domid, int(console.id))

    def patience(now: States) -> None:
        tell(f"it is there already; waiting for the guest, for at most {wanted.seconds:g} s: {now}")

    now = await wait_for(session.store, place, _is_connected, wanted.seconds, patience)
    if not now.connected:
        raise HostError(f"channel {printable(wanted.name, 100)} is there, console {console.id}, and not connected: {now}")
    return Plugged(session.vm, place.id, wanted.name, connection, path, already=True, stubdomain=session.stubdomain)


def _is_connected(now: States) -> bool:
    return now.connected


class _Making:
    """What the steps make together."""

    def __init__(self, session: Session, wanted: Wanted, number: int, path: Path | None) -> None:
        self.session, self.wanted = session, wanted
        self.console = NewConsole(
            Place(session.domain.domid, number), wanted.name, "pty" if path is None else "socket", f"{PREFIX}{number}",
            "" if path is None else str(path),
        )  # fmt: skip


class _Chardev:
    """QEMU's end. It comes first: a console that QEMU finds without it is lost to QEMU 7.2 and spoils the id for QEMU 10."""

    def __init__(self, making: _Making) -> None:
        self._making, self._qmp = making, making.session.qmp
        self._may_be_there = False

    async def do(self) -> None:
        console = self._making.console
        self._may_be_there = True
        try:
            if console.connection == "socket":
                await hotplug_chardev.add_socket(self._qmp, console.chardev, console.path)
            else:
                tty = await hotplug_chardev.add_pty(self._qmp, console.chardev)
                self._making.console = console._replace(tty=tty)
        except QmpTrouble as exc:
            self._may_be_there = not exc.error_class
            raise
        if console.path and not Path(console.path).is_socket():
            raise HostError(f"{shown(console.path)}: QEMU made no socket that dom0 sees there: it runs in another root directory")

    async def undo(self) -> None:
        if self._may_be_there:
            await hotplug_chardev.remove(self._qmp, self._making.console.chardev)
            if self._making.console.path:
                kept_links.forget(Path(self._making.console.path))  # of a service that has seen it meanwhile


class _Nodes:
    """What libxl would have written."""

    def __init__(self, making: _Making) -> None:
        self._making, self._store = making, making.session.store
        self._may_be_there = False

    async def do(self) -> None:
        self._may_be_there = True
        try:
            await hotplug_nodes.write(self._store, self._making.console)
        except HostError as exc:
            self._may_be_there = isinstance(exc, Lost)
            raise

    async def undo(self) -> None:
        if self._may_be_there:
            await take_away(self._store, self._making.console.place)


class _Handshake:
    """Both drivers taking the console up, the guest's first."""

    def __init__(self, making: _Making, tell: Callable[[str], None]) -> None:
        self._making, self._store, self._tell = making, making.session.store, tell

    async def do(self) -> None:
        wanted, place = self._making.wanted, self._making.console.place
        now = await self._wait(lambda now: now.frontend in (INITIALISED, CONNECTED), wanted.seconds)
        if now.frontend not in (INITIALISED, CONNECTED):
            raise self._not_by_the_guest(now)
        await hotplug_nodes.offer_to_qemu(self._store, place)
        now = await self._wait(lambda now: now.backend != INITIALISING, wanted.taken_seconds)
        if now.backend == INITIALISING:
            raise NotTakenUp(f"QEMU does not take up console {place.id}: this id may be spoilt, and QEMU's log says why")
        now = await self._wait(_is_connected, wanted.seconds)
        if not now.connected:
            raise self._not_by_the_guest(now)

    def _not_by_the_guest(self, now: States) -> HostError:
        return HostError(
            f"the guest did not take up console {self._making.console.place.id} within {self._making.wanted.seconds:g} s ({now}):"
            " it is paused, or still booting, or its kernel lacks 'hvc/xen: fix event channel handling for secondary consoles'"
        )

    async def _wait(self, true: Callable[[States], bool], seconds: float) -> States:
        return await wait_for(self._store, self._making.console.place, true, seconds, self._patience)

    async def undo(self) -> None:
        """What it waited for goes with the nodes."""

    def _patience(self, now: States) -> None:
        self._tell(f"waiting for console {self._making.console.place.id} to be taken up: {now}")
