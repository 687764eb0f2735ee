# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent watch`: VMs coming up, live."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Watch VMs come up. On a terminal: a table that is drawn anew, first those that went wrong or are on their way, with a"
        " mark for each item of a document that was begun and the time that it takes, and below it how many stand where."
        " Elsewhere: a line for each change. Nothing is asked of the service or a guest, and a thousand VMs cost little."
    )
    verb.add_argument("vms", nargs="*", metavar="VM", help="a VM's name or uuid (default: all)")
    ends = "end as 'wait' does: when all are what their documents say, or one will not be"
    verb.add_argument("--until-ready", action="store_true", help=ends)
    verb.add_argument("--patient", action="store_true", help="with --until-ready: go on where one has failed")
    how_long = "end after S seconds (default: never)"
    verb.add_argument("--timeout", type=options.seconds, metavar="S", help=how_long)
    options.state(verb)
    verb.epilog = (
        "Exit status: with --until-ready 0 all are ready, 1 one will not be without an operator, 2 the time is over; else 0 when"
        " the time is over. 1 the ledger cannot be read, 2 wrong usage, 130 after Ctrl-C."
    )
    verb.set_defaults(wrong_usage=verb.error)


def run(arguments: Namespace) -> int:
    """Until Ctrl-C, or what was asked for."""
    from host_agent.verbs.wait import show_ending
    from host_agent.views.waiting import Target, Wait
    from host_agent.views.watching import Watch

    if arguments.patient and not arguments.until_ready:
        arguments.wrong_usage("--patient is for --until-ready")
    waiting = Wait([Target(vm) for vm in arguments.vms] or None, patient=arguments.patient)
    ending = Watch(arguments.state, waiting, until_ready=arguments.until_ready).run(sys.stdout, arguments.timeout)
    if not arguments.until_ready:
        return 0
    show_ending(ending, as_json=False)
    return ending.end.value
