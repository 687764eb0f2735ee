# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent doctor`: why a VM's channel does not work, with what shows it and what cures it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.install import DOCUMENTS, SOCKETS
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_MORE: Final = (
    "Exit status: 0 nothing wrong found, 1 something is, 2 wrong usage. It only looks: no channel is connected to, nothing is"
    " changed. Give it the directories that 'serve' has."
)


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.epilog = _MORE
    options.vm(verb, optional="of a running one the domid, too (default: this host, and each VM that runs or has a bad document)")
    verb.add_argument("--list", action="store_true", help="print all diagnoses with their meanings and cures; look at nothing")
    documents, sockets = options.ROOT / DOCUMENTS, options.ROOT / SOCKETS
    verb.add_argument("--documents", type=Path, default=documents, metavar="DIR", help="as of 'serve' (default: %(default)s)")
    where = f"as of 'serve'; may be given more than once (default: {sockets})"
    verb.add_argument("--sockets", type=Path, action="append", metavar="DIR", help=where)
    without = "do not look for Xen: VMs are known by their sockets alone"
    verb.add_argument("--no-xenstore", action="store_true", help=without)
    options.channel(verb)
    options.state(verb)
    options.as_json(verb)


def run(arguments: Namespace) -> int:
    """The findings on standard output, the most fundamental first."""
    if arguments.list:
        return _list(as_json=arguments.json)

    from host_agent.channels.sockets import LIBVIRT
    from host_agent.doctor.at_host import Where
    from host_agent.doctor.examine import examine
    from host_agent.doctor.gather import gather
    from host_agent.doctor.report import nothing_wrong, text_of, values_of
    from host_agent.xenstore.client import socket_paths

    sockets = tuple(arguments.sockets or (options.ROOT / SOCKETS,))
    xenstore = () if arguments.no_xenstore else socket_paths()
    where = Where(arguments.state, arguments.documents, sockets, arguments.channel, xenstore, LIBVIRT)
    evidence = gather(where, arguments.vm, _tell)
    found = examine(evidence)
    if arguments.json:
        options.print_json(values_of(found, evidence))
    else:
        print(text_of(found) or nothing_wrong(evidence))
    return 1 if found else 0


def _list(*, as_json: bool) -> int:
    from host_agent.doctor.report import catalogue, catalogue_text

    if as_json:
        options.print_json(catalogue())
    else:
        print(catalogue_text())
    return 0


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
