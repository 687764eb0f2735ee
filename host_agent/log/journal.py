# SPDX-License-Identifier: Apache-2.0
"""Log to the journal by its own protocol (systemd.io, "Native Journal Protocol"): a sentence, its message id, whom it is about.

Nothing here blocks or raises: what the journal does not take now waits, so much of it; the rest is counted, and said later.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from host_agent.log.happenings import Happening, noted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IDENTIFIER: Final = "pv-host-agent"
SOCKET: Final = "/run/systemd/journal/socket"
#: What waits while the journal is busy or starts anew: some thousand lines.
MAX_WAITING_BYTES: Final = 2 * 1024 * 1024
#: A sentence with its traceback; more is cut.
MAX_MESSAGE: Final = 48 * 1024
#: At the end of the program what waits has so long to go out.
LAST_SECONDS: Final = 0.2

#: syslog(3)
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
#: The journal is busy, is starting, or was stopped: it may take it later.
_LATER: Final = {errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN, errno.EINTR}
#: journald believes no file that its sender can still change.
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def stderr_is_journal(stream: str, descriptor: int = 2) -> bool:
    """Whether *descriptor* is what *stream*, the variable JOURNAL_STREAM, says is the journal: DEVICE:INODE (systemd.exec(5))."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def priority(level: int) -> int:
    """syslog's number for a level of `logging`."""
    return next((number for least, number in _PRIORITIES if level >= least), 7)


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """The fields of one entry. Whatever a value holds, it is this field's: with a line break it goes with its length."""
    return b"".join(_field(name.encode("ascii"), value.encode("utf-8", "backslashreplace")) for name, value in fields)


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"


class Journal(logging.Handler):
    """Sends records to the journal's socket at *address*. Raise `OSError` where there is none."""

    def __init__(self, address: str = SOCKET) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._not_logged = 0
        self._one_at_a_time = threading.RLock()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as trial:
                trial.connect(address)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Send *record*, or let it wait behind what waits already."""
        try:
            self._put(encode(self._entry(record)))
        except Exception:  # noqa: BLE001 -- a record that cannot be formatted is a fault of ours that must stop nothing
            self._not_logged += 1
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the journal takes it now."""
        with self._one_at_a_time:
            while self._waiting and self._send(self._waiting[0]):
                self._waiting_bytes -= len(self._waiting.popleft())
            if self._not_logged and not self._waiting:
                self._own_up()

    def close(self) -> None:
        """Give what waits a last moment, and let go."""
        deadline = time.monotonic() + LAST_SECONDS
        self.flush()
        while self._waiting and time.monotonic() < deadline:
            time.sleep(LAST_SECONDS / 20)
            self.flush()
        self._waiting.clear()
        self._socket.close()
        super().close()

    def _own_up(self) -> None:
        """Say how much was not logged; where that cannot be sent either, it is not forgotten."""
        text = f"{self._not_logged} lines were not logged: the journal did not take them"
        record = logging.makeLogRecord({"msg": text, "levelno": logging.WARNING, **noted(Happening.NOT_LOGGED)})
        missing, self._not_logged = self._not_logged, 0
        if not self._send(encode(self._entry(record))) or self._not_logged:
            self._not_logged = missing

    def _put(self, entry: bytes) -> None:
        if self._waiting_bytes + len(entry) > MAX_WAITING_BYTES:
            self._not_logged += 1
            return
        self._waiting.append(entry)
        self._waiting_bytes += len(entry)

    def _entry(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        yield "MESSAGE", self.format(record)[:MAX_MESSAGE]
        yield "PRIORITY", str(priority(record.levelno))
        yield "SYSLOG_IDENTIFIER", IDENTIFIER
        happening = getattr(record, "happening", None)
        if happening is not None:
            yield "MESSAGE_ID", happening.message_id
        for name, value in getattr(record, "fields", {}).items():
            for one in value if isinstance(value, (list, tuple)) else (value,):
                if one not in (None, ""):
                    yield f"PV_{name.upper()}", str(one)

    def _send(self, entry: bytes) -> bool:
        """Whether *entry* need not wait: it is on its way, or can never be."""
        try:
            self._socket.sendto(entry, self._address)
        except OSError as exc:
            if exc.errno == errno.EMSGSIZE:
                return self._send_large(entry)
            if exc.errno in _LATER:
                return False
            self._not_logged += 1
        return True

    def _send_large(self, entry: bytes) -> bool:
        """The same, for what does not fit a datagram: a sealed file in memory goes in its place."""
        try:
            with os.fdopen(os.memfd_create("journal-entry", os.MFD_ALLOW_SEALING), "wb", buffering=0) as file:
                file.write(entry)
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))
                self._socket.sendmsg([], [rights], 0, self._address)
        except OSError as exc:
            if exc.errno in _LATER:
                return False
            self._not_logged += 1
        return True
