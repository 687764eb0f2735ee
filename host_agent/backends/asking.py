# SPDX-License-Identifier: Apache-2.0
"""Ask a program for its capabilities: it is run with ``--print-capabilities``, for a bounded time, for a bounded answer."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import deque
from typing import TYPE_CHECKING, Final

from host_agent.backends.capabilities import MAX_BYTES, PRINT_CAPABILITIES, Capabilities, parse
from host_agent.backends.deciders import check_deciders
from host_agent.backends.spawn import ended_how, spawn
from host_agent.backends.words import Words
from host_agent.errors import BadFile, HostError, shown

if TYPE_CHECKING:
    from pathlib import Path

#: A program says this at once; a host under load starts it late.
ANSWER_SECONDS: Final = 15.0
#: What a program can do may change with the host.
REMEMBERED_SECONDS: Final = 60.0
#: Programs that are asked at once.
_AT_ONCE: Final = 4


def check_program(binary: Path) -> None:
    """Raise `BadFile` where *binary* is no program, or one that others than root and we can change."""
    check_deciders(binary)
    try:
        status = binary.stat()
    except OSError as exc:
        raise BadFile(f"{shown(binary)}: {exc.strerror}") from None
    if not stat.S_ISREG(status.st_mode) or not os.access(binary, os.X_OK):
        raise BadFile(f"{shown(binary)}: not a program that can be started")


async def ask(binary: Path, seconds: float = ANSWER_SECONDS) -> Capabilities:
    """What the program says of itself; raise `HostError` where it is not to be started, or gives no good answer."""
    check_program(binary)
    last_words: deque[str] = deque(maxlen=1)
    answer, how = await _run(binary, seconds, Words(last_words.append))
    try:
        if how:
            raise HostError(": ".join((how, *last_words)))
        return parse(answer)
    except HostError as exc:
        raise HostError(f"{shown(binary)} {PRINT_CAPABILITIES}: {exc}") from None


class Answers:
    """The programs' answers, each asked for once in a while however many want to know."""

    def __init__(self) -> None:
        self._asked: dict[tuple[object, ...], tuple[float, asyncio.Task[Capabilities]]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def of(self, binary: Path) -> Capabilities:
        """What the program says of itself; raise `HostError`."""
        now = asyncio.get_running_loop().time()
        self._asked = {key: (at, task) for key, (at, task) in self._asked.items() if now - at < REMEMBERED_SECONDS}
        key = (binary, *_signature(binary))
        if key not in self._asked:
            self._asked[key] = now, asyncio.create_task(self._ask(binary))
        return await asyncio.shield(self._asked[key][1])

    async def close(self) -> None:
        """Ask nothing any more."""
        tasks = [task for _, task in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, binary: Path) -> Capabilities:
        async with self._turn:
            return await ask(binary)


def _signature(binary: Path) -> tuple[int, ...]:
    """What changes when another program comes to stand there."""
    try:
        status = binary.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


async def _run(binary: Path, seconds: float, words: Words) -> tuple[bytes, str]:
    """What it writes, and how it failed, or "". What it complains of goes to *words*."""
    try:
        ours, its = os.pipe2(os.O_CLOEXEC)
        try:
            program = spawn([os.fspath(binary), PRINT_CAPABILITIES], output=its, errors=words.pen)
        except HostError:
            os.close(ours)
            raise
        finally:
            os.close(its)
            words.lay_down()
        try:
            async with asyncio.timeout(seconds):
                answer = await _read(ours)
                status = 0 if len(answer) > MAX_BYTES else await asyncio.shield(program.over)  # who says too much may go on
        except TimeoutError:
            return b"", f"no answer within {seconds:g} s"
        finally:
            await program.end(0)
    finally:
        words.close()
    return answer, "" if status == 0 else f"it {ended_how(status)}"


async def _read(descriptor: int) -> bytes:
    """All that comes until its end, or a little more than an answer can be."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    answer = bytearray()
    try:
        while len(answer) <= MAX_BYTES and (more := await reader.read(MAX_BYTES)):
            answer += more
    finally:
        transport.close()
    return bytes(answer)
