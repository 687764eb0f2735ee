# SPDX-License-Identifier: Apache-2.0
"""A QEMU's monitor to test against: a thread with an asyncio server that greets one client at a time, and answers as it is told.

`FakeMonitor(path)` is a context manager. `answers` says what each command returns: a value, or a function of the arguments that
can raise `Oops`; what is not there is refused as QEMU refuses what it does not know. `silent` and `hang_up` name commands that
are never answered, or answered by a closed connection. `asked` has what was asked for, in order; `event` tells the client one.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "fake"}


class Oops(Exception):  # noqa: N818 -- QEMU's own words are what matters
    """QEMU's refusal."""

    def __init__(self, desc: str, class_: str = "GenericError") -> None:
        super().__init__(desc)
        self.desc, self.class_ = desc, class_


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """QEMU's parser needs no line's end, and the library sends none."""
    text = ""
    while data := await reader.read(65536):
        text += data.decode()
        while text:
            try:
                message, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            yield message
            text = text[end:].lstrip()


class FakeMonitor:
    """The monitor; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Any] = {"qmp_capabilities": {}}
        self.silent: set[str] = set()
        self.hang_up: set[str] = set()
        #: Sent first; b"" for a QEMU that greets nobody.
        self.greeting = json.dumps({"QMP": {"version": VERSION, "capabilities": []}}).encode() + b"\r\n"
        self.asked: list[tuple[str, Any]] = []
        self.clients = 0
        #: So many clients are hung up on before they are greeted.
        self.shy = 0
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self.call(asyncio.start_unix_server(self._serve, os.fspath(self.path)))
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.path.unlink(missing_ok=True)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What *work* returns when it is done in the monitor's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def event(self, name: str, **data: Any) -> None:
        """Tell the client that something happened."""
        self.call(self._event({"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}}))

    def cut(self) -> None:
        """Close the client's connection, as a QEMU that crashes does."""
        self.call(self._cut())

    def commands(self) -> list[str]:
        """The names of what was asked for, without the negotiation."""
        return [command for command, _ in self.asked if command != "qmp_capabilities"]

    async def _event(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(message).encode() + b"\r\n")

    async def _cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        if self.clients <= self.shy:
            writer.transport.abort()
            return
        try:
            async with self._turn:
                self._writer = writer
                writer.write(self.greeting)
                with suppress(ConnectionError):
                    async for message in _messages(reader):
                        self._answer(message, writer)
        except asyncio.CancelledError:  # the end of the test
            pass
        finally:
            self._writer = None
            writer.transport.abort()

    def _answer(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        command, arguments = message["execute"], message.get("arguments", {})
        self.asked.append((command, arguments))
        if command in self.hang_up:
            writer.transport.abort()
        if command in self.silent | self.hang_up:
            return
        writer.write(json.dumps({**self._said(command, arguments), "id": message.get("id")}).encode() + b"\r\n")

    def _said(self, command: str, arguments: Any) -> dict[str, Any]:
        try:
            if command not in self.answers:
                raise Oops(f"The command {command} has not been found", "CommandNotFound")
            answer = self.answers[command]
            return {"return": answer(arguments) if callable(answer) else answer}
        except Oops as exc:
            return {"error": {"class": exc.class_, "desc": exc.desc}}
