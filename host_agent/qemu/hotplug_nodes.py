# SPDX-License-Identifier: Apache-2.0
"""What libxl writes into xenstore for a channel's console: the same nodes, values, owners and permissions, all at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.errors import HostError
from host_agent.xenstore.errors import Again, NoEntry, Refused
from host_agent.xenstore.wire import Permission
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from host_agent.xenstore.client import Client, Nodes

#: LIBXL_XENCONSOLE_LIMIT and LIBXL_XENCONSOLE_PROTOCOL.
_LIMIT: Final = "1048576"
_PROTOCOL: Final = "vt100"
#: XenbusStateUnknown, XenbusStateInitialising, XenbusStateClosing, XenbusStateClosed.
_UNKNOWN: Final = "0"
_INITIALISING: Final = "1"
_CLOSING: Final = "5"
_CLOSED: Final = "6"
#: Xenstore is busiest when a domain starts: its toolstack makes a dozen transactions then.
_ATTEMPTS: Final = 40
_BETWEEN_SECONDS: Final = 0.025


class Place(NamedTuple):
    """A console's three directories: the guest's, QEMU's, and libxl's own notes."""

    domid: int
    id: int

    @property
    def frontend(self) -> str:
        """The guest's, which owns it."""
        return f"/local/domain/{self.domid}/device/console/{self.id}"

    @property
    def backend(self) -> str:
        """QEMU's, as dom0."""
        return f"/local/domain/0/backend/console/{self.domid}/{self.id}"

    @property
    def libxl(self) -> str:
        """Where a toolstack looks for what it has to take away."""
        return f"/libxl/{self.domid}/device/console/{self.id}"

    @property
    def all(self) -> tuple[str, str, str]:
        """All three."""
        return self.frontend, self.backend, self.libxl


class NewConsole(NamedTuple):
    """A channel to be. A socket has a *path*, a terminal a *tty*; *chardev* is what QEMU calls its end."""

    place: Place
    name: str
    connection: str
    chardev: str
    path: str = ""
    tty: str = ""


async def write(store: Client, console: NewConsole) -> None:
    """Have all nodes of *console* be there at once, for the guest to take it up; raise `HostError`, with nothing written.

    QEMU does nothing about it before `offer_to_qemu`. For as long as QEMU 7.2 waits for a guest it keeps another descriptor of
    /dev/xen/gntdev with every node that changes, until it ends: so the guest, which does not wait for QEMU, goes first.
    """
    place = console.place

    async def all_of_it(nodes: Nodes) -> None:
        for directory in place.all:
            if await _is_there(nodes, directory):
                raise HostError(f"xenstore: {directory} is there already: another toolstack works on this domain; try again")
        guests = _owned(place.domid, Permission("r", 0))
        qemus = _owned(0, Permission("r", place.domid))
        await _directory(nodes, place.frontend, guests)
        await _values(nodes, place.frontend, _guests_own(place), guests)
        await _values(nodes, place.frontend, _guest_may_read(console), qemus)
        ours = _backend(console)
        await _directory(nodes, place.backend, qemus)
        await _values(nodes, place.backend, ours | {"state": _UNKNOWN}, qemus)
        notes = ours | {"backend": place.backend}
        await _directory(nodes, place.libxl, _owned(0))
        await _values(nodes, place.libxl, notes, _owned(0))

    await _in_one_go(store, all_of_it)


async def offer_to_qemu(store: Client, place: Place) -> None:
    """Have QEMU take the console up; raise `HostError`."""
    await store.write(f"{place.backend}/state", _INITIALISING.encode("ascii"))


async def begin_closing(store: Client, place: Place) -> None:
    """Tell both drivers that the console is to go; raise `HostError`."""

    async def all_of_it(nodes: Nodes) -> None:
        await nodes.write(f"{place.backend}/online", b"0")
        await nodes.write(f"{place.backend}/state", _CLOSING.encode("ascii"))

    await _in_one_go(store, all_of_it)


