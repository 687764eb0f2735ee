# SPDX-License-Identifier: Apache-2.0
"""How a `pv-host-agent dm` verb is told which VM is meant, by the VM or by its stubdomain and target, and whom it asks then."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import AsyncIterator

    from host_agent.qemu.hotplug_session import Places
    from host_agent.stubdom.pair import Meant, Pair
    from host_agent.xenstore.client import Client

_VM = "the VM's name, uuid or domid; it can be left out where --stubdom or --target says which"


def describe(verb: ArgumentParser, *more: str) -> None:
    """``VM``, or ``--stubdom`` and ``--target``; and what has to be said besides, as *more* calls it."""
    wanted = " ".join(more)
    also = f"; then {wanted}" if more and not wanted.startswith("[--") else ""
    verb.add_argument("words", nargs="*", metavar="VM", help=f"{_VM}{also}")
    verb.usage = f"{verb.prog} [OPTIONS] [VM] {wanted}".rstrip()
    who = "name, uuid or domid"
    verb.add_argument("--stubdom", metavar="S", help=f"the stubdomain, by its {who} (default: the one that the VM has)")
    verb.add_argument("--target", metavar="T", help=f"the VM whose QEMU runs there, by its {who} (default: what xenstore says)")
    verb.set_defaults(wrong_usage=verb.error)


def words(arguments: Namespace, least: int = 0, most: int | None = None) -> list[str]:
    """What was said besides the VM, from *least* to *most* words; a wrong usage ends the program with 2."""
    said, most = list(arguments.words), least if most is None else most
    arguments.vm = said.pop(0) if said and _has_vm(arguments, least, most) else None
    if arguments.vm is None and arguments.stubdom is None and arguments.target is None:
        arguments.wrong_usage("nothing says which VM is meant: name it, or say --stubdom or --target")
    if not least <= len(said) <= most:
        arguments.wrong_usage("something is missing after the VM" if len(said) < least else f"too much was said: {said[-1]}")
    return said


def _has_vm(arguments: Namespace, least: int, most: int) -> bool:
    """Whether the first word is the VM: always, but where an option says which, and nothing is left over."""
    if arguments.target is not None:
        return False
    if arguments.stubdom is None or len(arguments.words) > most:
        return True
    return len(arguments.words) > least and not arguments.words[-1].startswith("{")  # ARGUMENTS are JSON


def meant(arguments: Namespace) -> Meant:
    """Which VM, once `words` has seen to it."""
    from host_agent.stubdom.pair import Meant

    return Meant(arguments.vm, arguments.stubdom, arguments.target)


@asynccontextmanager
async def found(arguments: Namespace) -> AsyncIterator[tuple[Client, Places, Pair]]:
    """Xenstore, where Xen's daemons have their files, and the two domains; raise `HostError`."""
    from host_agent.qemu.hotplug_session import Places
    from host_agent.stubdom.pair import find
    from host_agent.xenstore.client import Client

    places = Places.usual()
    pair = await find(meant(arguments), places.xenstored)
    async with await Client.connect(places.xenstored) as store:
        yield store, places, pair


def tell(sentence: str) -> None:
    """To whoever waits."""
    print(f"pv-host-agent: {sentence}", file=sys.stderr, flush=True)
