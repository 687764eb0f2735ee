# SPDX-License-Identifier: Apache-2.0
"""Every channel of every domain, whoever serves it: what the toolstack made, how far its drivers are, who uses it in dom0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host_agent.channels.ends import ends
from host_agent.channels.name import records
from pv_channel.greeting import uuid_text
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.channels.discovery import Survey
    from host_agent.channels.endpoint import Domain
    from host_agent.channels.ends import Ends
    from host_agent.channels.processes import Process
    from host_agent.channels.toolstack import Console
    from pv_channel.registry import Record

HEADER: Final = ("domid", "vm", "console", "channel", "whose", "connection", "path", "state", "listens", "connected")
#: XenbusState (xen/include/public/io/xenbus.h).
XENBUS: Final = {
    "1": "initialising", "2": "init-wait", "3": "initialised", "4": "connected", "5": "closing", "6": "closed",
    "7": "reconfiguring", "8": "reconfigured",
}  # fmt: skip
_WORD, _PATH = 120, 300


class Channel(NamedTuple):
    """One console that has a name, of one domain; *whose* is "ours", another application's description, or "" for nobody's.

    The *domain* has for its device model the QEMU that serves this channel, which may be its stubdomain's.
    """

    domain: Domain
    console: Console
    whose: str
    ends: Ends | None


def channels(survey: Survey, ours: str) -> list[Channel]:
    """All channels in *survey*; *ours* is the name of this agent's own. Raise `HostError` where the kernel says of no sockets."""
    named = [console for console in survey.consoles if console.name]
    registry = records()
    found = ends(filter(None, map(path_of, named)))
    domains = {domain.domid: domain for domain in survey.domains}
    return [
        Channel(
            domains[console.owner]._replace(device_model=domains[console.domid].device_model), console,
            _whose(console.name, ours, registry), found.get(path_of(console)),
        )
        for console in sorted(named, key=lambda one: (one.owner, one.domid, len(one.id), one.id))
        if console.domid in domains
    ]  # fmt: skip


def path_of(console: Console) -> str:
    """Where a channel is in dom0: its socket's path, or its terminal's."""
    return console.tty if console.connection == "pty" else console.path


def row_of(channel: Channel) -> tuple[str, ...]:
    """A channel as a row of the table whose header is `HEADER`."""
    values = channel_values(channel)
    state = f"{values['frontend-state'] or '-'}/{values['backend-state'] or '-'}"
    return (
        str(values["domid"]), values["vm"], _console(channel), values["channel"], values["whose"], values["connection"],
        values["path"], state, _briefly(values["listens"]), _briefly(values["connected"]),
    )  # fmt: skip


def channel_values(channel: Channel) -> dict[str, Any]:
    """A channel as ``--json`` prints it."""
    domain, console, here = channel.domain, channel.console, channel.ends
    listener = None if here is None else here.listener
    return {
        "domid": domain.domid,
        "vm": printable(domain.name, _WORD),
        "uuid": uuid_text(domain.uuid),
        "console": printable(console.id, 20),
        "stubdomain": None if console.target is None else console.domid,
        "channel": printable(console.name, _WORD),
        "whose": channel.whose,
        "connection": printable(console.connection, 20),
        "path": printable(path_of(console), _PATH),
        "at-path": "" if here is None else here.kind,
        "frontend-state": state_word(console.frontend_state),
        "backend-state": state_word(console.backend_state),
        "listens": _values(() if listener is None else listener.processes) or _device_model(channel),
        "connected": _values(() if here is None else here.clients),
    }


def _console(channel: Channel) -> str:
    """Its number, and where it is not the domain's own, whose."""
    console = channel.console
    number = printable(console.id, 20)
    return number if console.target is None else f"{number} of {console.domid}"


def state_word(state: str) -> str:
    """A XenbusState as its word; what is none stays what it is."""
    return XENBUS.get(state, printable(state, 20))


def _whose(name: str, ours: str, registry: Sequence[Record]) -> str:
    if name == ours:
        return "ours"
    return next((printable(record.contact, _WORD) for record in registry if record.name == name), "")


def _device_model(channel: Channel) -> list[dict[str, Any]]:
    """Who serves a terminal: its QEMU holds the other end, which has no name."""
    from host_agent.channels.processes import process

    pid = channel.domain.device_model
    found = process(pid) if channel.console.connection == "pty" and pid is not None else None
    return _values(()) if found is None else _values((found,))


def _values(processes: tuple[Process, ...]) -> list[dict[str, Any]]:
    return [{"pid": one.pid, "command": one.comm, "uid": one.uid} for one in processes]


def _briefly(values: list[dict[str, Any]]) -> str:
    return ", ".join(f"{one['command']}[{one['pid']}]" for one in values)
