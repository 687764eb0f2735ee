# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent serve`: serve every VM that has a document, over its channel, for ever."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.channels.name import claimed
from host_agent.channels.sockets import LIBVIRT
from host_agent.install import DOCUMENTS, SOCKETS
from host_agent.keys import existing, identify
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.ledger.ledger import Ledger
    from host_agent.service import Service

DEFAULT_SOCKETS: Final = options.ROOT / SOCKETS
_WHOSE: Final = f"""
A document with a uuid is for the running domain with that uuid, one without for the domain of its name: its channel is the one
that xenstore has under the channel's name, a socket or a pty. Where xenstore names none, the socket of the document's name is it,
in the directories given and in libvirt's ({LIBVIRT}). SIGHUP reads documents and keys again at once, SIGTERM ends the service.
"""


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.epilog = _WHOSE
    documents = "NAME.yaml, NAME.yml or NAME.json per VM; beside it defaults.yaml and groups/ (default: %(default)s)"
    sockets = f"NAME.sock or NAME per VM, beside the channels that xenstore names; may be repeated (default: {DEFAULT_SOCKETS})"
    no_xenstore = "serve the sockets in directories alone, as on a machine without Xen"
    verb.add_argument("--documents", type=Path, default=options.ROOT / DOCUMENTS, metavar="DIR", help=documents)
    verb.add_argument("--sockets", type=Path, action="append", metavar="DIR", help=sockets)
    verb.add_argument("--no-xenstore", action="store_true", help=no_xenstore)
    verb.add_argument("--verbose", action="store_true", help="log more")
    options.channel(verb)
    options.state(verb)


def run(arguments: Namespace) -> int:
    """Until SIGTERM."""
    import asyncio
    import faulthandler
    import os
    from functools import partial

    from host_agent.at_start import allow_many_files, check_directories
    from host_agent.channels.discovery import Discovery
    from host_agent.channels.sources import Sources
    from host_agent.ledger.set_aside import open_sound
    from host_agent.log.happenings import Happening, noted
    from host_agent.serve_lock import hold
    from host_agent.service import Service, log

    faulthandler.enable()  # where we are when the watchdog aborts us
    channel = claimed(arguments.channel)
    sockets = arguments.sockets or [DEFAULT_SOCKETS]
    check_directories(arguments.documents, sockets)
    identify(arguments.state, log.info)
    allow_many_files()
    lock = hold(arguments.state)
    try:
        ledger, said = open_sound(arguments.state)
        if said:
            log.error("%s", said, extra=noted(Happening.LEDGER_SET_ASIDE))
        sources = Sources(sockets, arguments.channel, None if arguments.no_xenstore else Discovery)
        service = Service(arguments.documents, sources, channel, partial(existing, arguments.state), ledger)
        asyncio.run(_serve(service, ledger))
    finally:
        os.close(lock)
    return 0


async def _serve(service: Service, ledger: Ledger) -> None:
    """Until SIGTERM; the ledger is closed while another SIGTERM still does no harm."""
    try:
        await service.run()
    finally:
        ledger.close()
