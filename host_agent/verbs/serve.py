# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent serve`: serve every VM that has a document, over its channel, for ever."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.channel import claimed
from host_agent.install import DOCUMENTS, SOCKETS
from host_agent.keys import identify
from host_agent.ledger import Ledger
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    documents = "NAME.yaml, NAME.yml or NAME.json per VM (default: %(default)s)"
    sockets = "NAME.sock or NAME per VM (default: %(default)s)"
    verb.add_argument("--documents", type=Path, default=options.ROOT / DOCUMENTS, metavar="DIR", help=documents)
    verb.add_argument("--sockets", type=Path, default=options.ROOT / SOCKETS, metavar="DIR", help=sockets)
    verb.add_argument("--verbose", action="store_true", help="log more")
    options.channel(verb)
    options.state(verb)


def run(arguments: Namespace) -> int:
    """Until SIGTERM."""
    import asyncio
    import os

    from host_agent.serve_lock import hold
    from host_agent.service import Service, allow_many_files, check_directories, log

    channel = claimed(arguments.channel)
    check_directories(arguments.documents, arguments.sockets)
    identity = identify(arguments.state, log.info)
    allow_many_files()
    lock = hold(arguments.state)
    ledger = Ledger.open(arguments.state)
    try:
        asyncio.run(Service(arguments.documents, arguments.sockets, channel, identity, ledger).run())
    finally:
        ledger.close()
        os.close(lock)
    return 0
