# SPDX-License-Identifier: Apache-2.0
"""A message bus for one VM alone: a dbus-daemon of ours, that takes root, us, and the user of that VM's QEMU, and nobody else."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote
from xml.sax.saxutils import escape

from host_agent.errors import BadFile, HostError, shown
from host_agent.files import PRIVATE_DIRECTORY, write_whole
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SOCKET_NAME: Final = "bus"
_CONFIGURATION: Final = "bus.conf"
#: A loaded host starts a program late.
START_SECONDS: Final = 15.0
_END_SECONDS: Final = 5.0
#: Others may pass through to the socket, whose policy judges them, and see nothing else.
_PASSABLE_DIRECTORY: Final = 0o711
_MAX_SAID: Final = 300
#: sun_path(7)'s 108 bytes, with a NUL.
_MAX_PATH: Final = 107
_DBUS_SAFE: Final = "-/_.*"
_TEMPLATE: Final = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<!-- Written anew at each start by pv-host-agent state helper. -->
<busconfig>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
{owners}
  <policy context="mandatory">
    <deny user="*"/>
{users}
  </policy>
</busconfig>
"""


@asynccontextmanager
async def private_bus(directory: Path, qemu_uid: int | None = None) -> AsyncIterator[str]:
    """The address of a bus in *directory*, made where it is missing, for as long as the block lasts; raise `HostError`.

    *qemu_uid* is the user of the VM's QEMU, where that is neither root nor ours: it may call, and not own a name.
    """
    ours = {0, os.geteuid()}
    _check_user(qemu_uid)
    directory = directory.absolute()
    if len(os.fsencode(directory / SOCKET_NAME)) > _MAX_PATH:
        raise BadFile(f"{shown(directory)}: too long for a socket's path, which has {_MAX_PATH} bytes; choose another directory")
    _make(directory, PRIVATE_DIRECTORY if qemu_uid is None or qemu_uid in ours else _PASSABLE_DIRECTORY)
    address = f"unix:path={quote(os.fsencode(directory / SOCKET_NAME), safe=_DBUS_SAFE)}"
    configuration = directory / _CONFIGURATION
    write_whole(configuration, _configuration(address, ours, qemu_uid).encode())
    async with _daemon(configuration):
        yield address


def _check_user(uid: int | None) -> None:
    """Raise `HostError` for one whom dbus-daemon turns away without a word, for it wants to know everybody's groups."""
    import pwd

    try:
        if uid is not None:
            pwd.getpwuid(uid)
    except KeyError:
        raise HostError(f"this machine knows no user {uid}, and no bus takes one; cure: run QEMU as a user with a name") from None


def _make(directory: Path, mode: int) -> None:
    """A directory of ours with this mode; raise `BadFile` where it is somebody else's, or no directory."""
    try:
        directory.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise BadFile(f"{shown(directory)}: belongs to uid {status.st_uid}, or is a link; choose a directory of your own")
        if status.st_mode & 0o022:
            raise BadFile(f"{shown(directory)}: others may write there; cure: chmod 700 {shown(directory)}")
        directory.chmod(mode)
    except OSError as exc:
        raise BadFile(f"{shown(directory)}: {exc.strerror}; choose another directory") from None


def _configuration(address: str, ours: set[int], qemu_uid: int | None) -> str:
    owners = [f'  <policy user="{uid}"><allow own="*"/></policy>' for uid in sorted(ours)]
    users = [f'    <allow user="{uid}"/>' for uid in sorted(ours if qemu_uid is None else ours | {qemu_uid})]
    return _TEMPLATE.format(address=escape(address), owners="\n".join(owners), users="\n".join(users))


@asynccontextmanager
async def _daemon(configuration: Path) -> AsyncIterator[None]:
    """It runs, and can be connected to."""
    daemon = await _start(configuration)
    last_words: list[str] = []
    listening = asyncio.ensure_future(_listen(cast("asyncio.StreamReader", daemon.stderr), last_words))
    try:
        if not await _is_up(cast("asyncio.StreamReader", daemon.stdout)):
            await _end(daemon)
            await listening
            said = last_words[0] if last_words else f"it was not ready within {START_SECONDS:g} s"
            raise HostError(f"dbus-daemon does not start: {said}; --bus names a bus that runs already")
        yield
    finally:
        await _end(daemon)
        await listening


async def _start(configuration: Path) -> asyncio.subprocess.Process:
    """The daemon, which ends with us however we end (setpriv(1)), and prints its address once it can be connected to."""
    for program, package in (("dbus-daemon", "dbus-daemon"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise HostError(f"there is no {program}; cure: apt-get install {package}")
    return await asyncio.create_subprocess_exec(
        "setpriv", "--pdeathsig", "TERM", "--",
        "dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile", "--print-address=1",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


async def _is_up(output: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(START_SECONDS):
            return bool(await output.readline())
    except TimeoutError:
        return False


async def _listen(errors: asyncio.StreamReader, last_words: list[str]) -> None:
    """Keep the latest of what it says; it may say as much as it likes, for as long as it lives."""
    while said := await errors.read(_MAX_SAID):
        last_words[:] = [printable(said.strip(), _MAX_SAID)]


async def _end(daemon: asyncio.subprocess.Process) -> None:
    """End it, and wait until it has."""
    with suppress(ProcessLookupError):
        daemon.terminate()
    try:
        async with asyncio.timeout(_END_SECONDS):
            await daemon.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            daemon.kill()
        await daemon.wait()
