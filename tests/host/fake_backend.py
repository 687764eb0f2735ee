# SPDX-License-Identifier: Apache-2.0
"""A fake backend program: all that QEMU's conventions ask for, but for the one fault that its first argument names."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import sys
import time


def main(fault: str, words: list[str]) -> int:
    if "--print-capabilities" in words:
        return capabilities(fault, words)
    paths = [word.removeprefix("--socket-path=") for word in words if word.startswith("--socket-path=")]
    numbers = [int(word.removeprefix("--fd=")) for word in words if word.startswith("--fd=")]
    if len(paths) + len(numbers) != 1 and fault != "accepts-both":
        return fail("one of --socket-path and --fd")
    try:
        listener = by_descriptor(numbers[0]) if numbers else by_path(paths[0], fault)
    except OSError as exc:
        if fault == "hangs":
            time.sleep(1000)
        return 0 if fault == "fails-with-0" else fail(str(exc))
    manners(fault)
    serve(listener, fault)
    return 0


def capabilities(fault: str, words: list[str]) -> int:
    if fault == "answers-late":
        time.sleep(1000)
    if fault == "heeds-others" and words != ["--print-capabilities"]:
        return fail("no such option")
    if fault == "listens-meanwhile":
        for word in words:
            if word.startswith("--socket-path=") and "nowhere" not in word:
                by_path(word.removeprefix("--socket-path="), "")
    if fault == "prints-much":
        with contextlib.suppress(BrokenPipeError):
            for _ in range(1600):
                os.write(1, b" " * 65536)
    junk = "hello\n" if fault == "prints-junk" else ""
    kind = "no type" if fault == "has-no-type" else "org.example.fake.1"
    os.write(1, f'{junk}{{"type": "{kind}", "features": []}}\n'.encode())
    return 7 if fault == "answers-with-7" else 0


def by_descriptor(number: int) -> socket.socket:
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        raise OSError("not a socket")
    return socket.socket(fileno=number)


def by_path(path: str, fault: str) -> socket.socket:
    if fault != "trips-over-itself":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 -- pathlib takes its time to load
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener


def manners(fault: str) -> None:
    if fault == "daemonises":
        if os.fork():
            os._exit(0)
        os.setsid()
    if fault == "ignores-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if fault == "leaves-a-child" and not os.fork():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if fault == "ends-with-3":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
    if fault == "closes-its-streams":
        for number in range(3):
            os.close(number)


def serve(listener: socket.socket, fault: str) -> None:
    end = listener
    if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        end, _ = listener.accept()
    end.send(b"hello\n")
    while fault == "floods-its-log":
        os.write(2, b"x" * 65536)
    while end.recv(4096):
        pass
    if fault != "ends-with-the-stream":
        time.sleep(1000)


def fail(why: str) -> int:
    os.write(2, f"fake: {why}\n".encode())
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
