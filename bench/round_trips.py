# SPDX-License-Identifier: Apache-2.0
"""Sealed pings and pongs over a pty, beside an unsealed JSON echo over the same pty, with the same loop around both."""

from __future__ import annotations

import os
import pty
import time
import tty
from typing import TYPE_CHECKING

import msgspec

from bench.row import Row, paired
from bench.wire import pair
from pv_channel.messages import Ping, Pong
from pv_channel.session import FromHost

if TYPE_CHECKING:
    from collections.abc import Callable

TRIPS = 4000
PAIRS = 7

_encode = msgspec.json.encode
_decode = msgspec.json.decode


def rows() -> list[Row]:
    """Round trips a second of one against the other; the library that makes the JSON is the same."""
    ratio, ours, floor = paired(lambda: _time(_sealed), lambda: _time(_unsealed), PAIRS)
    measured = f"{TRIPS / ours:,.0f}/s sealed, {TRIPS / floor:,.0f}/s plain"
    note = "per trip two seals, two openings, two lines each way through base64 and CRC; the plain echo has none of them"
    return [Row("sealed round trips over a pty", 1 / ratio, 0.4, "higher", measured, note)]


def _time(run: Callable[[int, int], float]) -> float:
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        return run(master, slave)
    finally:
        os.close(master)
        os.close(slave)


def _child(master: int, serve: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        os.close(master)
        try:
            serve()
        finally:
            os._exit(0)
    return pid


def _sealed(master: int, slave: int) -> float:
    host, guest = pair()

    def serve() -> None:
        for _ in range(TRIPS + 2):
            for event in guest.receive(os.read(slave, 4096)):
                if isinstance(event, FromHost) and isinstance(event.message, Ping):
                    guest.send(Pong(event.message.n))
            os.write(slave, guest.data_to_send())

    pid = _child(master, serve)
    host.greet()
    os.write(master, host.data_to_send())
    host.receive(os.read(master, 4096))
    trip = 0

    def ping() -> None:
        nonlocal trip
        trip += 1
        host.send(Ping(trip))
        os.write(master, host.data_to_send())
        while not host.receive(os.read(master, 4096)):
            pass

    ping()
    began = time.perf_counter()
    for _ in range(TRIPS):
        ping()
    took = time.perf_counter() - began
    os.waitpid(pid, 0)
    return took


def _unsealed(master: int, slave: int) -> float:
    def serve() -> None:
        for _ in range(TRIPS + 1):
            message = _decode(os.read(slave, 4096))
            os.write(slave, _encode({"type": "pong", "n": message["n"]}) + b"\n")

    pid = _child(master, serve)

    def ping(trip: int) -> None:
        os.write(master, _encode({"type": "ping", "n": trip}) + b"\n")
        _decode(os.read(master, 4096))

    ping(0)
    began = time.perf_counter()
    for trip in range(TRIPS):
        ping(trip)
    took = time.perf_counter() - began
    os.waitpid(pid, 0)
    return took
