# SPDX-License-Identifier: Apache-2.0
"""What each command of pv-host-agent does, from its arguments to its exit status."""

from __future__ import annotations

import json
import platform
import sys
import time
from typing import TYPE_CHECKING, Any

from host_agent import keys
from host_agent.answer import ITEM_HEADER, item_rows
from host_agent.channel import claimed
from host_agent.document_file import read, wanted
from host_agent.errors import BadFile, HostError, shown
from host_agent.inventory import MAX_NAME
from host_agent.ledger import Ledger
from host_agent.sockets import SUFFIX
from host_agent.status import HEADER, View, row_of
from host_agent.table import show
from pv_channel.errors import LocalError
from pv_channel.greeting import uuid_bytes
from pv_channel.planned import lines
from pv_channel.text import printable

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from host_agent.document_file import Wanted
    from host_agent.push import Ending


def check(arguments: Namespace) -> int:
    """One line per file: what is wrong with it, or that it is good."""
    status = 0
    for path in arguments.files:
        try:
            read(path)
        except BadFile as exc:
            status = 1
            print(exc)
        else:
            print(f"{shown(path)}: ok")
    return status


def push(arguments: Namespace) -> int:
    """Progress on standard error, the items (or the plan) on standard output."""
    import asyncio

    from host_agent.push import Manner, Push, Target

    channel = claimed(arguments.channel)
    what = _wanted_by(arguments)
    target = Target(arguments.socket or arguments.pty, is_pty=arguments.pty is not None)
    start = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - start:8.3f} s  {text}", file=sys.stderr, flush=True)

    identity = identify(arguments.state, tell)
    ledger = Ledger.open(arguments.state)
    try:
        if not arguments.dry_run:
            number = what.document.generation
            ledger.want(what.key, what.name, number if isinstance(number, int) else None, what.digest)
        manner = Manner(dry_run=arguments.dry_run, wait=not arguments.no_wait)
        ending = asyncio.run(Push(target, what, channel, identity, ledger, tell, manner=manner).run(arguments.timeout))
    finally:
        ledger.close()
    tell(ending.text)
    _show_ending(ending, what, time.monotonic() - start, as_json=arguments.json)
    return 0 if ending.good else 1


def serve(arguments: Namespace) -> int:
    """Until SIGTERM."""
    import asyncio
    import os

    from host_agent.service import Service, allow_many_files, check_directories, hold, log

    channel = claimed(arguments.channel)
    check_directories(arguments.documents, arguments.sockets)
    identity = identify(arguments.state, log.info)
    allow_many_files()
    lock = hold(arguments.state)
    ledger = Ledger.open(arguments.state)
    try:
        asyncio.run(Service(arguments.documents, arguments.sockets, channel, identity, ledger).run())
    finally:
        ledger.close()
        os.close(lock)
    return 0


def status(arguments: Namespace) -> int:
    """All VMs as a table, or one with its items and events."""
    view = View(arguments.state)
    try:
        if arguments.vm is None:
            vms, items = view.all(), view.open_items()
            if arguments.json:
                _print_json(vms)
            else:
                show(HEADER, [row_of(vm, items, time.time()) for vm in vms])
            return 0
        vm = view.one(arguments.vm)
    finally:
        view.close()
    if vm is None:
        raise HostError(f"{printable(arguments.vm)}: not in the ledger; 'pv-host-agent status' lists the VMs")
    if arguments.json:
        _print_json(vm)
    else:
        _show_vm(vm)
    return 0


def forget_key(arguments: Namespace) -> int:
    """Resolve a changed or shared key, deliberately."""
    view = View(arguments.state)
    try:
        vm = view.one(arguments.vm)
    finally:
        view.close()
    if vm is None:
        raise HostError(f"{printable(arguments.vm)}: not in the ledger; 'pv-host-agent status' lists the VMs")
    ledger = Ledger.open(arguments.state)
    try:
        forgotten = ledger.forget_key(vm["key"])
    finally:
        ledger.close()
    old = vm["guest-key"] or vm["rival-key"]
    print(f"{vm['vm']}: forgot {old}; the next key its guest shows is pinned" if forgotten else f"{vm['vm']}: had no key")
    return 0


def install(arguments: Namespace) -> int:
    """Unit and directories."""
    from host_agent.install import install as put

    for path in put(arguments.root):
        print(f"made {shown(path)}")
    print("next: pv-host-agent keys init; systemctl daemon-reload; systemctl enable --now pv-host-agent")
    return 0


def identify(state: Path, tell: Any) -> keys.Identity:
    """This host's identity, made on first use; *tell* hears of that."""
    try:
        identity, created = keys.load_or_create(state, platform.node())
    except OSError as exc:
        raise BadFile(f"{shown(exc.filename or state)}: {exc.strerror}") from None
    if created:
        tell(f"made this host's key {identity.fingerprint} in {shown(state)}; 'keys show' prints the line a template pins")
    return identity


def _wanted_by(arguments: Namespace) -> Wanted:
    """What is asked for on the command line, with the VM's name: its socket's, as `serve` would call it."""
    if arguments.uuid is not None:
        try:
            uuid_bytes(arguments.uuid)
        except LocalError as exc:
            raise HostError(f"--uuid {printable(arguments.uuid)}: {exc}") from None
    name = str(arguments.pty) if arguments.socket is None else arguments.socket.name.removesuffix(SUFFIX)
    return wanted(read(arguments.file), arguments.file, printable(name, MAX_NAME), arguments.uuid)


def _show_ending(ending: Ending, what: Wanted, seconds: float, *, as_json: bool) -> None:
    values = ending.values(what, seconds)
    if as_json:
        _print_json(values)
    elif ending.planned is not None:
        print("\n".join(lines(ending.planned)))
    elif values["items"]:
        show(ITEM_HEADER, item_rows(values["items"]))


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


def _print_json(values: object) -> None:
    print(json.dumps(values, indent=2))
