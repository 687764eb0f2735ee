# SPDX-License-Identifier: Apache-2.0
"""The page over HTTP on a loopback address: a few requests at a time, each small, short and answered once."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import h11
from prometheus_client import CONTENT_TYPE_LATEST

from host_agent.metrics.loopback import Address, bind

if TYPE_CHECKING:
    import socket

    from host_agent.metrics.page import Page

log = logging.getLogger("pv-host-agent")

PATH: Final = b"/metrics"
#: At once; who comes beyond that is turned away.
MAX_CLIENTS: Final = 16
#: A request's line and headers.
MAX_REQUEST_BYTES: Final = 8 * 1024
#: From a connection to its end.
CLIENT_SECONDS: Final = 10.0

_OK, _NO_SUCH_PAGE, _NO_SUCH_METHOD = 200, 404, 405
_METHODS: Final = (b"GET", b"HEAD")
_PLAIN: Final = "text/plain; charset=utf-8"


class Endpoint:
    """At the address *where*; raise `HostError` where that cannot be listened at."""

    def __init__(self, where: Address) -> None:
        self._where = where
        self._bound: socket.socket | None = bind(where)
        self._clients: set[asyncio.Task[None]] = set()

    async def serve(self, page: Page) -> None:
        """Answer with *page* until cancelled."""
        self._page = page
        listener, self._bound = self._bound or bind(self._where), None  # after a fault it is begun anew
        host, port = listener.getsockname()[:2]
        server = await asyncio.start_server(self._meet, sock=listener, limit=MAX_REQUEST_BYTES)
        log.info("metrics are at http://%s%s", Address(ip_address(host), port), PATH.decode("ascii"))
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for client in self._clients:
                client.cancel()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= MAX_CLIENTS:
            writer.transport.abort()
            return
        self._clients.add(task)
        try:
            async with asyncio.timeout(CLIENT_SECONDS):
                await self._answer(reader, writer)
        except (TimeoutError, OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._clients.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST_BYTES)
        try:
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await reader.read(MAX_REQUEST_BYTES))
        except h11.RemoteProtocolError as exc:
            writer.write(_reply(http, exc.error_status_hint, b"no request of HTTP/1\n"))
        else:
            if isinstance(event, h11.Request):
                writer.write(await self._reply_to(http, event))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _reply_to(self, http: h11.Connection, request: h11.Request) -> bytes:
        if request.method not in _METHODS:
            return _reply(http, _NO_SUCH_METHOD, b"only GET and HEAD\n")
        if request.target.partition(b"?")[0] != PATH:
            return _reply(http, _NO_SUCH_PAGE, b"there is /metrics\n")
        text = await self._page.text()
        return _reply(http, _OK, text, CONTENT_TYPE_LATEST, head=request.method == b"HEAD")


def _reply(http: h11.Connection, status: int, body: bytes, content_type: str = _PLAIN, *, head: bool = False) -> bytes:
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Connection", "close")]
    parts = [h11.Response(status_code=status, headers=headers), *([] if head else [h11.Data(data=body)]), h11.EndOfMessage()]
    return b"".join(http.send(part) or b"" for part in parts)
