# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent wait`: until VMs are what their documents say, with an exit status for scripts."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.views.waiting import Ending, Target

#: A guest's first boot on a busy host, and some.
WAIT_SECONDS: Final = 300.0


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Wait until each VM is what its document says: the wanted generation is in force, nothing of it is under way or failed,"
        " and the guest is there. A VM that is not in the ledger yet is waited for. A document that was changed a moment ago may"
        " not have been picked up yet, and then the one before it counts: --file waits for just what the file says now."
    )
    verb.add_argument("vms", nargs="*", metavar="VM", help="a VM's name or uuid")
    verb.add_argument("--all", action="store_true", help="every VM in the ledger that has a document")
    from_file = "the VM of this document, and until just what it says is in force; can be said again"
    verb.add_argument("--file", type=Path, action="append", default=[], dest="files", metavar="FILE", help=from_file)
    how_long = "give up after S seconds (default: %(default)g)"
    verb.add_argument("--timeout", type=options.seconds, default=WAIT_SECONDS, metavar="S", help=how_long)
    generation = "until generation N, or a later one, is in force"
    verb.add_argument("--generation", type=options.generation, default=0, metavar="N", help=generation)
    patient = "keep waiting where one has failed, was refused or has a bad document: somebody is mending it"
    verb.add_argument("--patient", action="store_true", help=patient)
    verb.add_argument("--quiet", action="store_true", help="no progress on standard error")
    options.documents(verb)
    options.state(verb)
    options.as_json(verb)
    verb.epilog = (
        "Exit status: 0 all are; 1 one will not be without an operator (failed, refused, a quarrel over a key, a bad document),"
        " or the ledger cannot be read; 2 the time is over (or wrong usage)."
    )
    verb.set_defaults(wrong_usage=verb.error)


def run(arguments: Namespace) -> int:
    """Progress on standard error, how it ended on standard output."""
    from host_agent.views.waiting import Wait, wait

    if arguments.all == bool(arguments.vms or arguments.files):
        arguments.wrong_usage("say which: VM or --file FILE, or else --all")
    targets = None if arguments.all else _targets(arguments)
    start = time.monotonic()

    def tell(text: str) -> None:
        if not arguments.quiet:
            print(f"{time.monotonic() - start:8.1f} s  {text}", file=sys.stderr, flush=True)

    waiting = Wait(targets, generation=arguments.generation, patient=arguments.patient)
    ending = wait(arguments.state, waiting, arguments.timeout, tell)
    show_ending(ending, as_json=arguments.json)
    return ending.end.value


def show_ending(ending: Ending, *, as_json: bool) -> None:
    """Each VM with what became of it; where all is well and they are many, in one line."""
    from host_agent.views.verdict import Verdict
    from host_agent.views.waiting import End

    if as_json:
        options.print_json([vm.values() for vm in ending.vms])
        return
    if ending.end is End.GOOD and len(ending.vms) > 1:
        print(f"all {len(ending.vms):,} VMs are ready")
        return
    ended = "time is over: " if ending.end is End.TIMEOUT else ""
    for vm in sorted(ending.vms, key=lambda vm: vm.judged.verdict is not Verdict.FAILED):
        if vm.judged.verdict is not Verdict.READY or len(ending.vms) == 1:
            print(f"{ended}{vm.text}")
    if not ending.vms:
        print(f"{ended}no VM with a document is in the ledger")


def _targets(arguments: Namespace) -> list[Target]:
    from host_agent.documents.directory import MAX_NAME
    from host_agent.documents.document_file import read, wanted
    from host_agent.views.verdict import Asked
    from host_agent.views.waiting import Target
    from pv_channel.text import printable

    choice = options.layers_by(arguments)
    documents = [wanted(read(path, choice.layers(path)), path, printable(path.stem, MAX_NAME)) for path in arguments.files]
    return [*map(Target, arguments.vms), *(Target(what.key, Asked(digest=what.digest)) for what in documents)]
