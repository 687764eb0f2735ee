# SPDX-License-Identifier: Apache-2.0
"""Taking a console out of xenstore: with the guest's consent, or without it where the guest does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError
from host_agent.qemu import hotplug_nodes as nodes
from host_agent.qemu.hotplug_states import CLOSED, CLOSING, CONNECTED, INITIALISING, UNKNOWN, states, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.qemu.hotplug_nodes import Place
    from host_agent.qemu.hotplug_states import States
    from host_agent.xenstore.client import Client

#: For QEMU alone to notice; it answers within milliseconds.
_QEMU_SECONDS: Final = 3.0


def closed(now: States) -> bool:
    """Whether QEMU has let go of the console."""
    return now.backend in (CLOSED, "")


class Closing:
    """A step that has both drivers close the console within *seconds*; with *force* QEMU's does, whatever the guest's says."""

    def __init__(self, store: Client, place: Place, seconds: float, tell: Callable[[str], None], *, force: bool) -> None:
        self._store, self._place = store, place
        self._seconds, self._tell, self._force = seconds, tell, force
        self._before: States | None = None

    async def do(self) -> None:
        """Where the guest does not answer and no *force* is used, raise `HostError`. Begun by another, it is gone on with."""
        before = await states(self._store, self._place)
        if closed(before):
            return
        self._before = before._replace(backend=CONNECTED) if before.backend == CLOSING else before
        await nodes.begin_closing(self._store, self._place)
        now = await wait_for(self._store, self._place, closed, self._seconds, self._patience)
        if closed(now):
            return
        if not self._force:
            raise HostError(
                f"the guest does not close its end within {self._seconds:g} s ({now}): it is paused, or its kernel is stuck;"
                " cure: --force takes the channel away without its consent"
            )
        await force_closed(self._store, self._place)

    async def undo(self) -> None:
        """The channel stays, if no driver has closed it meanwhile."""
        before = self._before
        if before is not None and not await nodes.stay_open(self._store, self._place, before.backend, before.frontend):
            raise HostError("the guest has closed the channel meanwhile: unplug it again")

    def _patience(self, now: States) -> None:
        self._tell(f"waiting for the guest to close its end, for at most {self._seconds:g} s: {now}")


async def force_closed(store: Client, place: Place) -> None:
    """Have QEMU let go of the console, which it does on the guest's word, written here by dom0; a QEMU that does not is left."""
    await nodes.say_closed_for_the_guest(store, place)
    await wait_for(store, place, closed, _QEMU_SECONDS, lambda _: None)


async def take_away(store: Client, place: Place) -> None:
    """Undo a console that was just made: ask both drivers, insist where one does not answer, remove the nodes."""
    if (await states(store, place)).backend not in (UNKNOWN, INITIALISING):  # of which QEMU knows nothing
        await nodes.begin_closing(store, place)
        now = await wait_for(store, place, closed, _QEMU_SECONDS, lambda _: None)
        if not closed(now):
            await force_closed(store, place)
    await nodes.remove(store, place)
