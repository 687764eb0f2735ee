# SPDX-License-Identifier: Apache-2.0
"""What a program writes on its standard output and error, line by line, made safe to print; however much it writes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

#: More of a line is cut.
MAX_LINE: Final = 300
_READ_BYTES: Final = 16 * 1024
#: A program that writes without end waits for us, and not we for it.
_PAUSE_SECONDS: Final = 0.1


class Words:
    """Tells *say* each line that is written to the descriptor `pen`, which is the program's to have and is not used here."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._loop = say, asyncio.get_running_loop()
        self._ear, self.pen = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._ear, False)
        self._rest = b""
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._ear, self._hear)

    def close(self) -> None:
        """Hear what was said last, and no more."""
        if self._ear < 0:
            return
        self._feed(self._read())
        self._end()

    def lay_down(self) -> None:
        """The program has `pen` now; we have it no more."""
        os.close(self.pen)

    def _hear(self) -> None:
        data = self._read()
        self._feed(data)
        if not data:
            self._end()
        elif len(data) == _READ_BYTES:
            self._loop.remove_reader(self._ear)
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._loop.add_reader, self._ear, self._hear)

    def _read(self) -> bytes:
        try:
            return os.read(self._ear, _READ_BYTES)
        except BlockingIOError:
            return b""

    def _feed(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: MAX_LINE + 1]
        for line in lines:
            self._tell(line)

    def _tell(self, line: bytes) -> None:
        text = line[: 4 * MAX_LINE].decode("utf-8", "backslashreplace").strip()
        if text:
            self._say(printable(text, MAX_LINE))

    def _end(self) -> None:
        self._tell(self._rest)
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._ear)
        os.close(self._ear)
        self._ear = -1
