# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent push`: give one VM one document and wait for its answer."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.channels.endpoint import Endpoint
from host_agent.channels.name import claimed
from host_agent.channels.sockets import SUFFIX
from host_agent.documents.directory import MAX_NAME
from host_agent.documents.document_file import read, wanted
from host_agent.errors import HostError
from host_agent.keys import identify
from host_agent.ledger.ledger import Ledger
from host_agent.talk.answer import ITEM_HEADER, item_rows
from host_agent.verbs import options
from host_agent.views.table import show
from pv_channel.errors import LocalError
from pv_channel.greeting import uuid_bytes
from pv_channel.planned import lines
from pv_channel.text import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.documents.document_file import Wanted
    from host_agent.push import Ending

#: For a guest to boot, open its channel and apply a document.
PUSH_SECONDS: Final = 180.0


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.add_argument("file", type=Path, metavar="FILE", help="the document, YAML or JSON")
    where = verb.add_mutually_exclusive_group()
    found = " (default: the channel of the running domain with the VM's uuid, found in xenstore)"
    where.add_argument("--socket", type=Path, metavar="PATH", help=f"the channel's unix socket{found}")
    where.add_argument("--pty", type=Path, metavar="PATH", help="the channel's terminal, for connection=pty")
    verb.add_argument("--uuid", metavar="UUID", help="the VM's uuid (default: the document's, else the file's name if it is one)")
    dry_run = "ask the guest what it would change, and print that; nothing is sent, touched or counted"
    verb.add_argument("--dry-run", action="store_true", help=dry_run)
    no_wait = "end with the guest's answer, even where items are under way that take longer (user-data)"
    verb.add_argument("--no-wait", action="store_true", help=no_wait)
    how_long = "give up after S seconds (default: %(default)g)"
    verb.add_argument("--timeout", type=options.seconds, default=PUSH_SECONDS, metavar="S", help=how_long)
    options.documents(verb)
    options.channel(verb)
    options.state(verb)
    options.as_json(verb)


def run(arguments: Namespace) -> int:
    """Progress on standard error, the items (or the plan) on standard output."""
    import asyncio

    from host_agent.push import Manner, Push

    channel = claimed(arguments.channel)
    what = _wanted_by(arguments)
    endpoint = _endpoint_of(arguments, what)
    start = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - start:8.3f} s  {text}", file=sys.stderr, flush=True)

    identity = identify(arguments.state, tell)
    ledger = Ledger.open(arguments.state)
    try:
        if not arguments.dry_run:
            number = what.document.generation
            ledger.want(what.key, what.name, number if isinstance(number, int) else None, what.digest)
        manner = Manner(dry_run=arguments.dry_run, wait=not arguments.no_wait)
        ending = asyncio.run(Push(endpoint, what, channel, identity, ledger, tell, manner=manner).run(arguments.timeout))
    finally:
        ledger.close()
    tell(ending.text)
    _show_ending(ending, what, time.monotonic() - start, as_json=arguments.json)
    return 0 if ending.good else 1


def _endpoint_of(arguments: Namespace, what: Wanted) -> Endpoint:
    """Where the VM's channel is, as said on the command line or as xenstore has it."""
    if arguments.socket is not None or arguments.pty is not None:
        return Endpoint(arguments.socket or arguments.pty, is_pty=arguments.pty is not None)
    import asyncio

    from host_agent.channels.discovery import Discovery
    from host_agent.channels.find_channel import find

    return asyncio.run(find(what, arguments.channel, Discovery))


def _wanted_by(arguments: Namespace) -> Wanted:
    """What is asked for on the command line, with the VM's name: its socket's or file's, as `serve` would call it."""
    if arguments.uuid is not None:
        try:
            uuid_bytes(arguments.uuid)
        except LocalError as exc:
            raise HostError(f"--uuid {printable(arguments.uuid)}: {exc}") from None
    name = arguments.file.stem if arguments.pty is None else str(arguments.pty)
    if arguments.socket is not None:
        name = arguments.socket.name.removesuffix(SUFFIX)
    document = read(arguments.file, options.layers_by(arguments).layers(arguments.file))
    return wanted(document, arguments.file, printable(name, MAX_NAME), arguments.uuid)


def _show_ending(ending: Ending, what: Wanted, seconds: float, *, as_json: bool) -> None:
    values = ending.values(what, seconds)
    if as_json:
        options.print_json(values)
    elif ending.planned is not None:
        print("\n".join(lines(ending.planned)))
    elif values["items"]:
        show(ITEM_HEADER, item_rows(values["items"]))
