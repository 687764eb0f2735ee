# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent events`: what happened to the VMs, line by line, and what happens next."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from host_agent.verbs import options
from host_agent.views.since import since

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable

    from host_agent.views.chronicle import Entry


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "Print what happened to the VMs in the order of time, as 'time VM what'. The ledger keeps a VM's latest 64 events and,"
        " apart from them, the latest 256 entries of its audit trail: who had what done to it."
    )
    verb.add_argument("vms", nargs="*", metavar="VM", help="a VM's name or uuid (default: all)")
    verb.add_argument("--follow", "-f", action="store_true", help="go on with what happens, until Ctrl-C")
    from_when = "only from then on: so long ago (90s, 30min, 2h, 1d), or a time (2026-03-01T04:05, local where it has no offset)"
    verb.add_argument("--since", type=lambda text: since(text, time.time()), default=0.0, metavar="TIME", help=from_when)
    verb.add_argument("--audit", action="store_true", help="also the audit trail, as 'time VM [who] what'")
    options.state(verb)
    verb.add_argument("--json", action="store_true", help="print an object a line: at, vm, key, kind (event or audit), who, what")
    verb.epilog = "Exit status: 0 done; 1 no ledger, or no such VM; 2 wrong usage; 130 after Ctrl-C."


def run(arguments: Namespace) -> int:
    """What is on record, and with ``--follow`` what is added to it."""
    from host_agent.views.chronicle import Chronicle
    from host_agent.views.follow import LOOK_EVERY_SECONDS, Follow
    from host_agent.views.status import View

    with View(arguments.state) as view:
        keys = [view.named(vm)["key"] for vm in arguments.vms] if arguments.vms else None
        chronicle = Chronicle(keys, audit=arguments.audit)
        _print(chronicle.so_far(view, arguments.since), as_json=arguments.json)
    if not arguments.follow:
        return 0
    with Follow(arguments.state) as follow:
        while True:
            news = follow.news()
            if news is not None:
                _print(chronicle.more(news), as_json=arguments.json)
            time.sleep(LOOK_EVERY_SECONDS)


def _print(entries: Iterable[Entry], *, as_json: bool) -> None:
    for entry in entries:
        print(json.dumps(entry.values()) if as_json else _line(entry))
    print(end="", flush=True)


def _line(entry: Entry) -> str:
    who = f"[{entry.who}] " if entry.who else ""
    return f"{entry.values()['at']} {entry.vm} {who}{entry.what}"
