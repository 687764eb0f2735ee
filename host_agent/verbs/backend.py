# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent backend`: a program for one channel of one VM, with the options that QEMU's backend programs have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.backends.capabilities import FD, OURS, PRINT_CAPABILITIES, SOCKET_PATH
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from host_agent.documents.document_file import Wanted
    from host_agent.keys import Identity
    from host_agent.ledger.ledger import Ledger

#: Where it is given nothing else counts, not even what cannot be parsed.
ALONE: Final = PRINT_CAPABILITIES
_MANNERS: Final = f"""
It stays in the foreground, and ends at SIGTERM. What was asked for and cannot be done ends it at once, with a status that is not
0 and a sentence on standard error. A socket that systemd passes is {FD}=3. A stream that is given as a descriptor is served to
its end; at a path the VM may come and go. SIGHUP reads the document and this host's key again. A channel has one client: a
'serve' that has a document for the same VM would be in its way.
"""


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.epilog = _MANNERS
    verb.add_argument("vm", metavar="VM", nargs="?", help="the name of the VM's document in the directory of documents")
    verb.add_argument("--document", type=Path, metavar="FILE", help="the VM's document, instead of VM")
    where = verb.add_mutually_exclusive_group()
    path = "the channel's unix socket, which QEMU listens on"
    where.add_argument(SOCKET_PATH, type=Path, metavar="PATH", help=path)
    fd = "the channel's socket is descriptor FDNUM: connected, or listening for the one client that is served"
    where.add_argument(FD, type=descriptor, metavar="FDNUM", help=fd)
    ask = "print what this program is and can, as JSON, and end; everything else is ignored"
    verb.add_argument(PRINT_CAPABILITIES, action="store_true", help=ask)
    forget = "keep nothing on disk: each start meets the guest anew, and believes the key that it shows"
    verb.add_argument("--no-ledger", action="store_true", help=forget)
    verb.add_argument("--verbose", action="store_true", help="log more")
    options.documents(verb)
    options.channel(verb)
    options.state(verb)


def descriptor(text: str) -> int:
    """The number of a descriptor, for ``type=``."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError("expected the number of a descriptor")
    return int(text)


def run(arguments: Namespace) -> int:
    """Until SIGTERM, or the end of the stream that was given."""
    if arguments.print_capabilities:
        print(OURS.text(), flush=True)
        return 0
    import asyncio

    from host_agent.backends.given_socket import activated, chosen
    from host_agent.backends.serve_one import OneChannel
    from host_agent.channels.name import claimed

    channel, read = claimed(arguments.channel), _reader(arguments)
    where = chosen(arguments.socket_path, arguments.fd, activated())
    identify = _identified(arguments.state)
    ledger = _ledger(arguments.state, forget=arguments.no_ledger)
    try:
        asyncio.run(OneChannel(read, channel, identify, ledger).serve(where))
    finally:
        ledger.close()
    return 0


def _identified(state: Path) -> Callable[[], Identity]:
    """How this host's key is read, which is made on first use."""
    from functools import partial

    from host_agent.keys import existing, identify
    from host_agent.service import log

    identify(state, log.info)
    return partial(existing, state)


def _ledger(state: Path, *, forget: bool) -> Ledger:
    from host_agent.ledger.file import NOWHERE, in_memory
    from host_agent.ledger.ledger import Ledger

    return Ledger(NOWHERE, in_memory()) if forget else Ledger.open(state)


def _reader(arguments: Namespace) -> Callable[[], Wanted]:
    """What reads the VM's document, now and again; raise `HostError` where it is not said which, or said twice."""
    from functools import partial

    from host_agent.backends.one_document import in_file, of_vm
    from host_agent.errors import HostError

    choice = options.layers_by(arguments)
    if (arguments.vm is None) == (arguments.document is None):
        raise HostError(f"which document? cure: the name of one in {choice.documents}, or --document FILE, and not both")
    if arguments.document is not None:
        return partial(in_file, arguments.document, choice.documents, everywhere=arguments.documents is not None)
    return partial(of_vm, arguments.vm, choice.documents)
