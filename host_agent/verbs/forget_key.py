# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent forget-key`: resolve a changed or shared key, deliberately."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from host_agent import who
from host_agent.ledger.ledger import Ledger
from host_agent.serve_lock import is_served
from host_agent.verbs import options
from host_agent.views.status import View

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Forget the key that was pinned for a VM's guest, and any quarrel over it: a guest that was reinstalled or replaced has"
        " another ('key-changed'),"
        " and a clone whose disk had run the agent has another VM's ('key-shared'). Whatever key the guest"
        " shows next is pinned, and its document is sent to it. So first make sure that it is the guest that you mean."
    )
    options.vm(verb)
    options.state(verb)
    verb.epilog = "Exit status: 0 forgotten, or there was none; 1 no such VM; 2 wrong usage."


def run(arguments: Namespace) -> int:
    """The next key that the VM's guest shows is pinned."""
    with View(arguments.state) as view:
        vm = view.named(arguments.vm)
    old = " and ".join(key for key in (vm["guest-key"], vm["rival-key"]) if key)
    ledger = Ledger.open(arguments.state)
    try:
        forgotten = ledger.forget_key(vm["key"])
        if forgotten:
            ledger.audit(vm["key"], who.operator(), f"forgot the guest's key {old}")
    finally:
        ledger.close()
    if not forgotten:
        print(f"{vm['vm']}: had no key; the first that its guest shows is pinned")
        return 0
    served = "the service greets the guest again" if is_served(arguments.state) else "once 'serve' or 'push' greets the guest"
    print(f"{vm['vm']}: forgot {old}; {served}, pins the key that it then shows, and sends its document")
    print(f"'pv-host-agent wait {quote(vm['key'])}' waits for it")
    return 0
