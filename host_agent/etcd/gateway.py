# SPDX-License-Identifier: Apache-2.0
"""etcd's JSON gateway over HTTP: one of several endpoints answers, in time and not at any length, or it is said why none did."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from host_agent.etcd import wire
from host_agent.etcd.errors import Away, Garbled, NotAuthenticated, Refused, Silent
from pv_channel.text import printable

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import Self

    import httpx

#: For one endpoint to answer one request, its connection included; an election takes etcd a second or two.
ANSWER_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 3.0
#: A page of values, or one value of etcd's own most (1.5 MiB) with base64 and room.
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
#: Requests at once; the rest wait for their turn.
_CONNECTIONS: Final = 16
_GOOD: Final = 200


class Credentials(NamedTuple):
    """A user of etcd's. *password* is read anew whenever a token is asked for."""

    user: str
    password: Callable[[], str]


class Gateway:
    """The *endpoints* of one cluster, asked by HTTP, over *tls* where they are https. No proxy of the environment's is used."""

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: ssl.SSLContext | None = None,
        credentials: Credentials | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._endpoints, self._tls, self._credentials = list(endpoints), tls, credentials
        self._answer_seconds = answer_seconds
        self._turn = asyncio.Lock()
        self._token = ""
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End every connection."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def ask(self, path: str, body: bytes, kind: type[wire.Answer], *, limit: int = MAX_ANSWER_BYTES) -> wire.Answer:
        """The answer, of at most *limit* bytes; raise one of `EtcdError`."""
        try:
            return wire.decode(await self._ask_any(path, body, limit, await self._shown()), kind)
        except NotAuthenticated as exc:
            return wire.decode(await self._ask_any(path, body, limit, await self._renewed(exc)), kind)

    @asynccontextmanager
    async def lines(self, path: str, body: bytes, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an answer that goes on and on; raise `Away` where it ends, `Silent` where none comes for so long."""
        try:
            async with self._stream(path, body, silence, await self._shown()) as lines:
                yield lines
        except NotAuthenticated as exc:
            await self._renewed(exc)
            raise Away("etcd wants another token; it has one now") from None

    async def _ask_any(self, path: str, body: bytes, limit: int, token: str) -> bytes:
        """Ask the endpoint that answered last, else the next, each once."""
        failures = []
        for endpoint in list(self._endpoints):
            try:
                answer = await self._ask(endpoint, path, body, limit, token)
            except Away as exc:
                failures.append(f"{endpoint}: {exc}")
                self._prefer_another_than(endpoint)
            else:
                return answer
        raise Away(f"etcd cannot be reached: {'; '.join(failures)}")

    def _prefer_another_than(self, endpoint: str) -> None:
        if self._endpoints[0] == endpoint:
            self._endpoints.append(self._endpoints.pop(0))

    async def _ask(self, endpoint: str, path: str, body: bytes, limit: int, token: str) -> bytes:
        """The body of the answer of one endpoint; raise `Away` where another may do better."""
        import httpx

        try:
            async with asyncio.timeout(self._answer_seconds), self._open(endpoint, path, body, token) as response:
                return await _good(response, limit)
        except TimeoutError:
            raise Away(f"no answer within {self._answer_seconds:g} s") from None
        except (httpx.HTTPError, OSError) as exc:
            raise Away(_words(exc)) from None

    @asynccontextmanager
    async def _stream(self, path: str, body: bytes, silence: float, token: str) -> AsyncIterator[AsyncIterator[bytes]]:
        import httpx

        endpoint = self._endpoints[0]
        try:
            async with self._open(endpoint, path, body, token, silence) as response:
                if response.status_code != _GOOD:
                    async with asyncio.timeout(self._answer_seconds):
                        await _good(response, MAX_ANSWER_BYTES)
                yield _lines(response)
        except httpx.ReadTimeout:
            raise Silent(f"{endpoint}: silent for {silence:g} s") from None
        except (httpx.HTTPError, OSError) as exc:
            self._prefer_another_than(endpoint)
            raise Away(f"{endpoint}: {_words(exc)}") from None

    @asynccontextmanager
    async def _open(
        self, endpoint: str, path: str, body: bytes, token: str, silence: float | None = None
    ) -> AsyncIterator[httpx.Response]:
        import httpx

        headers = {"authorization": token} if token else {}
        timeout = httpx.Timeout(self._answer_seconds, connect=_CONNECT_SECONDS, read=silence or self._answer_seconds)
        async with self._client().stream("POST", endpoint + path, content=body, headers=headers, timeout=timeout) as response:
            yield response

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            import httpx

            for name in ("httpx", "httpcore"):  # which would log every request
                logging.getLogger(name).setLevel(logging.WARNING)
            # Compressed, a short answer could be a long one. By Accept etcd knows its gateway's own certificate from the asker's
            # (auth/store.go, AuthInfoFromTLS).
            headers = {"accept": "application/json", "accept-encoding": "identity", "content-type": "application/json"}
            self._http = httpx.AsyncClient(
                verify=True if self._tls is None else self._tls, trust_env=False, headers=headers,
                limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
            )  # fmt: skip
        return self._http

    async def _shown(self) -> str:
        """The token that we show, if we are to show one."""
        if self._credentials is None or self._token:
            return self._token
        async with self._turn:
            return self._token or await self._authenticate(self._credentials)

    async def _renewed(self, exc: NotAuthenticated) -> str:
        """Another token than the one that etcd refused with *exc*."""
        refused = self._token
        if self._credentials is None:
            raise Refused(f"etcd wants to know who asks ({exc}); cure: 'user' and 'password-file' in the fleet's file")
        async with self._turn:
            return self._token if self._token != refused else await self._authenticate(self._credentials)

    async def _authenticate(self, credentials: Credentials) -> str:
        self._token = ""
        body = msgspec.json.encode({"name": credentials.user, "password": credentials.password()})
        try:
            answer = wire.decode(await self._ask_any("/v3/auth/authenticate", body, MAX_ANSWER_BYTES, ""), wire.TokenAnswer)
        except Refused as exc:
            raise Refused(f"etcd does not take the password of its user {printable(credentials.user, 100)}: {exc}") from None
        if not answer.token.isascii() or not answer.token.isprintable():
            raise Garbled("a token that is none")
        self._token = answer.token
        return self._token


async def _good(response: httpx.Response, limit: int) -> bytes:
    """The whole body of a good answer; raise one of `EtcdError` for another."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise Garbled(f"an answer of more than {limit:,} bytes")
    if response.status_code == _GOOD:
        return bytes(body)
    raise wire.problem(response.status_code, bytes(body)) or Away("etcd has no leader, or is too slow")


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Each line as soon as it has come; raise `Away` at the end."""
    rest = bytearray()
    async for chunk in response.aiter_raw():
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield bytes(rest + line)
            rest.clear()
        rest += last
        if len(rest) > MAX_ANSWER_BYTES:
            raise Garbled(f"a line of more than {MAX_ANSWER_BYTES:,} bytes")
    raise Away("etcd ended the stream")


def _words(exc: Exception) -> str:
    """What went wrong; some of these have no words of their own."""
    return printable(str(exc) or type(exc).__name__, 200)
