# SPDX-License-Identifier: Apache-2.0
"""What the toolstack wrote into xenstore about a domain and its channels; a node that a guest can have written is not believed.

Below ``/libxl`` only dom0 writes. Below ``/local/domain/D`` the guest can remove what dom0 made in its directories of devices
and make it anew, but it cannot give a node to dom0: what dom0 owns, dom0 wrote.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.channels.connect import MAX_SOCKET_PATH_BYTES
from host_agent.channels.endpoint import Domain, Endpoint
from host_agent.xenstore.errors import NoEntry, Refused
from pv_channel.errors import LocalError
from pv_channel.greeting import NO_UUID, channel_name, uuid_bytes
from pv_channel.text import printable

if TYPE_CHECKING:
    from host_agent.xenstore.client import Client

#: A domain's number; xenstore's nodes may have any name.
_DOMID: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_CONSOLE: Final = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)
#: Older toolstacks count up a suffix when a domain is restored or migrated.
_VM: Final = re.compile(r"/vm/([0-9A-Fa-f-]{36})(?:-[0-9]{1,9})?", re.ASCII)
_IMAGE_PID: Final = "image/device-model-pid"
_IMAGE_DOMID: Final = "image/device-model-domid"
_PID: Final = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_PTY: Final = re.compile(r"/dev/pts/(?:0|[1-9][0-9]{0,9})", re.ASCII)
#: xl itself takes none that is longer.
_MAX_NAME: Final = 255


class Found(NamedTuple):
    """A running domain, its channels' endpoints by console, and sentences on what was there but cannot be right."""

    domain: Domain
    endpoints: dict[str, Endpoint]
    odd: frozenset[str]


class Console(NamedTuple):
    """All that xenstore says of one console, the primary one (which has no name) included; "" is what is not there.

    What a guest can have written is told as such and made printable: *frontend_state*, and whether there *has_frontend* at all.
    *tty* and *output* are there only if they are dom0's. The others are as the toolstack wrote them, whatever that is. A channel
    of a guest whose QEMU runs in the stubdomain *domid* has that guest's domid for *target*.
    """

    domid: int
    id: str
    name: str
    connection: str
    path: str
    frontend_state: str
    backend_state: str
    tty: str
    output: str
    has_frontend: bool
    target: int | None = None

    @property
    def owner(self) -> int:
        """The domain whose console it is."""
        return self.domid if self.target is None else self.target


async def domids(store: Client) -> list[int]:
    """The domains that have nodes, dom0 left out; not all of them need to run."""
    try:
        names = await store.directory("/local/domain")
    except NoEntry:  # a daemon that is just starting
        return []
    return sorted(int(name) for name in names if _DOMID.fullmatch(name))


async def look_at(store: Client, domid: int) -> Found | None:
    """The domain *domid* and its channels, or None where it does not run. One that vanishes meanwhile is no error."""
    if not await store.is_introduced(domid):
        return None
    look = _Look(store, domid)
    domain, ids = await asyncio.gather(look.domain(), look.console_ids())
    endpoints = await asyncio.gather(*(look.endpoint(each) for each in ids))
    channels = {id_: found._replace(domain=domain) for id_, found in zip(ids, endpoints, strict=True) if found is not None}
    return Found(domain, channels, frozenset(look.odd))


async def consoles_of(store: Client, domid: int) -> list[Console]:
    """Every console of the domain, as evidence."""
    look = _Look(store, domid)
    return list(await asyncio.gather(*(look.console(each) for each in await look.console_ids())))


