# SPDX-License-Identifier: Apache-2.0
"""Where libxl has a domain's QMP socket, and the lock that libxl itself takes before it speaks there."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError, shown
from host_agent.qemu.lock_holder import holder
from pv_channel.greeting import uuid_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

#: XEN_RUN_DIR, as distributions set it.
RUN_DIRECTORIES: Final = (Path("/run/xen"), Path("/var/run/xen"))
#: XEN_LIB_DIR.
LIBRARY: Final = Path("/var/lib/xen")
_BETWEEN_SECONDS: Final = 0.05


def socket_of(domid: int, directories: Sequence[Path] = RUN_DIRECTORIES) -> Path:
    """The QMP socket of the domain's QEMU; where there is none, the place where libxl would have put it."""
    paths = [directory / f"qmp-libxl-{domid}" for directory in directories]
    return next((path for path in paths if path.exists()), paths[0])


def lock_of(domid: int, uuid: bytes, library: Path = LIBRARY) -> Path:
    """The file that whoever speaks on the domain's QMP socket has locked (libxl's ``libxl__userdata_path``)."""
    return library / f"userdata-l.{domid}.{uuid_text(uuid)}.qmp-socket-lock"


@asynccontextmanager
async def held(lock: Path, seconds: float) -> AsyncIterator[None]:
    """Have *lock*, as libxl has it, while in the block; raise `HostError` where another has it for longer than *seconds*."""
    try:
        async with asyncio.timeout(seconds):
            descriptor = await _locked(lock)
    except TimeoutError:
        who = holder(lock)
        named = "" if who is None else f", {who},"
        raise HostError(
            f"{shown(lock)}: another program{named} has had libxl's lock on this QEMU's QMP socket for"
            f" {seconds:g} s: an xl, libvirt or pv-host-agent at work; wait for it, or see 'fuser -v {shown(lock)}'"
        ) from None
    except OSError as exc:
        cure = "run this as root" if isinstance(exc, PermissionError) else "libxl's lock is kept in Xen's own directory"
        raise HostError(f"{shown(lock)}: {exc.strerror}; cure: {cure}") from None
    try:
        yield
    finally:
        os.close(descriptor)


async def _locked(lock: Path) -> int:
    """A descriptor that has *lock*, once it can be had."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _stands(descriptor, lock):
                return descriptor
        os.close(descriptor)
        await asyncio.sleep(_BETWEEN_SECONDS)


def _stands(descriptor: int, lock: Path) -> bool:
    """Whether *lock* is still the file that was locked: libxl removes it with its domain."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except FileNotFoundError:
        return False
