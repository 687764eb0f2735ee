# SPDX-License-Identifier: Apache-2.0
"""Read this domain's own xenstore nodes through /dev/xen/xenbus (xen/include/public/io/xs_wire.h)."""

from __future__ import annotations

import os
import select
import struct
import time
from typing import Final

DEVICE: Final = "/dev/xen/xenbus"
#: XENSTORE_PAYLOAD_MAX: nothing on this wire has a longer payload.
MAX_PAYLOAD: Final = 4096
#: xenstored answers in milliseconds; one that is this late is dead, and a boot does not wait for it.
SECONDS: Final = 5.0
#: Replies to nobody and watch events that are passed over before giving up on an answer.
MAX_OTHERS: Final = 64

_HEADER: Final = struct.Struct("=IIII")  # type, req_id, tx_id, len
_READ: Final = 2
_WATCH_EVENT: Final = 15
_ERROR: Final = 16


class XenbusError(Exception):
    """xenstore cannot be asked, or gives no answer that is one."""


class Xenbus:
    """The open xenbus device, or, in a test, one end of a socket pair. A read of it blocks, so none is made before it is due."""

    def __init__(self, descriptor: int, seconds: float = SECONDS) -> None:
        self._fd = descriptor
        self._seconds = seconds
        self._request = 0

    @classmethod
    def open(cls, path: str = DEVICE) -> Xenbus:
        """Raise `XenbusError`, with the cure, where it cannot be opened."""
        try:
            return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except PermissionError as exc:
            raise XenbusError(f"{path}: {exc.strerror}; run this as root") from exc
        except OSError as exc:
            raise XenbusError(f"{path}: {exc.strerror}; this is no Xen guest, or its kernel has no xenbus device") from exc

    def read(self, node: str) -> bytes | None:
        """What *node* (relative to this domain's home) holds; None where there is no such node or it may not be read."""
        payload = node.encode("ascii") + b"\0"
        self._request += 1
        deadline = time.monotonic() + self._seconds
        try:
            os.write(self._fd, _HEADER.pack(_READ, self._request, 0, len(payload)) + payload)
            kind, reply = self._reply(deadline)
        except OSError as exc:
            raise XenbusError(f"xenstore: {exc.strerror}") from exc
        if kind == _READ:
            return reply
        if kind == _ERROR and reply.rstrip(b"\0") in (b"ENOENT", b"EACCES"):
            return None
        raise XenbusError(f"xenstore: {node}: an answer of type {kind}")

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def _reply(self, deadline: float) -> tuple[int, bytes]:
        for _ in range(MAX_OTHERS):
            kind, request, _, length = _HEADER.unpack(self._exactly(_HEADER.size, deadline))
            if length > MAX_PAYLOAD:
                raise XenbusError(f"xenstore: an answer of {length} bytes")
            payload = self._exactly(length, deadline)
            if request == self._request and kind != _WATCH_EVENT:
                return kind, payload
        raise XenbusError("xenstore: no answer among many events")

    def _exactly(self, size: int, deadline: float) -> bytes:
        """*size* bytes; none at all where that is 0: a read of 0 bytes blocks on this device like any other."""
        data = b""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while len(data) < size:
            if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise XenbusError(f"xenstore: no answer within {self._seconds:g} s")
            more = os.read(self._fd, size - len(data))
            if not more:
                raise XenbusError("xenstore: the connection ended")
            data += more
        return data
