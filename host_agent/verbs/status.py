# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent status`: what became of the VMs, as a table, or of one of them with all that is on record."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from host_agent.serve_lock import is_served
from host_agent.verbs import options
from host_agent.views import overview
from host_agent.views.status import View
from host_agent.views.table import show
from host_agent.views.vm_page import show_vm

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Show what became of the VMs: a table of all, or of one VM all that is on record. The STATE of a VM is where its channel"
        " stands, or what is wrong with it although that is well (failed, rolled-back, refused, bad-document); WHY says what is"
        " missing until it is as its document says. Nothing is asked of the service or a guest: this reads the ledger."
    )
    options.vm(verb, optional="show all of it, with its items and latest events (default: a table of all VMs)")
    only = f"only VMs that stand there: {', '.join(overview.WORDS)}"
    verb.add_argument("--only", metavar="WORD[,WORD]", help=only)
    verb.add_argument("--audit", action="store_true", help="of one VM: also who had what done to it")
    options.state(verb)
    options.as_json(verb)
    verb.epilog = "Exit status: 0, whatever the VMs' states ('wait' tells by its own); 1 no ledger, or no such VM; 2 wrong usage."
    verb.set_defaults(wrong_usage=verb.error)


def run(arguments: Namespace) -> int:
    """All VMs as a table, or one with its items and events."""
    if arguments.vm is None:
        if arguments.audit:
            arguments.wrong_usage("--audit needs a VM; 'pv-host-agent events --audit' shows all trails")
        return _all(arguments)
    if arguments.only is not None:
        arguments.wrong_usage("--only is for the table of all VMs")
    with View(arguments.state) as view:
        vm = view.named(arguments.vm)
    if arguments.json:
        options.print_json(vm)
    else:
        show_vm(vm, time.time(), audit=arguments.audit)
    return 0


def _all(arguments: Namespace) -> int:
    with View(arguments.state) as view:
        everything = view.all()
    vms = overview.only(everything, arguments.only)
    if arguments.json:
        options.print_json(vms)
        return 0
    show(overview.HEADER, overview.rows_of(vms, time.time(), folded=sys.stdout.isatty()), less=overview.LESS)
    if sys.stderr.isatty():
        print(overview.summary(vm["standing"] for vm in everything), file=sys.stderr)
        if not is_served(arguments.state):
            print("no 'pv-host-agent serve' is running: this is of when one last was, or of a 'push'", file=sys.stderr)
    return 0
