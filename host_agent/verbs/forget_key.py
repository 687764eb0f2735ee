# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent forget-key`: resolve a changed or shared key, deliberately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent.ledger import Ledger
from host_agent.status import View
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    options.vm(verb)
    options.state(verb)


def run(arguments: Namespace) -> int:
    """The next key that the VM's guest shows is pinned."""
    with View(arguments.state) as view:
        vm = view.named(arguments.vm)
    ledger = Ledger.open(arguments.state)
    try:
        forgotten = ledger.forget_key(vm["key"])
    finally:
        ledger.close()
    old = vm["guest-key"] or vm["rival-key"]
    print(f"{vm['vm']}: forgot {old}; the next key its guest shows is pinned" if forgotten else f"{vm['vm']}: had no key")
    return 0
