# SPDX-License-Identifier: Apache-2.0
"""Every console of a stubdomain: what it is for, where it ends inside and in dom0, how far its drivers are, who uses it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host_agent.channels.ends import ends
from host_agent.channels.listing import state_word
from host_agent.channels.toolstack import consoles_of
from host_agent.stubdom.console_end import PTY, SOCKET, end_of
from host_agent.stubdom.console_map import role_of, tty_of
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from host_agent.channels.ends import Ends
    from host_agent.channels.toolstack import Console
    from host_agent.stubdom.console_end import End
    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client

HEADER: Final = ("console", "role", "name", "inside", "end", "place", "state", "connected")
_WORD, _PLACE = 120, 300


class Listed(NamedTuple):
    """One console, its end in dom0, and who is there, where that can be seen."""

    console: Console
    end: End
    ends: Ends | None


async def consoles(store: Client, pair: Pair) -> list[Listed]:
    """All of them, in order; raise `HostError` where the kernel does not say who uses their sockets."""
    found = await consoles_of(store, pair.stubdomain.domid)
    of = {console.id: end_of(console) for console in found}
    places = [end.place for end in of.values() if end.kind in (SOCKET, PTY) and end.place]
    here: Mapping[str, Ends] = await asyncio.to_thread(ends, places)
    return [Listed(console, of[console.id], here.get(of[console.id].place)) for console in found]


def console_values(listed: Listed) -> dict[str, Any]:
    """One as ``--json`` prints it."""
    console, number = listed.console, int(listed.console.id)
    listener = None if listed.ends is None else listed.ends.listener
    return {
        "console": number,
        "role": str(role_of(number, console.name)),
        "name": printable(console.name, _WORD),
        "inside": _inside(number),
        "end": listed.end.kind,
        "place": printable(listed.end.place, _PLACE),
        "at-place": "" if listed.ends is None else listed.ends.kind,
        "frontend-state": state_word(console.frontend_state),
        "backend-state": state_word(console.backend_state),
        "listens": [] if listener is None else [str(one) for one in listener.processes],
        "connected": [] if listed.ends is None else [str(one) for one in listed.ends.clients],
    }


def row_of(listed: Listed) -> tuple[str, ...]:
    """One as a row of the table whose header is `HEADER`."""
    values = console_values(listed)
    state = f"{values['frontend-state'] or '-'}/{values['backend-state'] or '-'}"
    connected = ", ".join(values["connected"])
    words = (values[each] for each in ("role", "name", "inside", "end", "place"))
    return (str(values["console"]), *words, state, connected)


def _inside(number: int) -> str:
    try:
        return tty_of(number)
    except ValueError:  # Linux has no terminal for it
        return ""
