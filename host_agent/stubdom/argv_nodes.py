# SPDX-License-Identifier: Apache-2.0
"""What a toolstack writes into xenstore for a stubdomain's QEMU, as libxl does (libxl_dm.c): dm-argv, and who is whose."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError
from host_agent.qemu.running_vm import shown
from host_agent.stubdom import argv
from host_agent.xenstore.errors import Again, Forbidden, Lost, NoEntry, Refused
from host_agent.xenstore.wire import Permission
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.stubdom.pair import Pair
    from host_agent.xenstore.client import Client, Nodes

#: What hvmloader knows.
BIOSES: Final = ("rombios", "seabios", "ovmf")
_DM_VERSION: Final = b"qemu_xen"
#: A toolstack that creates a domain makes a dozen transactions within a second.
_ATTEMPTS: Final = 40
_BETWEEN_SECONDS: Final = 0.025


class Publication(NamedTuple):
    """What is to be published. *bios* is the firmware that hvmloader is to start; *again*, where this QEMU was up before."""

    arguments: Sequence[bytes]
    bios: str | None = None
    again: bool = False


async def publish(store: Client, pair: Pair, what: Publication) -> str:
    """Write all of it in one transaction; the directory of the arguments. Raise `HostError`, with no node changed."""
    vm = await vm_of(store, pair)
    directory = argv.directory_of(vm)
    argv.check(what.arguments, directory)
    await _let_it(store, pair)
    for _ in range(_ATTEMPTS):
        try:
            async with store.transaction() as nodes:
                await _write_all(nodes, pair, what, directory)
        except Again:
            await asyncio.sleep(_BETWEEN_SECONDS)
        except Refused as exc:
            raise _not_taken(exc) from None
        else:
            return directory
    raise HostError(f"xenstore: somebody else's changes came between {_ATTEMPTS} times; try again when the toolstack is done")


async def published(store: Client, pair: Pair) -> list[bytes]:
    """The arguments that are there, read by wire protocol: every byte is as it was written. Raise `HostError`."""
    directory = argv.directory_of(await vm_of(store, pair))
    try:
        names = argv.in_order(await store.directory(directory), directory)
        return list(await asyncio.gather(*(store.read(f"{directory}/{name}") for name in names)))
    except NoEntry:
        raise HostError(f"{directory}: nothing is published for {shown(pair.target)}; 'pv-host-agent dm argv' does it") from None


async def vm_of(store: Client, pair: Pair) -> str:
    """The target's node below /vm, as the toolstack called it; raise `HostError`."""
    return (await store.read(f"/local/domain/{pair.target.domid}/vm")).decode("ascii", "replace")


async def _let_it(store: Client, pair: Pair) -> None:
    """Have the stubdomain's QEMU write what it has to write for the target."""
    try:
        await store.set_target(pair.stubdomain.domid, pair.target.domid)
    except Lost:
        raise
    except Refused as exc:
        raise HostError(
            f"xenstored does not let {shown(pair.stubdomain)} act for {shown(pair.target)} ({printable(exc.word, 40)}):"
            " both have to run; nothing was written"
        ) from None


async def _write_all(nodes: Nodes, pair: Pair, what: Publication, directory: str) -> None:
    stubdomain, target = pair.stubdomain.domid, pair.target.domid
    await _forget_the_last_life(nodes, pair, again=what.again)
    await _anew(nodes, directory, (Permission("n", 0), Permission("r", stubdomain)))
    for number, argument in enumerate(what.arguments, 1):
        await _write_argument(nodes, argv.node(directory, number), argument, number)
    await nodes.write(f"/local/domain/{target}/image/device-model-domid", b"%d" % stubdomain)
    await nodes.write(f"/local/domain/{stubdomain}/target", b"%d" % target)
    if what.bios is not None:
        await nodes.write(f"/local/domain/{target}/hvmloader/bios", what.bios.encode("ascii"))
    await _anew(nodes, pair.home, (Permission("n", stubdomain), Permission("r", target)))
    await nodes.write(f"/libxl/{target}/dm-version", _DM_VERSION)  # which whoever follows domains hears of


async def _forget_the_last_life(nodes: Nodes, pair: Pair, *, again: bool) -> None:
    """Raise `HostError` where the QEMU says that it is up, unless it is known to begin *again*."""
    try:
        state = await nodes.read(pair.state)
    except NoEntry:
        return
    if not again:
        raise HostError(
            f"{shown(pair.stubdomain)} says that {shown(pair.target)}'s QEMU is {printable(state, 20)} already, and that one has"
            " its arguments; cure: where it is started anew, say --again"
        )


async def _write_argument(nodes: Nodes, path: str, argument: bytes, number: int) -> None:
    try:
        await nodes.write(path, argument)
    except (Again, Lost):
        raise
    except Refused as exc:
        raise argv.BadArgument(
            number,
            f"xenstored does not take it ({printable(exc.word, 40)}): a limit of its own;"
            " cure: fewer or shorter arguments, or a higher limit (xenstored's --entry-size; oxenstored.conf's quota-maxsize)",
        ) from None


async def _anew(nodes: Nodes, path: str, permissions: Sequence[Permission]) -> None:
    """Have *path* be there with nothing below it."""
    with suppress(NoEntry):  # a parent is missing, too
        await nodes.rm(path)
    await nodes.write(path, b"")
    await nodes.set_permissions(path, permissions)


def _not_taken(exc: Refused) -> HostError:
    if isinstance(exc, Forbidden):
        return HostError(f"{exc}; only dom0's root may publish; nothing was written")
    return HostError(
        f"{exc}: xenstored does not take it; cure: where that is a limit of its own, its options raise it"
        " (--transaction, --quota); nothing was written"
    )
