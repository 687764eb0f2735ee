# SPDX-License-Identifier: Apache-2.0
"""Find the channel of one running VM by one look at xenstore, for a verb that was not told where it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from host_agent.channels.whereabouts import Nowhere, Whereabouts
from host_agent.errors import HostError, shown
from pv_channel.greeting import NO_UUID, uuid_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.channels.endpoint import Endpoint
    from host_agent.channels.sources import Follower
    from host_agent.documents.document_file import Wanted

_CURE: Final = "or say where the channel is: --socket PATH or --pty PATH"


async def find(wanted: Wanted, channel: str, discover: Callable[[Callable[[], None]], Follower]) -> Endpoint:
    """The channel of the running domain with the uuid of *wanted*; raise `HostError` where there is none, or no Xen.

    It is only found by a uuid: a document that is pushed to whoever has the right name could be the wrong VM's.
    """
    if wanted.uuid == NO_UUID:
        raise HostError(f"{shown(wanted.name)}: the document names no VM: add 'uuid:' to it, or say --uuid UUID, {_CURE}")
    follower = discover(lambda: None)
    following = asyncio.create_task(follower.run())
    try:
        await follower.first_look.wait()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    if follower.trouble:
        raise HostError(f"{follower.trouble}; {_CURE}")
    found = Whereabouts(channel, follower.endpoints.values(), follower.domains.values(), {}, xen=True).of(wanted)
    if isinstance(found, Nowhere):
        off = f"no running domain has uuid {uuid_text(wanted.uuid)}: start the VM"
        raise HostError(f"{shown(wanted.name)}: {found.why if found.wrong else off}; {_CURE}")
    return found
