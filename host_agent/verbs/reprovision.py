# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent reprovision`: have all that a VM's document says applied again, as a new generation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from host_agent.views.verdict import Stands


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Ask that all that the VM's document says be applied again, as a new generation, although nothing in it has changed: what"
        " has drifted is put right (or fails as 'conflict', where somebody else has set it since); what runs once per instance"
        " does not run again. The service does it at once where the guest is there, else as soon as it comes."
    )
    verb.add_argument("vms", nargs="*", metavar="VM", help="a VM's name or uuid")
    verb.add_argument("--all", action="store_true", help="every VM that has a document; asks before it does so")
    verb.add_argument("--yes", action="store_true", help="with --all: do not ask")
    options.state(verb)
    verb.epilog = "Exit status: 0 it is asked for; 1 it is not, for one VM at least; 2 wrong usage."
    verb.set_defaults(wrong_usage=verb.error)


def run(arguments: Namespace) -> int:
    """What was asked for on standard output, what cannot be on standard error."""
    from host_agent import reprovision
    from host_agent.ledger.ledger import Ledger
    from host_agent.views.status import View

    if arguments.all == bool(arguments.vms):
        arguments.wrong_usage("say which: VM, or else --all")
    with View(arguments.state) as view:
        keys = {view.named(vm)["key"] for vm in arguments.vms}
        everything = view.standings()
    chosen = [vm for vm in everything if vm.key in keys or (arguments.all and reprovision.has_document(vm))]
    problems = {vm: reprovision.why_not(vm) for vm in chosen}
    asked = [vm for vm, problem in problems.items() if not problem]
    if arguments.all and asked and not arguments.yes and not _is_meant(len(asked)):
        print("nothing was asked for", file=sys.stderr)
        return 1
    ledger = Ledger.open(arguments.state)
    try:
        reprovision.ask(ledger, asked)
    finally:
        ledger.close()
    return _tell(arguments, problems)


def _is_meant(number: int) -> bool:
    """Whether the operator says yes; without a terminal to ask on, nobody does."""
    if not sys.stdin.isatty():
        print("pv-host-agent: --all asks first, and here is no terminal to ask on; say --yes as well", file=sys.stderr)
        return False
    print(f"apply everything again on {_vms(number)}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _vms(number: int) -> str:
    return f"{number:,} VM{'' if number == 1 else 's'}"


def _tell(arguments: Namespace, problems: dict[Stands, str]) -> int:
    from shlex import quote

    from host_agent.serve_lock import is_served
    from pv_channel.text import printable

    asked = [printable(vm.name, 200) for vm, problem in problems.items() if not problem]
    if asked:
        whom, waits = (_vms(len(asked)), "--all") if arguments.all else (", ".join(asked), " ".join(map(quote, asked)))
        print(f"asked for {whom}; 'pv-host-agent wait {waits}' waits for it")
        if not is_served(arguments.state):
            print("no 'pv-host-agent serve' is running on this state directory: it is done when one is", file=sys.stderr)
    for vm, problem in problems.items():
        if problem:
            print(f"pv-host-agent: {printable(vm.name, 200)}: {problem}", file=sys.stderr)
    return 1 if any(problems.values()) else 0