class _Look:
    """One look at one domain; what is odd is gathered in *odd*."""

    def __init__(self, store: Client, domid: int) -> None:
        self._store, self._domid = store, domid
        self._home = f"/local/domain/{domid}"
        self.odd: set[str] = set()

    async def domain(self) -> Domain:
        nodes = ("vm", "name", _IMAGE_PID, "target", _IMAGE_DOMID)
        vm, name, pid, target, stubdomain = await asyncio.gather(*(self._dom0s(f"{self._home}/{each}") for each in nodes))
        if not name.isprintable() or len(name) > _MAX_NAME:
            self._find_odd(f"its name {printable(name)} cannot be one")
            name = ""
        return Domain(
            self._domid, self._uuid(vm), name, int(pid) if _PID.fullmatch(pid) else None, _domid(target), _domid(stubdomain)
        )

    def _uuid(self, vm: str) -> bytes:
        matched = _VM.fullmatch(vm)
        try:
            return uuid_bytes(matched[1]) if matched else self._no_uuid(vm)
        except LocalError:
            return self._no_uuid(vm)

    def _no_uuid(self, vm: str) -> bytes:
        if vm:
            self._find_odd(f"its node vm says {printable(vm)}, which is no /vm/UUID")
        return NO_UUID

    async def console_ids(self) -> list[str]:
        try:
            names = await self._store.directory(f"/libxl/{self._domid}/device/console")
        except Refused:
            return []
        return sorted((name for name in names if _CONSOLE.fullmatch(name)), key=int)

    async def endpoint(self, console: str) -> Endpoint | None:
        """The endpoint of one console; None where it is no channel, or not ready, or odd."""
        name, connection, path = await asyncio.gather(*(self._libxl(console, each) for each in ("name", "connection", "path")))
        if not name and not connection:  # the primary console
            return None
        try:
            channel_name(name)
        except LocalError:
            return self._skipped(console, f"its name {printable(name)} cannot be a channel's")
        if connection == "pty":
            return await self._pty(console, name)
        if connection != "socket":
            return self._skipped(console, f"its connection {printable(connection)} is neither socket nor pty")
        wrong = wrong_with(path)
        if wrong:
            return self._skipped(console, f"its path {printable(path)} {wrong}")
        return Endpoint(Path(path), channel=name)

    async def _pty(self, console: str, name: str) -> Endpoint | None:
        tty = await self._dom0s(self._frontend(console, "tty"))
        if not tty:  # QEMU has not opened it yet
            return None
        if not _PTY.fullmatch(tty):
            return self._skipped(console, f"its tty {printable(tty)} is no terminal of QEMU's")
        return Endpoint(Path(tty), is_pty=True, channel=name)

    async def console(self, console: str) -> Console:
        name, connection, path, backend = await asyncio.gather(
            *(self._libxl(console, each) for each in ("name", "connection", "path", "backend"))
        )
        frontend = await self._value(self._frontend(console))
        state, tty, output = await asyncio.gather(
            self._value(self._frontend(console, "state")),
            self._dom0s(self._frontend(console, "tty")),
            self._dom0s(self._frontend(console, "output")),
        )
        return Console(
            domid=self._domid, id=console, name=name, connection=connection, path=path,
            frontend_state=printable(state or "", 20), backend_state=await self._value(f"{backend}/state") or "",
            tty=tty, output=output, has_frontend=frontend is not None,
        )  # fmt: skip

    def _frontend(self, console: str, *more: str) -> str:
        return "/".join((f"{self._home}/device/console/{console}", *more))

    async def _libxl(self, console: str, key: str) -> str:
        return await self._value(f"/libxl/{self._domid}/device/console/{console}/{key}") or ""

    async def _dom0s(self, path: str) -> str:
        """The value at *path* if dom0 owns it, else "".

        The value is read first: whoever owned the node then, no guest can have given it to dom0 since.
        """
        value = await self._value(path)
        if value is None:
            return ""
        try:
            owner = (await self._store.permissions(path))[0].domid
        except Refused:
            return ""
        if owner == 0:
            return value
        self._find_odd(f"{path} is not dom0's, but domain {owner}'s, and not believed")
        return ""

    async def _value(self, path: str) -> str | None:
        """The value at *path*, with what is not UTF-8 escaped; None where there is no such node."""
        try:
            return (await self._store.read(path)).decode("utf-8", "backslashreplace")
        except Refused:
            return None

    def _skipped(self, console: str, why: str) -> Endpoint | None:
        self._find_odd(f"console {console}: {why}; the channel is left alone")
        return None

    def _find_odd(self, what: str) -> None:
        self.odd.add(f"domain {self._domid}: {what}")


def _domid(text: str) -> int | None:
    """The domain that *text* names; None for dom0, in which a QEMU is at home, and for what names none."""
    return int(text) if _DOMID.fullmatch(text) else None


def wrong_with(path: str) -> str:
    """What is wrong with *path* as a socket's, or ""."""
    if not path.startswith("/"):
        return "is not absolute"
    if ".." in path.split("/"):
        return "leads upwards"
    if not path.isprintable():
        return "has characters that no socket's path has"
    if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
        return f"has more than the {MAX_SOCKET_PATH_BYTES} bytes that a socket's path can have"
    return ""