async def say_closed_for_the_guest(store: Client, place: Place) -> None:
    """Write that the guest has closed its end, though it has not: only then does QEMU 7.2 let go of the console."""
    await store.write(f"{place.frontend}/state", _CLOSED.encode("ascii"))


async def stay_open(store: Client, place: Place, backend: str, frontend: str) -> bool:
    """Take `begin_closing` back, so that the states are *backend* and *frontend* again; False where a driver has moved since."""
    stays = False

    async def all_of_it(nodes: Nodes) -> None:
        nonlocal stays
        now = [await _value(nodes, f"{end}/state") for end in (place.backend, place.frontend)]
        stays = now == [_CLOSING, frontend]
        if stays:
            await nodes.write(f"{place.backend}/online", b"1")
            await nodes.write(f"{place.backend}/state", backend.encode("ascii"))

    await _in_one_go(store, all_of_it)
    return stays


async def remove(store: Client, place: Place) -> None:
    """Have all nodes of the console be gone at once, and those above that have no other children, as libxl does."""

    async def all_of_it(nodes: Nodes) -> None:
        for directory in place.all:
            if await _is_there(nodes, directory):
                await nodes.rm(directory)
            above = directory.rpartition("/")[0]
            if await _is_there(nodes, above) and not await nodes.directory(above):
                await nodes.rm(above)

    await _in_one_go(store, all_of_it)


async def used(store: Client, domid: int) -> set[int]:
    """The ids of which any of the three directories is there, complete or not."""
    found: set[int] = set()
    for directory in Place(domid, 0).all:
        try:
            names = await store.directory(directory.rpartition("/")[0])
        except NoEntry:
            continue
        found |= {int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 6}
    return found


async def _in_one_go(store: Client, all_of_it: Callable[[Nodes], Awaitable[None]]) -> None:
    for _ in range(_ATTEMPTS):
        try:
            async with store.transaction() as nodes:
                await all_of_it(nodes)
        except Again:
            await asyncio.sleep(_BETWEEN_SECONDS)
        else:
            return
    raise HostError(f"xenstore: somebody else's changes came between {_ATTEMPTS} times; try again when the toolstack is done")


async def _is_there(nodes: Nodes, path: str) -> bool:
    try:
        await nodes.read(path)
    except NoEntry:
        return False
    except Refused as exc:
        raise HostError(f"{exc}; only dom0's root may plug") from None
    return True


async def _value(nodes: Nodes, path: str) -> str:
    try:
        return printable(await nodes.read(path), 20)
    except NoEntry:
        return ""


async def _directory(nodes: Nodes, path: str, permissions: Iterable[Permission]) -> None:
    await nodes.mkdir(path)
    await nodes.set_permissions(path, permissions)


async def _values(nodes: Nodes, directory: str, values: Mapping[str, str], permissions: Iterable[Permission]) -> None:
    for key, value in values.items():
        await nodes.write(f"{directory}/{key}", value.encode())
        await nodes.set_permissions(f"{directory}/{key}", permissions)


def _owned(domid: int, *others: Permission) -> tuple[Permission, ...]:
    return Permission("n", domid), *others


def _guests_own(place: Place) -> dict[str, str]:
    return {"backend": place.backend, "backend-id": "0", "state": _INITIALISING, "protocol": _PROTOCOL}


def _guest_may_read(console: NewConsole) -> dict[str, str]:
    """What it must not be able to change: where the other end is in dom0."""
    output = f"chardev:{console.chardev}"
    return {"limit": _LIMIT, "type": "ioemu", "output": output, "tty": console.tty, "name": console.name}


def _backend(console: NewConsole) -> dict[str, str]:
    values = {
        "frontend": console.place.frontend, "frontend-id": str(console.place.domid), "online": "1", "state": _INITIALISING,
        "protocol": _PROTOCOL, "name": console.name, "connection": console.connection,
    }  # fmt: skip
    return values | ({"path": console.path} if console.path else {})
