# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent status`: what became of the VMs, as a table, or of one of them with all that is on record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from host_agent.answer import ITEM_HEADER, item_rows
from host_agent.status import HEADER, View, row_of
from host_agent.table import show
from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    options.vm(verb, optional="show its items and events (default: a table of all)")
    options.state(verb)
    options.as_json(verb)


def run(arguments: Namespace) -> int:
    """All VMs as a table, or one with its items and events."""
    with View(arguments.state) as view:
        if arguments.vm is None:
            vms, items = view.all(), view.open_items()
            if arguments.json:
                options.print_json(vms)
            else:
                show(HEADER, [row_of(vm, items, time.time()) for vm in vms])
            return 0
        vm = view.named(arguments.vm)
    if arguments.json:
        options.print_json(vm)
    else:
        _show_vm(vm)
    return 0


def _show_vm(vm: dict[str, Any]) -> None:
    for name, value in vm.items():
        if name not in ("items", "events", "host-keys", "names", "certified") and value not in ("", 0, None):
            print(f"{name + ':':20} {value}")
    for key in vm["host-keys"]:
        print(f"{'host-key:':20} {key}")
    if vm["items"]:
        print()
        show(ITEM_HEADER, item_rows(vm["items"]))
    if vm["events"]:
        print()
        show(("at", "event"), [(event["at"], event["what"]) for event in vm["events"]])
