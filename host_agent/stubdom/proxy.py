# SPDX-License-Identifier: Apache-2.0
"""Xen's own vchan-socket-proxy, which is dom0's end of a stubdomain's QMP: found, given a socket to listen on, kept alive.

It is handed a socket that listens already, and not a path: where it ends, as it does without a word when a client leaves replies
unread, the next one has the same socket, and whoever connects meanwhile waits instead of being refused.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from host_agent.channels.ends import NOTHING, SOCKET, ends
from host_agent.errors import HostError, shown
from host_agent.files import check_writers
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from host_agent.stubdom.pair import Pair

NAME: Final = "vchan-socket-proxy"
_PREFIX: Final = Path("/usr")
#: Where distributions put it: Debian by Xen's version, others in Xen's own directory.
_PLACES: Final = ("lib/xen-*/bin", "libexec/xen/bin", "lib/xen/bin", "local/bin", "local/lib/xen/bin")
_END_SECONDS: Final = 5.0
_LAST_WORDS_SECONDS: Final = 1.0
_MAX_SAID: Final = 300
_QUEUE: Final = 5


class Proxy(NamedTuple):
    """One that runs. *said* has its last words, where it said any, which *hearing* listens to."""

    process: asyncio.subprocess.Process
    said: list[str]
    hearing: asyncio.Future[None]

    async def ended(self) -> None:
        """Return once it has ended, and its last words are there."""
        await self.process.wait()
        await asyncio.wait((self.hearing,), timeout=_LAST_WORDS_SECONDS)

    @property
    def words(self) -> str:
        """How it ended, and what it said at last."""
        status = self.process.returncode
        how = "still runs" if status is None else f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{NAME} {how}{'' if not self.said else f': {self.said[0]}'}"


def found(program: Path | None = None, prefix: Path = _PREFIX) -> Path:
    """The *program* that was named, or the one of the newest Xen; raise `HostError`."""
    if program is not None:
        if not os.access(program, os.X_OK) or program.is_dir():
            raise HostError(f"{shown(program)}: no program; --proxy names a {NAME}")
        return program.absolute()
    by_path = shutil.which(NAME)
    if by_path is not None:
        return Path(by_path)
    there = next(_installed(prefix), None)
    if there is None:
        raise HostError(f"there is no {NAME}; cure: apt-get install xen-utils-4.17, or say --proxy where it is")
    return there


def _installed(prefix: Path) -> Iterator[Path]:
    for place in _PLACES:
        for directory in sorted(prefix.glob(place), key=_version, reverse=True):
            if os.access(directory / NAME, os.X_OK):
                yield directory / NAME


def _version(directory: Path) -> list[int]:
    """Of ``xen-4.17``, so that 4.9 comes before it."""
    return [int(part) for part in directory.parent.name.removeprefix("xen-").split(".") if part.isdecimal()]


def listening(path: Path) -> socket.socket | None:
    """A socket that listens at *path*, where a dead one may have stood; None where somebody listens there. Raise `HostError`."""
    check_writers(path.parent, f"; cure: mkdir -m 700 {shown(path.parent)}")
    if os.path.lexists(path) and not _is_dead(path):
        return None
    path.unlink(missing_ok=True)
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o077)
    try:
        end.bind(os.fspath(path))
        end.listen(_QUEUE)
    except OSError as exc:
        end.close()
        raise HostError(f"{shown(path)}: {exc.strerror or exc}; cure: another --socket") from None
    finally:
        os.umask(before)
    return end


def _is_dead(path: Path) -> bool:
    """Whether it is a socket on which nobody listens any more; raise `HostError` where it is none."""
    here = ends([os.fspath(path)])[os.fspath(path)]
    if here.kind not in (NOTHING, SOCKET):
        raise HostError(f"{shown(path)} is no socket, and stays; cure: another --socket")
    return here.listener is None


@asynccontextmanager
async def started(program: Path, pair: Pair, listener: socket.socket, state_path: str) -> AsyncIterator[Proxy]:
    """It runs while in the block, and writes ``running`` at *state_path* once it takes clients of *listener*'s."""
    process = await _start(program, pair, listener, state_path)
    said: list[str] = []
    hearing = asyncio.ensure_future(_hear(cast("asyncio.StreamReader", process.stderr), said))
    try:
        yield Proxy(process, said, hearing)
    finally:
        await _end(process)
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def _start(program: Path, pair: Pair, listener: socket.socket, state_path: str) -> asyncio.subprocess.Process:
    """It ends with us, however we end (setpriv(1))."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise HostError("there is no setpriv; cure: apt-get install util-linux")
    return await asyncio.create_subprocess_exec(
        setpriv, "--pdeathsig", "TERM", "--",
        program, f"--state-path={state_path}", str(pair.stubdomain.domid), pair.vchan, str(listener.fileno()),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        start_new_session=True, pass_fds=(listener.fileno(),),
    )  # fmt: skip


async def _hear(errors: asyncio.StreamReader, said: list[str]) -> None:
    """Keep the latest of what it says; it may say as much as it likes."""
    while text := await errors.read(_MAX_SAID):
        said[:] = [printable(text.strip(), _MAX_SAID)]


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
