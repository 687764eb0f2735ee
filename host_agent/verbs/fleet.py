# SPDX-License-Identifier: Apache-2.0
"""`pv-host-agent fleet`: the VMs of all dom0s that share an etcd: how they are, and what they should become."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from host_agent.verbs import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Awaitable, Callable

    from host_agent.etcd.client import Etcd
    from host_agent.fleet.layout import Layout
    from host_agent.fleet.view import Seen

_Result = TypeVar("_Result")

#: For etcd to answer a look or a push.
ANSWER_SECONDS: Final = 30.0
#: A VM that moves, a dom0 that is taken for dead, a guest's first boot, and some.
WAIT_SECONDS: Final = 300.0


def describe(verb: ArgumentParser) -> None:
    """Its arguments."""
    verb.description = (
        "See and change what a fleet of dom0s has in etcd, from any host that has the fleet's file: no dom0 is asked, each writes"
        " there how its VMs are ('serve --fleet')."
    )
    what = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    _describe_status(what.add_parser("status", help="show the VMs of all dom0s, and the dom0s"))
    _describe_wait(what.add_parser("wait", help="wait until VMs are what their newest documents say, wherever they run"))
    _describe_push(what.add_parser("push", help="put documents, defaults or groups into etcd, once they are known to be good"))
    _describe_remove(what.add_parser("remove", help="take VMs' documents out of etcd; the VMs are left as they are"))


def run(arguments: Namespace) -> int:
    """Show, wait, push, or remove."""
    work = {"status": _status, "wait": _wait, "push": _push, "remove": _remove}[arguments.what]
    return asyncio.run(work(arguments))


def _describe_status(status: ArgumentParser) -> None:
    status.description = (
        "Show every VM that has a document in the fleet, or was ever served there: which dom0 serves it, and how it is. What no"
        " dom0 serves now stands nowhere: it is off, on its way, or its dom0 is gone, and WHY says how it last was."
    )
    options.vm(status, optional="show all that is known of it, with its items (default: a table of all VMs and dom0s)")
    _describe_common(status, ANSWER_SECONDS, "give up after S seconds (default: %(default)g)")
    status.epilog = "Exit status: 0, however the VMs are; 1 etcd cannot be asked, or no such VM; 2 wrong usage."


def _describe_wait(wait: ArgumentParser) -> None:
    wait.description = (
        "Wait until a dom0 has taken up the newest document of each VM, and says that it is in force and all of it is well. A VM"
        " may move meanwhile, and etcd may be away for a while."
    )
    wait.add_argument("vms", nargs="*", metavar="VM", help="a VM's name or uuid")
    wait.add_argument("--all", action="store_true", help="every VM that has a document in the fleet")
    patient = "keep waiting where one has failed, was refused or has a bad document: somebody is mending it"
    wait.add_argument("--patient", action="store_true", help=patient)
    wait.add_argument("--quiet", action="store_true", help="no progress on standard error")
    _describe_common(wait, WAIT_SECONDS, "give up after S seconds (default: %(default)g)")
    wait.epilog = (
        "Exit status: 0 all are; 1 one will not be without an operator, or etcd cannot be asked; 2 time is over, or wrong usage."
    )
    wait.set_defaults(wrong_usage=wait.error)


def _describe_push(push: ArgumentParser) -> None:
    push.description = (
        "Check files as 'check' does, over the fleet's own defaults and groups, and put them into etcd: FILE is for the VM that"
        " it is named after, defaults.* and what lies in a directory 'groups' is for all. A file is written whole or not at all,"
        " and not over what somebody else has written meanwhile. No generation is counted: the dom0 that serves the VM does that."
    )
    push.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a document, defaults or a group, YAML or JSON")
    push.add_argument("--name", metavar="VM", help="the VM that the one FILE is for, where it is not named after it")
    _describe_common(push, ANSWER_SECONDS, "give up after S seconds for each file (default: %(default)g)")
    push.epilog = "Exit status: 0 all are in etcd; 1 one is not, and why; those before it are; 2 wrong usage."
    push.set_defaults(wrong_usage=push.error)


def _describe_remove(remove: ArgumentParser) -> None:
    remove.description = (
        "Take the documents of VMs out of etcd, as removing their files does where documents are in a directory: each VM is left"
        " as it is, and alone. Removing what is not there is no error, but what somebody else has written meanwhile stays."
    )
    remove.add_argument("vms", nargs="+", metavar="VM", help="a VM's name, as its document in etcd has it")
    _describe_common(remove, ANSWER_SECONDS, "give up after S seconds for each VM (default: %(default)g)")
    remove.epilog = "Exit status: 0 none has a document now; 1 one still has, and why; those before it have none; 2 wrong usage."


def _describe_common(verb: ArgumentParser, timeout: float, how_long: str) -> None:
    fleet = "where etcd is, as for 'serve' (default: %(default)s)"
    verb.add_argument("--fleet", type=Path, default=options.FLEET, metavar="FILE", help=fleet)
    verb.add_argument("--timeout", type=options.seconds, default=timeout, metavar="S", help=how_long)
    options.as_json(verb)


async def _with_etcd(arguments: Namespace, work: Callable[[Etcd, Layout], Awaitable[_Result]]) -> _Result:
    """What *work* makes of the fleet's etcd; raise `HostError` where there is none to ask."""
    from host_agent.fleet.config import read
    from host_agent.fleet.layout import Layout

    fleet = read(arguments.fleet)
    etcd = fleet.connect()
    try:
        return await work(etcd, Layout(fleet.prefix))
    finally:
        await etcd.close()


