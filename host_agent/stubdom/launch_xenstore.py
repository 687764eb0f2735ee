# SPDX-License-Identifier: Apache-2.0
"""Xenstore from inside a stubdomain: the wire protocol, blocking and bounded (xen/include/public/io/xs_wire.h).

At /dev/xen/xenbus the kernel speaks for the domain, so a path may be relative to its home. A unix socket speaks as dom0.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
import time
from pathlib import Path
from typing import Final, Self

from host_agent.stubdom.launch_failure import LaunchError, Status
from host_agent.stubdom.launch_show import short

DEVICE: Final = Path("/dev/xen/xenbus")
#: XENSTORE_PAYLOAD_MAX: nothing on this wire has a longer payload.
MAX_PAYLOAD_BYTES: Final = 4096
#: xenstored answers in milliseconds; on an overloaded machine, or in an emulated one, in seconds.
ANSWER_SECONDS: Final = 20.0
#: Answers to nobody, and events of watches, that are passed over before an answer must have come.
MAX_OTHERS: Final = 64
#: As newer daemons and older ones say it.
_FORBIDDEN: Final = ("EACCES", "EPERM")
_HEADER: Final = struct.Struct("=IIII")  # type, req_id, tx_id, len
_DIRECTORY, _READ, _WRITE, _RM, _WATCH_EVENT, _ERROR = 1, 2, 11, 13, 15, 16


class Refused(LaunchError):  # noqa: N818 -- it says what became of the request
    """Xenstored answered with the error *word*, ``EACCES`` for example."""

    def __init__(self, word: str, path: str) -> None:
        cure = "; cure: dom0 names this domain's target first (libxl, or 'pv-host-agent dm argv')" if word in _FORBIDDEN else ""
        super().__init__(Status.XENSTORE, f"xenstore: {path}: {word}{cure}")
        self.word = word


class Xenstore:
    """An open connection. Whatever is asked of it can raise `LaunchError`."""

    def __init__(self, descriptor: int, seconds: float = ANSWER_SECONDS) -> None:
        self._fd, self._seconds = descriptor, seconds
        self._request = 0
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    @classmethod
    def open(cls, path: Path = DEVICE) -> Self:
        """The xenbus device, or a daemon's socket; raise `LaunchError`, with the cure, where there is none."""
        try:
            return cls(_connected(path) if stat.S_ISSOCK(path.stat().st_mode) else os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except PermissionError as exc:
            raise LaunchError(Status.XENSTORE, f"{path}: {exc.strerror}; cure: run this as root") from None
        except OSError as exc:
            why = "this is no Xen domain, or its kernel has no xenbus device or no devtmpfs at /dev"
            raise LaunchError(Status.XENSTORE, f"{path}: {exc.strerror}: {why}") from None

    def close(self) -> None:
        """Ask no more."""
        os.close(self._fd)

    def read(self, path: str) -> bytes | None:
        """The value at *path*; None where there is no such node."""
        return self._asked(_READ, path)

    def names(self, path: str) -> list[bytes] | None:
        """The names of the children of *path*; None where there is no such node."""
        answer = self._asked(_DIRECTORY, path)
        return answer if answer is None else answer.split(b"\0")[:-1]

    def write(self, path: str, value: bytes) -> None:
        """Set the value at *path*."""
        self._ask(_WRITE, path, value)

    def remove(self, path: str) -> None:
        """Have *path*, and all below it, be gone."""
        self._asked(_RM, path)

    def _asked(self, kind: int, path: str) -> bytes | None:
        try:
            return self._ask(kind, path)
        except Refused as exc:
            if exc.word == "ENOENT":
                return None
            raise

    def _ask(self, kind: int, path: str, value: bytes = b"") -> bytes:
        payload = path.encode("ascii") + b"\0" + value
        self._request += 1
        try:
            os.write(self._fd, _HEADER.pack(kind, self._request, 0, len(payload)) + payload)
            answered, answer = self._answer(time.monotonic() + self._seconds)
        except OSError as exc:
            raise LaunchError(Status.XENSTORE, f"xenstore: {path}: {exc.strerror}") from None
        if answered == _ERROR:
            raise Refused(short(answer.rstrip(b"\0"), 20), path)
        if answered != kind:
            raise LaunchError(Status.XENSTORE, f"xenstore: {path}: an answer of kind {answered} to a request of kind {kind}")
        return answer

    def _answer(self, deadline: float) -> tuple[int, bytes]:
        for _ in range(MAX_OTHERS):
            kind, request, _, length = _HEADER.unpack(self._exactly(_HEADER.size, deadline))
            if length > MAX_PAYLOAD_BYTES:
                raise LaunchError(Status.XENSTORE, f"xenstore: an answer of {length} bytes, more than any can have")
            payload = self._exactly(length, deadline)
            if request == self._request and kind != _WATCH_EVENT:
                return kind, payload
        raise LaunchError(Status.XENSTORE, "xenstore: no answer among many to others")

    def _exactly(self, size: int, deadline: float) -> bytes:
        """*size* bytes; nothing is read where that is 0, for which the device would wait like for any other."""
        data = b""
        while len(data) < size:
            if not self._poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise LaunchError(Status.XENSTORE, f"xenstore: no answer within {self._seconds:g} s")
            more = os.read(self._fd, size - len(data))
            if not more:
                raise LaunchError(Status.XENSTORE, "xenstore: the connection ended")
            data += more
        return data


def _connected(path: Path) -> int:
    end = socket.socket(socket.AF_UNIX)
    try:
        end.connect(os.fspath(path))
    except OSError:
        end.close()
        raise
    return end.detach()
