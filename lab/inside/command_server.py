# SPDX-License-Identifier: Apache-2.0
"""dom0's command server: runs scripts, moves files, and types into guests' consoles for whoever connects.

One request per connection: a JSON line with `op` and `size`, then `size` bytes. The answer is frames: a kind (`o` output, `s`
final status as JSON), a 32-bit length, that many bytes. Whoever hangs up before the status gives up: what was started for them
is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from lab.inside.guest_shell import GuestShell, logs_of, printed_by, terminal_of

PORT = 7777

#: Scripts lie in memory, and start where an administrator would.
SCRIPTS = "/run"
HOME = "/root"

_background: dict[int, subprocess.Popen[bytes]] = {}
_typing: dict[str, threading.Lock] = {}


class Gone(Exception):  # noqa: N818  # not an error: they may
    """The asker hung up."""


class Answer:
    """The way back to whoever asked."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def output(self, data: bytes) -> None:
        """Send some of the output."""
        self._frame(b"o", data)

    def status(self, **fields: Any) -> None:
        """Send the end."""
        self._frame(b"s", json.dumps(fields).encode())

    def still_wanted(self) -> None:
        """Raise Gone when the asker has hung up."""
        if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(1):
            raise Gone

    def _frame(self, kind: bytes, data: bytes) -> None:
        try:
            self.connection.sendall(kind + struct.pack(">I", len(data)) + data)
        except OSError as error:
            raise Gone from error


def start(script: bytes, output: int) -> subprocess.Popen[bytes]:
    """Start *script* by bash, in a group of its own. From a file (on a tmpfs): its text stays out of the list of processes."""
    with tempfile.NamedTemporaryFile(dir=SCRIPTS, prefix="lab-script-", delete=False) as file:
        file.write(script)
    return subprocess.Popen(
        ["bash", file.name], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=HOME
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End *process* and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            return


def run(answer: Answer, script: bytes) -> None:
    """Run *script*; its end is the end, even if something it left running still holds its output."""
    read_end, write_end = os.pipe()
    process = start(script, write_end)
    os.close(write_end)
    try:
        ended = False
        while True:
            ready, _, _ = select.select([read_end], [], [], 0 if ended else 0.1)
            if ready:
                data = os.read(read_end, 65536)
                if data:
                    answer.output(data)
                    continue
                process.wait()
            if ended or (ready and process.poll() is not None):
                break
            ended = process.poll() is not None
            answer.still_wanted()
        answer.status(status=process.returncode)
    finally:
        os.close(read_end)
        if process.poll() is None:
            end(process)


def spawn(answer: Answer, script: bytes, log: str) -> None:
    """Start *script* with its output in *log*, and leave it running."""
    with Path(log).open("ab") as file:
        process = start(script, file.fileno())
    _background[process.pid] = process
    answer.status(pid=process.pid)


def put(answer: Answer, content: bytes, path: str, mode: int) -> None:
    """Put *content* at *path*, whole or not at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.lab-new")
    beside.write_bytes(content)
    beside.chmod(mode)
    beside.replace(target)
    answer.status(status=0)


def guest(answer: Answer, script: bytes, name: str, seconds: float) -> None:
    """Run *script* in guest *name*."""
    deadline = time.monotonic() + seconds
    with _typing.setdefault(name, threading.Lock()):
        try:
            status, output = GuestShell(partial(terminal_of, name), logs_of(name), deadline, answer.still_wanted).run(script)
        except (TimeoutError, RuntimeError, OSError) as error:
            answer.status(error=str(error))
            return
    answer.output(output)
    answer.status(status=status)


def console(answer: Answer, name: str, start_at: int) -> None:
    """Send what *name* has printed on hvc0 since byte *start_at*."""
    printed = printed_by(name)
    answer.output(printed[start_at:])
    answer.status(size=len(printed))


def serve(connection: socket.socket) -> None:
    """Answer one request."""
    answer = Answer(connection)
    with connection, contextlib.suppress(Gone):
        try:
            with connection.makefile("rb") as stream:
                request = json.loads(stream.readline())
                body = stream.read(request["size"])
            match request["op"]:
                case "run":
                    run(answer, body)
                case "spawn":
                    spawn(answer, body, request["log"])
                case "poll":
                    answer.status(status=_background[request["pid"]].poll())
                case "end":
                    end(_background[request["pid"]])
                    answer.status(status=_background[request["pid"]].returncode)
                case "put":
                    put(answer, body, request["path"], request["mode"])
                case "get":
                    answer.output(Path(request["path"]).read_bytes())
                    answer.status(status=0)
                case "guest":
                    guest(answer, body, request["name"], request["seconds"])
                case "console":
                    console(answer, request["name"], request["start"])
                case unknown:
                    answer.status(error=f"no operation {unknown}")
        except (OSError, ValueError, KeyError) as error:
            answer.status(error=f"{type(error).__name__}: {error}")


def main() -> None:
    """Serve for ever, and say on the console that we do."""
    with socket.create_server(("0.0.0.0", PORT), backlog=64) as listener:
        uptime = Path("/proc/uptime").read_text(encoding="ascii").split()[0]
        Path("/dev/hvc0").write_text(f"LAB DOM0 READY at uptime {uptime}\n", encoding="ascii")
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