async def _in_time(seconds: float, answer: Awaitable[_Result]) -> _Result:
    from host_agent.etcd.errors import Away

    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise Away(f"etcd did not answer within {seconds:g} s; cure: see whether it is up, or --timeout") from None


async def _status(arguments: Namespace) -> int:
    from host_agent.fleet import view

    seen = await _in_time(arguments.timeout, _with_etcd(arguments, view.look))
    if arguments.vm is not None:
        return _one(arguments, seen)
    if arguments.json:
        dom0s = [{"dom0": each.dom0, "version": each.version, "seen": each.seen, "vms": each.vms} for each in seen.dom0s.values()]
        options.print_json({"dom0s": dom0s, "vms": [vm.values() for vm in seen.vms]})
        return 0
    _show(seen)
    return 0


def _show(seen: Seen) -> None:
    from host_agent.fleet import view
    from host_agent.views.overview import summary
    from host_agent.views.table import show

    show(view.DOM0_HEADER, view.dom0_rows(seen.dom0s.values()))
    print()
    show(view.HEADER, [vm.row(time.time()) for vm in seen.vms], less=view.LESS)
    if sys.stderr.isatty():
        print(summary(vm.standing for vm in seen.vms), file=sys.stderr)


def _one(arguments: Namespace, seen: Seen) -> int:
    from host_agent.errors import HostError
    from host_agent.fleet import view, waiting
    from host_agent.talk.answer import ITEM_HEADER
    from host_agent.views.table import show
    from pv_channel.text import printable

    vm = waiting.found(arguments.vm, seen)
    if vm is None:
        raise HostError(f"{printable(arguments.vm)}: not in the fleet; 'pv-host-agent fleet status' lists its VMs")
    values: dict[str, Any] = vm.values()
    if arguments.json:
        options.print_json(values)
        return 0
    for name, value in values.items():
        if name != "items" and value not in ("", None):
            print(f"{name:<20}{value}")
    if vm.report is not None and vm.report.items:
        print()
        show(ITEM_HEADER, view.item_rows(vm.report))
    return 0


async def _wait(arguments: Namespace) -> int:
    from host_agent.fleet.waiting import wait
    from host_agent.verbs.wait import show_ending

    if arguments.all == bool(arguments.vms):
        arguments.wrong_usage("say which: VM, or else --all")
    start = time.monotonic()

    def tell(text: str) -> None:
        if not arguments.quiet:
            print(f"{time.monotonic() - start:8.1f} s  {text}", file=sys.stderr, flush=True)

    vms = None if arguments.all else arguments.vms
    ending = await _with_etcd(
        arguments, lambda etcd, layout: wait(etcd, layout, vms, arguments.timeout, tell, patient=arguments.patient)
    )
    show_ending(ending, as_json=arguments.json)
    return ending.end.value


async def _push(arguments: Namespace) -> int:
    from host_agent.fleet.push import Pushed, name_of, push

    if arguments.name is not None and len(arguments.files) != 1:
        arguments.wrong_usage("--name takes one FILE")
    named = [(path, name_of(path, arguments.name)) for path in arguments.files]

    async def work(etcd: Etcd, layout: Layout) -> list[Pushed]:
        done = []
        for path, name in named:
            pushed = await _in_time(arguments.timeout, push(etcd, layout, path, name))
            done.append(pushed)
            if not arguments.json:
                print(f"{pushed.key}: {'written' if pushed.is_new else 'unchanged'}, revision {pushed.revision}")
        return done

    done = await _with_etcd(arguments, work)
    if arguments.json:
        options.print_json([{"key": each.key, "revision": each.revision, "written": each.is_new} for each in done])
    return 0


async def _remove(arguments: Namespace) -> int:
    from host_agent.fleet.remove import Removed, name_of, remove

    names = [name_of(vm) for vm in arguments.vms]

    async def work(etcd: Etcd, layout: Layout) -> list[Removed]:
        done = []
        for name in names:
            removed = await _in_time(arguments.timeout, remove(etcd, layout, name))
            done.append(removed)
            if not arguments.json:
                print(f"{removed.key}: {'removed' if removed.was_there else 'was not there'}")
        return done

    done = await _with_etcd(arguments, work)
    if arguments.json:
        options.print_json([{"key": each.key, "removed": each.was_there} for each in done])
    return 0
