# SPDX-License-Identifier: Apache-2.0
"""A virtio queue in split form (virtio 1.2, 2.7), as its device sees it: buffers to fill, of a guest that may say anything."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from host_agent.backends.vhost_user_message import BadMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from host_agent.backends.guest_memory import GuestMemory
    from host_agent.backends.vhost_user_message import RingAddress

#: A queue's size is a power of two, and no more than this.
MAX_SIZE: Final = 32768
#: What one buffer gets at most; the guest is told how much that was.
MAX_FILL_BYTES: Final = 64 * 1024

#: addr, len, flags, next
_DESCRIPTOR: Final = struct.Struct("<QIHH")
#: flags, idx: what both rings begin with
_RING: Final = struct.Struct("<HH")
_INDEX: Final = struct.Struct("<H")
#: id, len
_USED: Final = struct.Struct("<II")
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_NO_INTERRUPT: Final = 1
_WRAP: Final = 0xFFFF


class Queue:
    """The one queue of a device; all of it may be said anew by the front-end as long as it does not run."""

    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory
        self.size = 0
        self.address: RingAddress | None = None
        #: The entry of the available ring that comes next.
        self.next_available = 0

    def resize(self, size: int) -> None:
        """Have *size* entries; raise `BadMessage` where a queue cannot."""
        if not 0 < size <= MAX_SIZE or size & (size - 1):
            raise BadMessage(f"a queue of {size} entries")
        self.size = size

    def serve(self, content: Callable[[int], bytes]) -> bool:
        """Fill with *content* what is available, once round at most; whether the guest wants to be told.

        Raise `BadMessage` where the queue is none.
        """
        address = self.address
        if address is None or not self.size:
            raise BadMessage("a queue that nobody has said the place of")
        available, at = self._memory.at_user(address.available, _RING.size + self.size * _INDEX.size)
        flags, index = _RING.unpack_from(available, at)
        pending = (index - self.next_available) & _WRAP
        if pending > self.size:
            raise BadMessage(f"{pending} available entries in a queue of {self.size}")
        for _ in range(pending):
            (head,) = _INDEX.unpack_from(available, at + _RING.size + self.next_available % self.size * _INDEX.size)
            self._return(head, self._fill(head, content), address)
            self.next_available = (self.next_available + 1) & _WRAP
        return pending > 0 and not flags & _NO_INTERRUPT

    def _fill(self, head: int, content: Callable[[int], bytes]) -> int:
        """Fill the chain of buffers that begins at *head*, or the beginning of it; how many bytes that were."""
        filled, at = 0, head
        for _ in range(self.size):
            address, length, flags, following = self._descriptor(at)
            if flags & _INDIRECT or not flags & _WRITE:
                raise BadMessage("a buffer that is indirect, or not to be written to")
            size = min(length, MAX_FILL_BYTES - filled)
            if size:
                buffer, start = self._memory.at_guest(address, size)
                buffer[start : start + size] = content(size)
                filled += size
            if not flags & _NEXT:
                return filled
            at = following
        raise BadMessage("a chain of buffers without an end")

    def _descriptor(self, number: int) -> tuple[int, ...]:
        if number >= self.size or self.address is None:
            raise BadMessage(f"descriptor {number} of {self.size}")
        table, at = self._memory.at_user(self.address.descriptors, self.size * _DESCRIPTOR.size)
        return _DESCRIPTOR.unpack_from(table, at + number * _DESCRIPTOR.size)

    def _return(self, head: int, filled: int, address: RingAddress) -> None:
        """Give the chain back: first the entry, then the index that makes it count."""
        used, at = self._memory.at_user(address.used, _RING.size + self.size * _USED.size)
        _, index = _RING.unpack_from(used, at)
        _USED.pack_into(used, at + _RING.size + index % self.size * _USED.size, head, filled)
        _INDEX.pack_into(used, at + _INDEX.size, (index + 1) & _WRAP)
