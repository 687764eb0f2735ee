# SPDX-License-Identifier: Apache-2.0
"""A fake of etcd's JSON gateway: an HTTP server in this loop that answers as a test says, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Answer = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]


class Asked(NamedTuple):
    """A request: its path, the lines of its body as JSON, and the token that it showed."""

    path: str
    body: list[Any]
    token: str


def b64(text: str) -> str:
    """As keys and values stand in JSON."""
    return b64encode(text.encode()).decode()


def answer(value: object, status: int = 200) -> Answer:
    """A whole answer."""
    return raw(json.dumps(value).encode(), status)


def raw(data: bytes, status: int = 200) -> Answer:
    """A whole answer of any bytes."""

    async def give(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data))

    return give


def problem(status: int, code: int, words: str) -> Answer:
    """An error, as the gateway has it."""
    return answer({"error": words, "message": words, "code": code}, status)


def lines(*values: object, then: Answer | None = None) -> Answer:
    """The beginning of a stream; *then* the connection ends, or this goes on."""

    async def give(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for value in values:
            line = json.dumps(value).encode() + b"\n"
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        await writer.drain()
        if then is not None:
            await then(asked, writer)
        writer.close()

    return give


async def silence(_: Asked, __: asyncio.StreamWriter) -> None:
    """Nothing, for ever."""
    await asyncio.Event().wait()


async def cut(_: Asked, writer: asyncio.StreamWriter) -> None:
    """The connection is over."""
    writer.transport.abort()


class FakeGateway:
    """Gives the *answers* to a path one after the other, the last of them again and again."""

    def __init__(self, **answers: list[Answer]) -> None:
        self._answers = {path.replace("_", "/"): given for path, given in answers.items()}
        self.asked: list[Asked] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [asked.path for asked in self.asked]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing():
                asked = await _request(reader)
                self.asked.append(asked)
                given = self._answers[asked.path]
                await (given.pop(0) if len(given) > 1 else given[0])(asked, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *fields = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    path = first.split()[1].removeprefix("/v3/")
    return Asked(path, [json.loads(line) for line in body.splitlines()], headers.get("authorization", ""))
