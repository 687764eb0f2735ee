# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent incoming`: a QEMU that was started with ``-incoming defer`` takes a VM in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from host_agent.verbs import options
from host_agent.verbs.migrate import ROUTE, capability, mode, show, telling

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Have a QEMU of one's own, started with '-incoming defer' and the same machine, memory and devices, take a VM in: from"
        " another QEMU, where 'pv-host-agent migrate' is said then, or from a file that one was moved into. It waits until the VM"
        " is there, or will not come. Ctrl-C ends the waiting; QEMU goes on listening."
    )
    verb.add_argument("vm", nargs="?", metavar="VM", help="what to call it (default: what this QEMU calls it)")
    verb.add_argument("--qmp", type=Path, required=True, metavar="SOCKET", help="the QMP socket of the QEMU that is to have it")
    verb.add_argument("--from", required=True, dest="where", metavar="WHERE", help=ROUTE)
    mode(verb)
    capability(verb)
    verb.add_argument("--no-wait", action="store_true", help="only have it listen, and print where")
    verb.add_argument("--timeout", type=options.seconds, metavar="S", help="wait no longer than S seconds (default: for ever)")
    verb.add_argument("--quiet", action="store_true", help="no progress on standard error")
    options.as_json(verb)
    verb.epilog = "Exit status: 0 it is there (with --no-wait: QEMU listens); 1 it is not; 2 wrong usage; 130 after Ctrl-C."


def run(arguments: Namespace) -> int:
    """Progress on standard error, what became of it on standard output."""
    from host_agent.qemu import until_signalled
    from host_agent.qemu.incoming import Wish, listen_at, take_at
    from host_agent.qemu.migration_channel import MigMode
    from host_agent.qemu.migration_route import incoming

    wish = Wish(incoming(arguments.where), MigMode(arguments.mode), frozenset(arguments.capabilities), arguments.timeout)
    if arguments.no_wait:
        name, where = until_signalled.run(listen_at(arguments.qmp, wish))
        vm = arguments.vm or name
        if arguments.json:
            options.print_json({"vm": vm, "listens": str(where)})
        else:
            print(f"{vm} is waited for at {where}")
        return 0
    name, outcome = until_signalled.run(take_at(arguments.qmp, wish, telling(quiet=arguments.quiet)))
    show(arguments.vm or name, outcome, as_json=arguments.json)
    return 0
