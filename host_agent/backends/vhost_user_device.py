# SPDX-License-Identifier: Apache-2.0
"""A vhost-user device with one queue that it fills: what it answers a front-end, and when it serves the guest.

The front-end may say anything: what has no place in the protocol ends its session, and nothing of it stays open.
"""

from __future__ import annotations

import os
import selectors
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from host_agent.backends import vhost_user_message as messages
from host_agent.backends.guest_memory import GuestMemory
from host_agent.backends.vhost_user_message import BadMessage, Request
from host_agent.backends.vhost_user_stream import Message, Stream, close_all
from host_agent.backends.virtqueue import Queue

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

#: VIRTIO_F_VERSION_1, and VHOST_USER_F_PROTOCOL_FEATURES.
VERSION_1: Final = 1 << 32
PROTOCOL_FEATURES: Final = 1 << 30
FEATURES: Final = VERSION_1 | PROTOCOL_FEATURES
#: VHOST_USER_PROTOCOL_F_REPLY_ACK
REPLY_ACK: Final = 1 << 3
_EVENT_BYTES: Final = 8
_EVENT: Final = (1).to_bytes(_EVENT_BYTES, sys.byteorder)
_EVENTFD: Final = "anon_inode:[eventfd]"


class Device:
    """One session with the front-end at the other end of *end*, whose guest's buffers get *content*, so many bytes each time."""

    def __init__(self, end: socket.socket, content: Callable[[int], bytes]) -> None:
        self._end, self._content = end, content
        self._stream, self._memory = Stream(end), GuestMemory()
        self._queue = Queue(self._memory)
        self._selector = selectors.DefaultSelector()
        self._events: dict[int, int] = {}
        self._enabled = False
        self._acked = 0
        #: What the front-end has taken of the features, and how many bytes the guest got.
        self.features = self.served = 0
        self._answers: dict[int, Callable[[Message], bytes | None]] = {
            Request.GET_FEATURES: lambda _: messages.encode_number(FEATURES),
            Request.SET_FEATURES: self._set_features,
            Request.SET_OWNER: lambda _: None,
            Request.RESET_OWNER: self._stop,
            Request.SET_MEM_TABLE: self._share,
            Request.SET_VRING_NUM: self._resize,
            Request.SET_VRING_ADDR: self._place,
            Request.SET_VRING_BASE: self._begin_at,
            Request.GET_VRING_BASE: self._stand,
            Request.SET_VRING_KICK: self._take_event,
            Request.SET_VRING_CALL: self._take_event,
            Request.SET_VRING_ERR: self._take_event,
            Request.GET_PROTOCOL_FEATURES: lambda _: messages.encode_number(REPLY_ACK),
            Request.SET_PROTOCOL_FEATURES: self._set_protocol_features,
            Request.SET_VRING_ENABLE: self._enable,
        }

    def serve(self) -> str:
        """Until the front-end leaves, or says what it must not; why."""
        try:
            self._selector.register(self._end, selectors.EVENT_READ)
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._end:
                        self._take()
                    elif key.fd == self._events.get(Request.SET_VRING_KICK):
                        self._kicked(key.fd)
        except (BadMessage, EOFError) as exc:
            return str(exc)
        finally:
            self._close()

    def _take(self) -> None:
        message = self._stream.receive()
        if message is None:
            return
        try:
            answer = self._answers.get(message.head.request)
            if answer is None:
                raise BadMessage(f"request {message.head.request}, which is not among what was offered")
            reply = answer(message)
        finally:
            message.close()
        if reply is None and message.head.need_reply and self._acked & REPLY_ACK:
            reply = messages.encode_number(0)
        if reply is not None:
            self._stream.reply(message.head.request, reply)

    def _set_features(self, message: Message) -> None:
        self.features = _within(messages.number(message.payload), FEATURES)
        self._enabled = self._enabled or not self.features & PROTOCOL_FEATURES

    def _set_protocol_features(self, message: Message) -> None:
        self._acked = _within(messages.number(message.payload), REPLY_ACK)

    def _share(self, message: Message) -> None:
        descriptors = message.take()
        try:
            self._memory.share(messages.regions(message.payload), descriptors)
        finally:
            close_all(descriptors)

    def _resize(self, message: Message) -> None:
        index, size = messages.ring_state(message.payload)
        _first(index)
        self._queue.resize(size)

    def _place(self, message: Message) -> None:
        address = messages.ring_address(message.payload)
        _first(address.queue)
        self._queue.address = address

    def _begin_at(self, message: Message) -> None:
        index, value = messages.ring_state(message.payload)
        _first(index)
        self._queue.next_available = value & 0xFFFF

    def _stand(self, message: Message) -> bytes:
        """The queue stops, and where it stands is the answer."""
        index, _ = messages.ring_state(message.payload)
        _first(index)
        self._stop(message)
        return messages.encode_ring_state(index, self._queue.next_available)

    def _enable(self, message: Message) -> None:
        index, value = messages.ring_state(message.payload)
        _first(index)
        self._enabled = bool(value)
        self._serve_queue()

    def _stop(self, _: Message) -> None:
        self._let_go(Request.SET_VRING_KICK)
        self._let_go(Request.SET_VRING_CALL)

    def _take_event(self, message: Message) -> None:
        """Have the eventfd by which the guest tells us, or is told by us."""
        index, has_descriptor = messages.ring_descriptor(message.payload)
        _first(index)
        request, descriptors = message.head.request, message.take()
        self._let_go(request)
        try:
            if len(descriptors) != has_descriptor:
                raise BadMessage(f"{len(descriptors)} descriptors with a message that tells of {int(has_descriptor)}")
            if has_descriptor:
                _check_event(descriptors[0])
        except BadMessage:
            close_all(descriptors)
            raise
        if not has_descriptor:
            return
        self._events[request] = descriptors[0]
        if request == Request.SET_VRING_KICK:
            self._selector.register(descriptors[0], selectors.EVENT_READ)
            self._serve_queue()

    def _kicked(self, event: int) -> None:
        with suppress(BlockingIOError):
            os.read(event, _EVENT_BYTES)
        self._serve_queue()

    def _serve_queue(self) -> None:
        """Fill what the guest has made available, where the queue runs."""
        if not self._enabled or Request.SET_VRING_KICK not in self._events:
            return
        call = self._events.get(Request.SET_VRING_CALL)
        if self._queue.serve(self._some) and call is not None:
            with suppress(BlockingIOError):  # it has been told as often as can be
                os.write(call, _EVENT)

    def _some(self, size: int) -> bytes:
        self.served += size
        return self._content(size)

    def _let_go(self, request: int) -> None:
        event = self._events.pop(request, None)
        if event is not None:
            if request == Request.SET_VRING_KICK:
                self._selector.unregister(event)
            os.close(event)

    def _close(self) -> None:
        for request in list(self._events):
            self._let_go(request)
        self._selector.close()
        self._memory.close()
        self._stream.close()


def _within(value: int, offered: int) -> int:
    if value & ~offered:
        raise BadMessage(f"features {value:#x}, where {offered:#x} were offered")
    return value


def _first(index: int) -> None:
    if index:
        raise BadMessage(f"queue {index} of a device that has one")


def _check_event(descriptor: int) -> None:
    """Raise `BadMessage` where it is no eventfd: another file could keep us busy, or waiting."""
    try:
        if os.readlink(f"/proc/self/fd/{descriptor}") != _EVENTFD:  # noqa: PTH115 -- no path, a number's name
            raise BadMessage("a descriptor that is no eventfd")
        os.set_blocking(descriptor, False)
    except OSError as exc:
        raise BadMessage(f"a descriptor that cannot be looked at: {exc.strerror}") from None
