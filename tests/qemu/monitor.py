# SPDX-License-Identifier: Apache-2.0
"""A blocking QMP client of fifty lines: what a test says to a real QEMU beside the code under test."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

#: Longer than any answer of a QEMU that is well; a second client is never answered at all.
ANSWER_SECONDS = 120.0


class Refused(Exception):  # noqa: N818 -- it says what became of the command
    """QEMU's error answer to a command."""

    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(error["desc"])
        self.error_class = error["class"]
        self.desc = error["desc"]


class Monitor:
    """One client of a monitor: greeted and ready for commands. Events that come meanwhile are kept in `events`."""

    def __init__(self, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_SECONDS)
        self._lines = self._socket.makefile("rb")
        try:
            self._socket.connect(str(path))
            assert "QMP" in self._read()
            self.execute("qmp_capabilities")
        except BaseException:  # a QEMU that is just ending
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave, so that another client is served."""
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, /, **arguments: Any) -> Any:
        """What QEMU returns to *command*; Refused when it answers with an error, EOFError when it ends instead."""
        return self.send({"execute": command, "arguments": arguments} if arguments else {"execute": command})

    def send(self, message: object) -> Any:
        """The same for a whole message, whose arguments may be anything that JSON has."""
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._read()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise Refused(answer["error"])
            else:
                return answer["return"]

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except ConnectionResetError:  # it crashed with a command unread
            line = b""
        if not line:
            raise EOFError("QEMU closed the monitor")
        answer: dict[str, Any] = json.loads(line)
        return answer
