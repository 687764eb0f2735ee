# SPDX-License-Identifier: Apache-2.0
"""QEMU's end of a channel, a character device: which there are, made and removed by QMP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from host_agent.qemu.qmp import QmpTrouble
from pv_channel.text import printable

if TYPE_CHECKING:
    from host_agent.qemu.qmp import Qmp

#: What libxl calls them (libxl_dm.c).
PREFIX: Final = "libxl-channel"
#: QEMU lets go of a device a moment after its console is closed.
_FREE_SECONDS: Final = 5.0
_BETWEEN_SECONDS: Final = 0.05
_MAX_TTY: Final = 64


async def chardevs(qmp: Qmp) -> dict[str, str]:
    """Their labels, and what each is connected to, in QEMU's words."""
    found: Any = await qmp.execute("query-chardev")
    return {str(each["label"]): str(each["filename"]) for each in found}


async def add_socket(qmp: Qmp, label: str, path: str) -> None:
    """Have QEMU listen on a socket that it makes at *path*; raise `QmpTrouble`."""
    address = {"type": "unix", "data": {"path": path}}
    await _add(qmp, label, {"type": "socket", "data": {"addr": address, "server": True, "wait": False}})


async def add_pty(qmp: Qmp, label: str) -> str:
    """Have QEMU open a terminal; its path. Raise `QmpTrouble`."""
    added = await _add(qmp, label, {"type": "pty", "data": {}})
    return printable(added["pty"], _MAX_TTY)


async def remove(qmp: Qmp, label: str) -> None:
    """Have it be gone, and its socket with it; raise `QmpTrouble` where QEMU goes on using it, or is gone itself."""
    until = asyncio.get_running_loop().time() + _FREE_SECONDS
    while label in await chardevs(qmp):
        try:
            await qmp.execute("chardev-remove", {"id": label})
        except QmpTrouble as exc:
            if not exc.error_class or asyncio.get_running_loop().time() > until:
                raise
            await asyncio.sleep(_BETWEEN_SECONDS)


async def _add(qmp: Qmp, label: str, backend: dict[str, object]) -> Any:
    return await qmp.execute("chardev-add", {"id": label, "backend": backend})
