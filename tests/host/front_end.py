# SPDX-License-Identifier: Apache-2.0
"""A fake vhost-user front-end with a guest behind it: memory in a memfd, a queue in it, and the messages that share them."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from host_agent.backends import vhost_user_message as messages
from host_agent.backends.vhost_user_device import FEATURES, REPLY_ACK, Device
from host_agent.backends.vhost_user_message import HEADER, Request, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS = 60.0
MEMORY_BYTES = 1 << 20
#: Where the guest and the front-end have that memory.
GUEST, USER = 0x4000_0000, 0x7F00_0000_0000
SIZE = 8
DESCRIPTORS, AVAILABLE, USED, BUFFERS = 0x1000, 0x2000, 0x3000, 0x10000
NEXT, WRITE = 1, 2


def content(size: int) -> bytes:
    return b"r" * size


class FrontEnd:
    """Speaks to a `Device` that runs in a thread, for a `with`; *why* is why that ended."""

    def __init__(self) -> None:
        self.end, its = socket.socketpair()
        self.end.settimeout(SECONDS)
        self.memory = os.memfd_create("guest")
        os.truncate(self.memory, MEMORY_BYTES)
        self.kick, self.call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        self.why = ""
        self._its = its
        self._available = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended()
        for each in (self.memory, self.kick, self.call):
            os.close(each)

    def ended(self) -> str:
        """Leave, if that is still to be done; why the device ended."""
        self.end.close()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        return self.why

    def broken(self) -> str:
        """Wait until the device has hung up; why."""
        with suppress(ConnectionResetError):  # it left bytes unread
            assert self.end.recv(1) == b""
        return self.ended()

    def say(self, request: int, payload: bytes = b"", descriptors: Sequence[int] = (), *, flags: int = 1) -> None:
        data = HEADER.pack(request, flags, len(payload)) + payload
        socket.send_fds(self.end, [data], descriptors)

    def ask(self, request: int, payload: bytes = b"") -> bytes:
        """The content of the reply."""
        self.say(request, payload)
        return self.reply(request)

    def reply(self, request: int) -> bytes:
        head = self._read(HEADER.size)
        assert head == encode(request, b"?" * HEADER.unpack(head)[2], is_reply=True)[: HEADER.size]
        return self._read(HEADER.unpack(head)[2])

    def number(self, request: int, value: int) -> None:
        self.say(request, messages.encode_number(value))

    def negotiate(self) -> None:
        """All that there is to have."""
        assert messages.number(self.ask(Request.GET_FEATURES)) == FEATURES
        assert messages.number(self.ask(Request.GET_PROTOCOL_FEATURES)) == REPLY_ACK
        self.number(Request.SET_PROTOCOL_FEATURES, REPLY_ACK)
        self.say(Request.SET_OWNER)
        self.number(Request.SET_FEATURES, FEATURES)

    def share(self) -> None:
        """The guest's memory."""
        table = struct.pack("=2I4Q", 1, 0, GUEST, MEMORY_BYTES, USER, 0)
        self.say(Request.SET_MEM_TABLE, table, [self.memory])

    def place(self, size: int = SIZE, base: int = 0) -> None:
        """The queue."""
        self.say(Request.SET_VRING_NUM, struct.pack("=2I", 0, size))
        self.say(Request.SET_VRING_BASE, struct.pack("=2I", 0, base))
        self.say(Request.SET_VRING_ADDR, struct.pack("=2I4Q", 0, 0, USER + DESCRIPTORS, USER + USED, USER + AVAILABLE, 0))

    def events(self) -> None:
        """How each tells the other."""
        self.say(Request.SET_VRING_CALL, messages.encode_number(0), [self.call])
        self.say(Request.SET_VRING_KICK, messages.encode_number(0), [self.kick])

    def run(self) -> None:
        """Bring the queue to where a driver has it."""
        self.negotiate()
        self.share()
        self.place()
        self.events()
        self.say(Request.SET_VRING_ENABLE, struct.pack("=2I", 0, 1))
        self.sync()

    def sync(self) -> None:
        """Until all that was said is done."""
        assert messages.number(self.ask(Request.GET_FEATURES)) == FEATURES

    def descriptor(self, number: int, address: int, length: int, flags: int = WRITE, following: int = 0) -> None:
        os.pwrite(self.memory, struct.pack("<QIHH", address, length, flags, following), DESCRIPTORS + 16 * number)

    def offer(self, *heads: int) -> None:
        """Make these chains available, and tell."""
        for head in heads:
            os.pwrite(self.memory, struct.pack("<H", head), AVAILABLE + 4 + 2 * (self._available % SIZE))
            self._available += 1
        os.pwrite(self.memory, struct.pack("<HH", 0, self._available & 0xFFFF), AVAILABLE)
        os.eventfd_write(self.kick, 1)

    def used(self, count: int) -> list[tuple[int, int]]:
        """Wait until so many chains have come back; which, and how much is in each."""
        while struct.unpack("<HH", os.pread(self.memory, 4, USED))[1] != count:
            assert select.select([self.call], [], [], SECONDS)[0], "the guest was not told"
            os.eventfd_read(self.call)
        return [struct.unpack("<II", os.pread(self.memory, 8, USED + 4 + 8 * (each % SIZE))) for each in range(count)]

    def buffer(self, at: int, size: int) -> bytes:
        return os.pread(self.memory, size, at)

    def _run(self) -> None:
        with self._its:
            self.why = Device(self._its, content).serve()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.end.recv(size - len(data))
            assert more, "the device has hung up"
            data += more
        return data
