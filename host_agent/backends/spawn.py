# SPDX-License-Identifier: Apache-2.0
"""A backend program as a process: started with nothing of ours but what it is to have, followed, and ended with all it started.

It is the leader of a session and of a process group, and has an environment of a few words. When it ends, by itself or not, what
is left of its group is killed. When we are killed, it ends by the signal that setpriv(1) has the kernel send; in the sandbox of
our own unit, where that program is not let do anything, systemd ends it with the unit.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final

from host_agent.errors import HostError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: From SIGTERM to SIGKILL, the conventions' "few seconds"; the service itself has five of them when it is stopped.
END_SECONDS: Final = 3.0
#: From SIGKILL to saying that the kernel does not let go of it.
_DEAD_SECONDS: Final = 1.0
#: What every program gets; nothing of the service's own (NOTIFY_SOCKET, JOURNAL_STREAM, …) is its business.
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Program:
    """A process that runs; `over` has its exit status once it does not: negative for a signal's number."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[int] = self._loop.create_future()
        self._watch = os.pidfd_open(process.pid)
        self._loop.add_reader(self._watch, self._ended)

    def signal(self, number: int) -> None:
        """Send its process group a signal, as long as there is one."""
        if not self.over.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def wait(self, seconds: float) -> bool:
        """Wait so long until it has ended; whether it has."""
        await asyncio.wait([self.over], timeout=seconds)
        return self.over.done()

    async def end(self, seconds: float = END_SECONDS) -> None:
        """Have it end: SIGTERM, and SIGKILL after so many *seconds*, or when we are not to wait any longer."""
        self.signal(signal.SIGTERM)
        try:
            await self.wait(seconds)
        finally:
            self.signal(signal.SIGKILL)
            await self.wait(_DEAD_SECONDS)

    def _ended(self) -> None:
        self._loop.remove_reader(self._watch)
        os.close(self._watch)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # until we have waited for its leader the number is nobody else's
        self.over.set_result(self._process.wait())


def spawn(
    argv: Sequence[str], *, output: int, errors: int, keep: Sequence[int] = (), environment: Mapping[str, str] | None = None
) -> Program:
    """Start *argv*, an absolute path first, with only the descriptors *keep*, by their numbers; raise `HostError`."""
    try:
        process = subprocess.Popen(
            [*_ending_with_us(), *argv],
            stdin=subprocess.DEVNULL, stdout=output, stderr=errors, pass_fds=keep, start_new_session=True, cwd="/",
            env=_ENVIRONMENT | dict(environment or {}),
        )  # fmt: skip
    except (OSError, ValueError) as exc:  # ValueError: a NUL in an argument
        raise HostError(f"{shown(argv[0])} cannot be started: {getattr(exc, 'strerror', None) or exc}") from None
    return Program(process)


@cache
def _ending_with_us() -> tuple[str, ...]:
    """What a command begins with so that it ends when we do; nothing where that is not to be had."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    words = (setpriv, "--pdeathsig", "TERM", "--")
    done = subprocess.run([*words, setpriv, "--version"], capture_output=True, check=False)
    return words if done.returncode == 0 else ()


def ended_how(status: int) -> str:
    """An exit status as in a message."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by signal {-status} ({signal.strsignal(-status) or 'of no name'})"
