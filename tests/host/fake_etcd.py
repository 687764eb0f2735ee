# SPDX-License-Identifier: Apache-2.0
"""A fake of etcd for whoever only reads: its JSON gateway over a dictionary, served by a thread."""

from __future__ import annotations

import json
import threading
from base64 import b64decode, b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self


class Stands(NamedTuple):
    """What stands at a key."""

    value: str
    lease: int = 0


class FakeEtcd:
    """Has *keys*, and keeps the paths of what it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, Stands] = {}
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                fake.asked.append(self.path)
                answer = json.dumps(fake.range(request)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def range(self, request: dict[str, Any]) -> object:
        """The answer to the request of a range, all on one page."""
        key = b64decode(request["key"])
        end = b64decode(request.get("range_end", "")) or key + b"\0"
        kvs = [_kv(name, self.keys[name]) for name in sorted(self.keys) if key <= name.encode() < end]
        return {"header": {"revision": "9"}, "kvs": kvs, "count": str(len(kvs))}


def _kv(name: str, stands: Stands) -> dict[str, str]:
    encoded = {"key": b64encode(name.encode()).decode(), "value": b64encode(stands.value.encode()).decode()}
    return {**encoded, "create_revision": "1", "mod_revision": "2", "lease": str(stands.lease)}
