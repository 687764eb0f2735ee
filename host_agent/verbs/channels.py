# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent channels`: every channel of every domain, whoever serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from host_agent.channels.listing import HEADER, channel_values, channels, row_of
from host_agent.verbs import options
from host_agent.views.table import show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_MORE: Final = (
    "WHOSE is 'ours' for the channel of --channel, and the contact of whoever registered another name. STATE is the guest's"
    " driver's, and then QEMU's: a channel that can carry bytes is connected/connected. Nothing is connected to: the kernel is"
    " asked who is. The CONSOLE '3 of 9' is the stubdomain 9's, in which the VM's own QEMU runs."
)


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.epilog = _MORE
    options.channel(verb)
    options.as_json(verb)


def run(arguments: Namespace) -> int:
    """One look at xenstore and at the sockets; for root."""
    import asyncio

    from host_agent.channels.discovery import survey
    from host_agent.xenstore.client import socket_paths

    found = channels(asyncio.run(survey(socket_paths())), arguments.channel)
    if arguments.json:
        options.print_json([channel_values(channel) for channel in found])
    elif found:
        show(HEADER, [row_of(channel) for channel in found])
    else:
        print("no running domain has a channel")
    return 0
