# SPDX-License-Identifier: Apache-2.0
"""A guest's memory as its front-end shares it: regions of files, read and written within their bounds and nowhere else.

A file that is cut short later ends us by SIGBUS, as it does every such program; QEMU seals its own against that.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

from host_agent.backends.vhost_user_message import BadMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_agent.backends.vhost_user_message import Region

#: More than a machine has.
_MAX_BYTES: Final = 1 << 46
_ADDRESSES: Final = 1 << 64


class GuestMemory:
    """What is shared by now; nothing at first."""

    def __init__(self) -> None:
        self._maps: list[tuple[Region, mmap.mmap]] = []

    def share(self, regions: Sequence[Region], descriptors: Sequence[int]) -> None:
        """Have *regions* of the files *descriptors*, which stay the caller's, instead; raise `BadMessage` where it cannot be."""
        self.close()
        if len(regions) != len(descriptors):
            raise BadMessage(f"{len(regions)} regions of memory with {len(descriptors)} descriptors")
        for region, descriptor in zip(regions, descriptors, strict=True):
            self._maps.append((region, _mapped(region, descriptor)))

    def close(self) -> None:
        """Share nothing any more."""
        for _, mapped in self._maps:
            mapped.close()
        self._maps = []

    def at_user(self, address: int, size: int) -> tuple[mmap.mmap, int]:
        """Where the *size* bytes are that the front-end has at *address*; raise `BadMessage` where not all of them are shared."""
        return self._find(address, size, [region.user for region, _ in self._maps])

    def at_guest(self, address: int, size: int) -> tuple[mmap.mmap, int]:
        """The same of what the guest has at *address*."""
        return self._find(address, size, [region.guest for region, _ in self._maps])

    def _find(self, address: int, size: int, starts: Sequence[int]) -> tuple[mmap.mmap, int]:
        for start, (region, mapped) in zip(starts, self._maps, strict=True):
            if start <= address and address + size <= start + region.size:
                return mapped, region.offset + address - start
        raise BadMessage(f"{size} bytes at {address:#x}, which is no memory that is shared")


def _mapped(region: Region, descriptor: int) -> mmap.mmap:
    if not 0 < region.size + region.offset <= _MAX_BYTES or max(region.guest, region.user) + region.size > _ADDRESSES:
        raise BadMessage(f"a region of {region.size} bytes at {region.offset}")
    try:
        return mmap.mmap(descriptor, region.size + region.offset)
    except (OSError, ValueError, OverflowError) as exc:
        raise BadMessage(f"a region that cannot be mapped: {exc}") from None
