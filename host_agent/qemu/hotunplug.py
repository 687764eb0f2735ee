# SPDX-License-Identifier: Apache-2.0
"""Unplug a channel from a running guest: the guest closes it, its nodes go, then QEMU's end and its socket."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.channels import kept_links
from host_agent.channels.ends import ends
from host_agent.errors import HostError
from host_agent.qemu import hotplug_chardev
from host_agent.qemu import hotplug_nodes as nodes
from host_agent.qemu.hotplug_chardev import PREFIX, chardevs
from host_agent.qemu.hotplug_closing import Closing
from host_agent.qemu.hotplug_nodes import Place
from host_agent.qemu.hotplug_session import opened
from host_agent.qemu.qmp import QmpTrouble
from host_agent.qemu.running_vm import shown
from host_agent.qemu.steps import take
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from host_agent.channels.endpoint import Domain
    from host_agent.channels.toolstack import Console
    from host_agent.qemu.hotplug_session import Places, Session
    from host_agent.qemu.qmp import Qmp

_ID: Final = re.compile(r"[1-9][0-9]?", re.ASCII)
_OUTPUT: Final = re.compile(rf"chardev:({PREFIX}[0-9]{{1,5}})", re.ASCII)


class Unwanted(NamedTuple):
    """What is to be unplugged: a channel by its name or its console's id; *force* where the guest need not consent."""

    vm: str
    channel: str
    force: bool = False
    seconds: float = 30.0


class Unplugged(NamedTuple):
    """A channel that is gone. *name* is "" where only QEMU's end was left of it."""

    domain: Domain
    console: int
    name: str


async def unplug(unwanted: Unwanted, places: Places, tell: Callable[[str], None]) -> Unplugged:
    """Have the channel be gone; raise `HostError` where the guest does not let go of it, and it stays then.

    From the moment that its nodes are gone there is no way back: cancelled after that, it is done again by the console's id.
    """
    async with opened(places, unwanted.vm) as session:
        labels = await chardevs(session.qmp)
        console = _console(session.channels, unwanted.channel)
        if console is None:
            return await _only_the_chardev(session, unwanted, labels)
        place = Place(session.domain.domid, int(console.id))
        label = _chardev(console, labels)
        closing = Closing(session.store, place, unwanted.seconds, tell, force=unwanted.force)
        await take([closing], tell)
        await nodes.remove(session.store, place)
        await _end(session.qmp, label, console, tell)
        return Unplugged(session.vm, place.id, console.name)


def _console(consoles: Sequence[Console], channel: str) -> Console | None:
    """The one of the channels *consoles* that is meant, if it is there. Raise `HostError` where there are several."""
    if _ID.fullmatch(channel):
        return next((each for each in consoles if each.id == channel), None)
    found = [each for each in consoles if each.name == channel]
    if len(found) > 1:
        raise HostError(f"channels called {printable(channel, 100)}: consoles {', '.join(each.id for each in found)}; say which")
    return found[0] if found else None


def _chardev(console: Console, labels: Mapping[str, str]) -> str:
    """What QEMU calls the channel's end: what xenstore says where no guest can write, else whose socket it is; "" if none is.

    QEMU itself made the terminal of a channel for which the toolstack wrote ``pty``.
    """
    matched = _OUTPUT.fullmatch(console.output)
    if matched:
        return matched[1]
    if console.output == "pty":
        return f"xencons{console.id}"
    of_path = (label for label, what in labels.items() if label.startswith(PREFIX) and f"unix:{console.path}," in f"{what},")
    return next(of_path, "") if console.path else ""


async def _only_the_chardev(session: Session, unwanted: Unwanted, labels: Mapping[str, str]) -> Unplugged:
    """Finish an unplug that was ended half-way, or that QEMU had refused; raise `HostError` where there is nothing to."""
    label = f"{PREFIX}{unwanted.channel}"
    in_use = {_chardev(each, labels) for each in session.consoles}
    if not _ID.fullmatch(unwanted.channel) or label not in labels or label in in_use:
        there = ", ".join(f"{printable(each.name, 100)} ({each.id})" for each in session.channels) or "none"
        raise HostError(f"{shown(session.vm)} has no channel {printable(unwanted.channel, 100)}; its channels: {there}")
    await hotplug_chardev.remove(session.qmp, label)
    return Unplugged(session.vm, int(unwanted.channel), "")


async def _end(qmp: Qmp, label: str, console: Console, tell: Callable[[str], None]) -> None:
    """Remove QEMU's end of a channel that the guest has lost already."""
    if not label:
        tell("QEMU's end of the channel is not known, and stays there unused until the VM reboots")
        return
    try:
        await hotplug_chardev.remove(qmp, label)
    except QmpTrouble as exc:
        raise HostError(f"the channel is gone from the guest, but {exc}; {_not_used_again(label)}") from exc
    except asyncio.CancelledError:
        tell(f"ended half-way: the channel is gone from the guest, but QEMU may still have {label}; {_not_used_again(label)}")
        raise
    _remove_leftover(console.path)


def _not_used_again(label: str) -> str:
    number = label.removeprefix(PREFIX)
    return f"console {number} is not used again until the VM reboots, or 'unplug' is asked for {number}"


def _remove_leftover(path: str) -> None:
    """Remove a socket at *path* on which nobody listens any more, and the service's second links to it."""
    if not path:
        return
    kept_links.forget(Path(path))
    if Path(path).is_socket() and ends([path])[path].listener is None:
        Path(path).unlink(missing_ok=True)
