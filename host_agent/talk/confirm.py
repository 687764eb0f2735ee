# SPDX-License-Identifier: Apache-2.0
"""Look from dom0 whether a guest's changed network is as wanted: a TCP connection to it, or a command of the operator's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import suppress
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any, Final

from host_agent.talk.confirmation import Asked, Verdict
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

#: Between two attempts to connect, and the longest that one may take: a packet that is lost is sent again after 1 and 3 s.
RETRY_SECONDS: Final = 1.0
_ATTEMPT_SECONDS: Final = 5.0
#: So many of all VMs' at once: a thousand guests that change their networks together do not take all descriptors and processes.
ATTEMPTS_AT_ONCE: Final = 64
COMMANDS_AT_ONCE: Final = 32
#: What is left for the word to reach the guest before its own deadline.
_MARGIN_SECONDS: Final = 2.0
#: A guest that asks again and again does not make dom0 look more often.
BETWEEN_LOOKS_SECONDS: Final = 5.0
#: The command's own words go to our standard error: the journal's, or the operator's terminal.
_STANDARD_ERROR: Final = 2


class Lookers:
    """What all streams share: so many attempts to connect, and so many commands, go on at once; the others wait in line."""

    def __init__(self) -> None:
        self.attempts = asyncio.Semaphore(ATTEMPTS_AT_ONCE)
        self.commands = asyncio.Semaphore(COMMANDS_AT_ONCE)


class Looks:
    """The looks of one stream: one at a time, the latest that was asked for. *decided* gets each verdict, or what went wrong."""

    def __init__(self, decided: Callable[[asyncio.Future[Verdict]], None], lookers: Lookers) -> None:
        self._decided, self._lookers = decided, lookers
        self._asked: Asked | None = None
        self._task: asyncio.Task[Verdict] | None = None
        self._next = 0.0

    def look(self, asked: Asked) -> None:
        """Look, unless just that is being looked at already: for a guest that asks again in a new session."""
        if self._task is not None and not self._task.done():
            if self._asked is not None and self._asked._replace(seconds=asked.seconds) == asked:
                return
            self._task.cancel()
        now = asyncio.get_running_loop().time()
        wait = max(self._next - now, 0.0)
        self._next = now + wait + BETWEEN_LOOKS_SECONDS
        self._asked, self._task = asked, asyncio.create_task(_look(asked, wait, now + asked.seconds, self._lookers))
        self._task.add_done_callback(self._done)

    def end(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    def _done(self, task: asyncio.Task[Verdict]) -> None:
        if not task.cancelled():
            self._decided(task)


async def _look(asked: Asked, wait: float, until: float, lookers: Lookers) -> Verdict:
    await asyncio.sleep(wait)
    until -= min(_MARGIN_SECONDS, asked.seconds / 4)
    if asked.rule.check == "tcp":
        good, text = await _connect(asked, until, lookers.attempts)
    else:
        good, text = await _run_in_line(asked, until, lookers.commands)
    return Verdict(asked.generation, good, text)


async def _connect(asked: Asked, until: float, line: asyncio.Semaphore) -> tuple[bool, str]:
    """Try again and again, until it works or the time is over."""
    loop = asyncio.get_running_loop()
    host, port = asked.rule.endpoint()
    to, problem = printable(asked.rule.tcp, 300), "there was no time to try"
    while (left := until - loop.time()) > 0:
        try:
            async with asyncio.timeout(left), line, asyncio.timeout(_ATTEMPT_SECONDS):
                await _connect_once(host, port)
        except TimeoutError:
            problem = "no answer"
        except OSError as exc:
            # asyncio puts a text of its own in place of the kernel's; a name server's errors have negative numbers.
            number = exc.errno or 0
            problem = os.strerror(number) if number > 0 else exc.strerror or str(exc)
        else:
            return True, f"dom0 has a TCP connection to {to}"
        await asyncio.sleep(min(RETRY_SECONDS, max(until - loop.time(), 0)))
    return False, f"dom0 has no TCP connection to {to}: {problem}"


async def _connect_once(host: str, port: int) -> None:
    """Raise `OSError` where none of the host's addresses takes the connection."""
    problem = OSError("the name has no address")
    for family, kind, protocol, address in await _addresses(host, port):
        with socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol) as opened:
            opened.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(opened, address)
            except OSError as exc:
                problem = exc
            else:
                return
    raise problem


async def _addresses(host: str, port: int) -> list[tuple[int, int, int, Any]]:
    """The host's addresses. A thread for each question: the loop's own are few, and one slow name must not hold up others."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[tuple[int, int, int, Any]]] = loop.create_future()

    def settle(found: list[tuple[int, int, int, Any]], problem: OSError | None) -> None:
        if not answer.done():
            if problem is None:
                answer.set_result(found)
            else:
                answer.set_exception(problem)

    def ask() -> None:
        found, problem = [], None
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append((int(family), int(kind), protocol, address))
        except OSError as exc:
            problem = exc
        with suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits
            loop.call_soon_threadsafe(settle, found, problem)

    threading.Thread(target=ask, daemon=True, name="resolve").start()
    return await answer


async def _run_in_line(asked: Asked, until: float, line: asyncio.Semaphore) -> tuple[bool, str]:
    """The same once it is its turn; a no where that does not come in time."""
    try:
        async with asyncio.timeout_at(until):
            await line.acquire()
    except TimeoutError:
        return False, f"dom0 runs {COMMANDS_AT_ONCE} such commands at once, and its turn did not come in time"
    try:
        return await _run(asked, until)
    finally:
        line.release()


async def _run(asked: Asked, until: float) -> tuple[bool, str]:
    """Run the operator's command; status 0 is a yes. What it started is killed with it when the time is over."""
    argv = asked.rule.command if isinstance(asked.rule.command, list) else [""]  # a document without one is refused
    shown = printable(argv[0], 200)
    environment = os.environ | {
        "PV_CHANNEL_VM": asked.vm, "PV_CHANNEL_UUID": asked.uuid, "PV_CHANNEL_GENERATION": str(asked.generation),
    }  # fmt: skip
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=_STANDARD_ERROR, env=environment, start_new_session=True
        )
    except (OSError, ValueError) as exc:  # ValueError: a NUL in an argument
        return False, f"{shown} does not start: {getattr(exc, 'strerror', None) or exc}"
    try:
        async with asyncio.timeout_at(until):
            status = await process.wait()
    except TimeoutError:
        return False, f"{shown} did not end in time"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            while process.returncode is None:
                with suppress(asyncio.CancelledError):  # once more, by a loop that ends; it is dead in a moment
                    await process.wait()
    return status == 0, f"{shown} ended with status {status}"
