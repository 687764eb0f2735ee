# SPDX-License-Identifier: Apache-2.0
"""The program pv-vhost-user-rng: a vhost-user device that gives a guest random numbers, by QEMU's conventions for such programs.

Started by ``--socket-path``, where it listens, by ``--fd``, or by systemd. Front-ends are served one after the other.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent import VERSION, standard_streams
from host_agent.backends.capabilities import FD, PRINT_CAPABILITIES, SOCKET_PATH, Capabilities
from host_agent.backends.given_socket import Given, activated, chosen
from host_agent.backends.vhost_user_device import Device
from host_agent.errors import HostError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

NAME: Final = "pv-vhost-user-rng"
CAPABILITIES: Final = Capabilities("rng", [])


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, or until the one front-end that was given has left; the exit status."""
    words = sys.argv[1:] if argv is None else argv
    standard_streams.complete()
    if PRINT_CAPABILITIES in words:
        print(CAPABILITIES.text(), flush=True)
        return 0
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    arguments = _parser().parse_args(words)
    try:
        _serve(chosen(arguments.socket_path, arguments.fd, activated()))
    except HostError as exc:
        print(f"{NAME}: {exc}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=NAME, description="Give a guest random numbers, as a vhost-user device.")
    parser.add_argument("--version", action="version", version=f"{NAME} {VERSION}")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(SOCKET_PATH, type=Path, metavar="PATH", help="listen here")
    where.add_argument(FD, type=int, metavar="FDNUM", help="the socket is descriptor FDNUM, listening or connected")
    parser.add_argument(PRINT_CAPABILITIES, action="store_true", help="print what this is as JSON, and end")
    return parser


def _end(number: int, _: FrameType | None) -> None:
    """Leave at once, whatever we wait for, and clear up on the way."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0 if number == signal.SIGTERM else 128 + number)


def _serve(where: Path | Given) -> None:
    if isinstance(where, Path):
        with _listening(where) as listener:
            _serve_all(listener)
    elif where.listens:
        where.end.setblocking(True)
        with where.end:
            _serve_all(where.end)
    else:
        _serve_one(where.end)


def _serve_all(listener: socket.socket) -> None:
    while True:
        _serve_one(listener.accept()[0])


def _serve_one(end: socket.socket) -> None:
    """One front-end, until it leaves; say what it took and why it ended."""
    with end:
        device = Device(end, os.urandom)
        why = device.serve()
    print(f"{NAME}: {why}; features {device.features:#x}, {device.served} bytes", file=sys.stderr, flush=True)


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A listener at *path*, in the place of one that is dead; the path is gone afterwards. Raise `HostError`."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            _remove_dead(path)
            listener.bind(os.fspath(path))
            listener.listen()
        except OSError as exc:
            raise HostError(f"{shown(path)}: {exc.strerror or exc}; cure: a path in a directory where this may listen") from None
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _remove_dead(path: Path) -> None:
    """Remove a socket that nobody listens on; anything else stays, and is in the way."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as end:
        end.setblocking(False)
        try:
            end.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()


if __name__ == "__main__":
    sys.exit(main())
