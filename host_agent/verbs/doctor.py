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

    from host_agent.doctor.evidence import FleetFile

_MORE: Final = (
    "Exit status: 0 nothing wrong found, 1 something is, 2 wrong usage. It only looks: no channel is connected to, nothing is"
    " changed. Give it the directories, or the fleet, that 'serve' has."
)


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.epilog = _MORE
    options.vm(verb, optional="of a running one the domid, too (default: this host, and each VM that runs or has a bad document)")
    verb.add_argument("--list", action="store_true", help="print all diagnoses with their meanings and cures; look at nothing")
    documents, sockets = options.ROOT / DOCUMENTS, options.ROOT / SOCKETS
    directory = f"as of 'serve' (default: {documents}, where there is no {options.FLEET})"
    verb.add_argument("--documents", type=Path, metavar="DIR", help=directory)
    fleet = f"as of 'serve': documents are in etcd (default: {options.FLEET}, where that is and --documents is not given)"
    verb.add_argument("--fleet", type=Path, metavar="FILE", help=fleet)
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
    documents = arguments.documents or options.ROOT / DOCUMENTS
    where = Where(arguments.state, documents, sockets, arguments.channel, xenstore, LIBVIRT, _fleet(arguments))
    evidence = gather(where, arguments.vm, _tell)
    found = examine(evidence)
    if arguments.json:
        options.print_json(values_of(found, evidence))
    else:
        print(text_of(found) or nothing_wrong(evidence))
    return 1 if found else 0


def _fleet(arguments: Namespace) -> FleetFile | None:
    """The fleet that has the documents, if one has: the one that is named, else this host's, unless a directory is named."""
    path: Path | None = arguments.fleet
    if path is None and arguments.documents is None and options.FLEET.exists():
        path = options.FLEET
        print(f"documents are taken from the fleet of {path}; where they are in a directory: --documents DIR", file=sys.stderr)
    if path is None:
        return None
    from host_agent.doctor.evidence import FleetFile
    from host_agent.fleet.config import read

    return FleetFile(path, read(path))


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
