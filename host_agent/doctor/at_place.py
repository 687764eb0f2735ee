# SPDX-License-Identifier: Apache-2.0
"""Look at the places of channels in dom0: which sockets have VMs' names, who is at their ends, and who should not be there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.channels import sockets
from host_agent.channels.ends import Ends, ends
from host_agent.channels.peer import check_socket_file, expected
from host_agent.doctor.at_host import without_cure
from host_agent.errors import BadFile, Unreachable
from host_agent.files import others_may_write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from host_agent.channels.endpoint import Domain
    from host_agent.doctor.at_host import Where

#: A QEMU takes what is sent to it within a moment; what still waits after this waits for its guest.
SETTLE_SECONDS: Final = 0.5


def named_sockets(where: Where) -> dict[str, str]:
    """Where the directories of sockets have a VM's, by its name."""
    found = {name: str(one.path) for name, one in sockets.look_at_libvirts(where.libvirts, where.channel).items()}
    for directory in reversed(where.sockets):
        try:
            found |= {name: str(one.path) for name, one in sockets.look(directory).items()}
        except BadFile:  # which is a finding of the host's
            continue
    return found


def settled_ends(places: Iterable[str]) -> dict[str, Ends]:
    """What is at these places; what waits for somebody to read it is looked at twice."""
    first = ends(places)
    waiting = [path for path, each in first.items() if any(one.unread for one in each.listeners)]
    if not waiting:
        return first
    time.sleep(SETTLE_SECONDS)
    return first | ends(waiting)


def directory_trouble(directory: Path) -> str:
    """Who besides us may decide what stands in *directory*, or ""."""
    try:
        return without_cure(others_may_write(directory))
    except (OSError, ValueError):  # it is missing, and so is the socket
        return ""


def squatted(at: Ends, domain: Domain | None) -> tuple[str, ...]:
    """Who is there and should not be, as `peer` would find when it connects."""
    who, found = expected(domain), []
    try:
        check_socket_file(Path(at.path), Path(at.path).lstat(), who)
    except Unreachable as exc:
        found.append(without_cure(str(exc)))
    except (OSError, ValueError):  # nothing is there
        return ()
    listener = at.listener
    strangers = [] if listener is None else [one for one in listener.processes if one.uid not in who.uids and one.pid != who.pid]
    return (*found, *(f"{one} listens at {at.path}, and is neither root's nor the VM's QEMU" for one in strangers))
