# SPDX-License-Identifier: Apache-2.0
"""Ask dom0's command server: run a script, move a file, leave something running."""

from __future__ import annotations

import json
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import LabError, tail

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from lab.machine import Machine

#: For a script that says nothing else: slow emulation, a busy machine and `xl` four times over.
RUN_SECONDS = 300.0

#: dom0 answers its server within milliseconds; a busy emulator may take seconds.
CONNECT_SECONDS = 60.0

#: How often a wait for an answer looks whether the machine still lives.
LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Completed:
    """What a script printed, both of its outputs together, and how it ended."""

    status: int
    output: str


class Dom0:
    """The control domain of a running machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def run(
        self, script: str, *, check: bool = True, timeout: float = RUN_SECONDS, live: Callable[[str], None] | None = None
    ) -> Completed:
        """Run *script* by bash as root in /root; *live* gets the output as it comes.

        LabError when it fails and *check*, or when *timeout* seconds pass: it is then ended.
        """
        status, output = self._ask({"op": "run"}, script.encode(), timeout, live)
        return _completed(status, output, check, "dom0", script)

    def spawn(self, script: str, *, log: str) -> Background:
        """Start *script* and leave it running, what it prints going to the end of the file *log* in dom0."""
        status, _ = self._ask({"op": "spawn", "log": log}, script.encode(), RUN_SECONDS)
        return Background(self, int(status["pid"]), log)

    def put(self, path: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """Make *path* in dom0 hold *content*, all at once; its directory is made if need be."""
        body = content.encode() if isinstance(content, str) else content
        self._ask({"op": "put", "path": path, "mode": mode}, body, RUN_SECONDS)

    def get(self, path: str) -> bytes:
        """Return the content of *path* in dom0; LabError when it cannot be read."""
        return self._ask({"op": "get", "path": path}, b"", RUN_SECONDS)[1]

    def run_in_guest(self, name: str, script: str, *, check: bool = True, timeout: float = RUN_SECONDS) -> Completed:
        """Run *script* in the guest *name* over its hvc0, no network needed; errors as those of `run`."""
        request = {"op": "guest", "name": name, "seconds": timeout}
        # The guest's side gives up by itself at the timeout, and says more about why.
        status, output = self._ask(request, script.encode(), timeout + CONNECT_SECONDS)
        return _completed(status, output, check, name, script)

    def guest_console(self, name: str, start: int = 0) -> bytes:
        """Return what the guest *name* has printed on hvc0 since byte *start*, over all its lives."""
        return self._ask({"op": "console", "name": name, "start": start}, b"", RUN_SECONDS)[1]

    def poll(self, pid: int) -> int | None:
        """Return the status of the background process *pid*, None while it runs."""
        status, _ = self._ask({"op": "poll", "pid": pid}, b"", RUN_SECONDS)
        found: int | None = status["status"]
        return found

    def end(self, pid: int) -> int:
        """End the background process *pid* and return its status."""
        return int(self._ask({"op": "end", "pid": pid}, b"", RUN_SECONDS)[0]["status"])

    def _ask(
        self, request: dict[str, Any], body: bytes, timeout: float, live: Callable[[str], None] | None = None
    ) -> tuple[dict[str, Any], bytes]:
        give_up = time.monotonic() + timeout
        header = json.dumps({**request, "size": len(body)}).encode()
        output = bytearray()
        try:
            with socket.create_connection(("127.0.0.1", self._machine.address.port), CONNECT_SECONDS) as connection:
                connection.sendall(header + b"\n" + body)
                connection.settimeout(LOOK_SECONDS)
                while True:
                    kind, data = self._frame(connection, give_up)
                    if kind == b"s":
                        break
                    output += data
                    if live is not None:
                        live(data.decode(errors="replace"))
        except TimeoutError as error:
            raise LabError(f"dom0's '{request['op']}' took over {timeout:.0f} s:\n{tail(_text(output))}") from error
        except OSError as error:
            self._machine.check_after_a_moment()
            raise LabError(f"dom0's command server: {error}\n{tail(self._machine.serial_log())}") from error
        status: dict[str, Any] = json.loads(data)
        if "error" in status:
            self._machine.check()
            raise LabError(f"dom0's '{request['op']}': {status['error']}")
        return status, bytes(output)

    def _frame(self, connection: socket.socket, give_up: float) -> tuple[bytes, bytes]:
        header = self._exactly(connection, 5, give_up)
        return header[:1], self._exactly(connection, struct.unpack(">I", header[1:])[0], give_up)

    def _exactly(self, connection: socket.socket, size: int, give_up: float) -> bytes:
        received = bytearray()
        while len(received) < size:
            try:
                data = connection.recv(size - len(received))
            except TimeoutError:
                self._machine.check()
                if time.monotonic() > give_up:
                    raise
                continue
            if not data:
                raise ConnectionError("hung up in the middle of an answer")
            received += data
        return bytes(received)


class Background:
    """A process left running in dom0; leaving its `with` block ends it."""

    def __init__(self, dom0: Dom0, pid: int, log: str) -> None:
        self._dom0 = dom0
        self.pid = pid
        self.log = log

    def poll(self) -> int | None:
        """Return its status, None while it runs."""
        return self._dom0.poll(self.pid)

    def stop(self) -> int:
        """End it, and what it started, and return its status."""
        return self._dom0.end(self.pid)

    def output(self) -> str:
        """Return what is in its log."""
        return _text(self._dom0.get(self.log))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def _completed(status: dict[str, Any], output: bytes, check: bool, where: str, script: str) -> Completed:
    done = Completed(int(status["status"]), _text(output))
    if check and done.status != 0:
        raise LabError(f"in {where}, status {done.status} of:\n{tail(script, 10)}\nwhich printed:\n{tail(done.output)}")
    return done


def _text(data: bytes | bytearray) -> str:
    return data.decode(errors="replace")
