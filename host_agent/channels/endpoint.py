# SPDX-License-Identifier: Apache-2.0
"""Where a VM's channel is in dom0, as one of the sources found it: a socket or a terminal, and the domain that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os
    from pathlib import Path


class Domain(NamedTuple):
    """A running domain, as the toolstack wrote it down where no guest can write. *uuid* is raw, *device_model* its QEMU's pid.

    A stubdomain has the domid of its *target*, whose QEMU runs in it; such a target has that of its *stubdomain*.
    """

    domid: int
    uuid: bytes
    name: str
    device_model: int | None = None
    target: int | None = None
    stubdomain: int | None = None


class Endpoint(NamedTuple):
    """One channel's end in dom0. *channel* is its name, "" where only a path says whose it is; *made* tells one socket at
    *path* from the next: QEMU makes a new one each time it starts, and inode numbers are soon used again.
    """

    path: Path
    is_pty: bool = False
    made: int = 0
    channel: str = ""
    domain: Domain | None = None


def made_at(status: os.stat_result) -> int:
    """`Endpoint.made` of the socket that *status* is of. Nothing changes its mtime; a second link to it changes its ctime."""
    return status.st_mtime_ns << 64 | status.st_ino  # one number: a pair of them takes three times as much, ten thousand times


def domid_of(endpoint: Endpoint) -> int | None:
    """The domain that *endpoint* belongs to, where that is known."""
    return None if endpoint.domain is None else endpoint.domain.domid
