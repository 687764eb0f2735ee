# SPDX-License-Identifier: Apache-2.0
"""The socket that a backend program is given as a descriptor, by ``--fd`` or by systemd; and whether it is one to serve."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.backends.capabilities import FD, SOCKET_PATH
from host_agent.errors import HostError, shown

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

#: The first that systemd passes (sd_listen_fds(3)).
ACTIVATED: Final = 3
#: What is printed would go to these, into the channel.
_OUTPUTS: Final = (1, 2)


class Given(NamedTuple):
    """A stream socket of ours from now on: one that *listens*, or one that is connected. *name* says which, to an operator."""

    end: socket.socket
    listens: bool
    name: str


def activated(environment: MutableMapping[str, str] = os.environ) -> int | None:
    """The descriptor that systemd passed to this very process, once; raise `HostError` where there is more than one."""
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count or pid != str(os.getpid()):
        return None
    if count != "1":
        raise HostError(f"systemd passed {shown(count)} sockets, and one is served; cure: one Listen…= line in the socket unit")
    return ACTIVATED


def chosen(path: Path | None, number: int | None, passed: int | None) -> Path | Given:
    """Which of the three it is: ``--socket-path``, ``--fd``, or what systemd passed, which is ``--fd=3``.

    Raise `HostError` where there is none or more than one, or where a descriptor is no socket that can be served.
    """
    if path is not None and (number is not None or passed is not None):
        other = FD if number is not None else "the socket that systemd passed"
        raise HostError(f"{SOCKET_PATH} and {other}: a backend program serves one socket; cure: leave one of them out")
    if number is not None and passed not in (None, number):
        raise HostError(f"{FD}={number}, and systemd passed {passed}: one socket is served; cure: leave {FD} out")
    if path is not None:
        return path
    wanted = passed if number is None else number
    if wanted is None:
        raise HostError(f"no socket; cure: {SOCKET_PATH}=PATH or {FD}=FDNUM")
    return given(wanted)


def given(number: int) -> Given:
    """The socket behind the descriptor *number*, which no program that we start inherits; raise `HostError`."""
    if number in _OUTPUTS:
        raise HostError(f"{FD}={number}: this is where messages go; cure: another number")
    try:
        end = socket.socket(fileno=number)
    except OSError as exc:
        raise HostError(f"{FD}={number}: {exc.strerror}; cure: pass the channel's socket under this number") from None
    try:
        return _judged(number, end)
    except (OSError, HostError) as exc:
        end.close()
        raise HostError(f"{FD}={number}: {exc}; cure: pass the channel's socket, connected or listening") from None


def _judged(number: int, end: socket.socket) -> Given:
    if end.family != socket.AF_UNIX or end.type != socket.SOCK_STREAM:
        raise HostError("not a stream socket of the Unix domain")
    listens = bool(end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    address = end.getsockname() if listens else end.getpeername() or end.getsockname()  # raises where nobody is connected
    end.setblocking(False)
    end.set_inheritable(False)
    # An abstract name is no path, and a pair of sockets has none.
    return Given(end, listens, address if isinstance(address, str) and address else f"descriptor {number}")
