# SPDX-License-Identifier: Apache-2.0
"""A front-end's messages off its socket, each with the descriptors that came with it, and the replies to them."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from host_agent.backends.vhost_user_message import HEADER, MAX_REGIONS, BadMessage, Header, encode, header

if TYPE_CHECKING:
    from collections.abc import Iterable


class Message:
    """A message that is whole. Whoever takes a descriptor has to close it; `close` closes those that nobody has taken."""

    def __init__(self, head: Header, payload: bytes, descriptors: list[int]) -> None:
        self.head, self.payload, self._descriptors = head, payload, descriptors

    def take(self) -> list[int]:
        """The descriptors that came with it, in their order."""
        taken, self._descriptors = self._descriptors, []
        return taken

    def close(self) -> None:
        """Let go of what nobody has taken."""
        close_all(self.take())


class Stream:
    """The front-end at the other end of *end*, which stays the caller's to close. Nothing here waits."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)
        self._data = bytearray()
        self._head: Header | None = None
        self._descriptors: list[int] = []

    def receive(self) -> Message | None:
        """Read once; the message, if that made it whole. Raise `BadMessage` where none can come of it, EOFError at the end."""
        self._read(HEADER.size + (0 if self._head is None else self._head.size) - len(self._data))
        if self._head is None and len(self._data) == HEADER.size:
            self._head = header(bytes(self._data))
        if self._head is None or len(self._data) < HEADER.size + self._head.size:
            return None
        message = Message(self._head, bytes(self._data[HEADER.size :]), self._descriptors)
        self._data, self._head, self._descriptors = bytearray(), None, []
        return message

    def reply(self, request: int, payload: bytes) -> None:
        """Answer a request; raise `BadMessage` where the front-end does not read its answers."""
        data = encode(request, payload, is_reply=True)
        try:
            sent = self._end.send(data)
        except OSError as exc:
            raise BadMessage(f"the front-end takes no answer: {exc.strerror}") from None
        if sent < len(data):
            raise BadMessage("the front-end does not read its answers")

    def close(self) -> None:
        """Let go of what came with a message that is not whole."""
        close_all(self._descriptors)
        self._descriptors = []

    def _read(self, wanted: int) -> None:
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._end, wanted, MAX_REGIONS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as exc:
            raise EOFError(exc.strerror) from None
        self._descriptors += descriptors
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > MAX_REGIONS:
            raise BadMessage(f"more than {MAX_REGIONS} descriptors with one message")
        if not data:
            raise EOFError("the front-end has left")
        self._data += data


def close_all(descriptors: Iterable[int]) -> None:
    """Close them."""
    for each in descriptors:
        with suppress(OSError):
            os.close(each)
