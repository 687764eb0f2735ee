# SPDX-License-Identifier: Apache-2.0
"""The ways to give a program under test its socket, and how it is seen that the program serves it.

A vhost-user program is asked for its features, which each answers; of another one it is seen that it speaks, or stays with it.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final, Self

from host_agent.backends.capabilities import FD, SOCKET_PATH
from host_agent.backends.vhost_user_message import Request, encode
from host_agent.channels.unix_peers import unix_sockets

if TYPE_CHECKING:
    from pathlib import Path

#: A program that stays with its socket for so long, without a word, has taken it.
_SETTLED_SECONDS: Final = 1.0


class Way(Enum):
    """Who listens, and how the program learns of the socket. The conventions leave open which end the program is."""

    LISTENS_AT_PATH = f"{SOCKET_PATH}, where the program listens"
    CONNECTS_TO_PATH = f"{SOCKET_PATH}, where somebody else listens"
    LISTENING_FD = f"{FD} of a listening socket"
    CONNECTED_FD = f"{FD} of a connected socket"


#: In the order in which they are tried: the first is what most programs do.
PATHS: Final = (Way.LISTENS_AT_PATH, Way.CONNECTS_TO_PATH)
FDS: Final = (Way.LISTENING_FD, Way.CONNECTED_FD)


class Offer:
    """A socket for one trial, for a `with`; *is_vhost_user* is whether the program has to answer as such."""

    def __init__(self, way: Way, path: Path, *, is_vhost_user: bool) -> None:
        self._way, self._path, self._is_vhost_user = way, path, is_vhost_user
        self._end: socket.socket | None = None
        #: The listener that is ours, and the socket that is to be the program's.
        self._listener: socket.socket | None = None
        self._its: socket.socket | None = None
        self._met_at = 0.0

    def __enter__(self) -> Self:
        if self._way is Way.CONNECTED_FD:
            end, self._its = socket.socketpair()  # its own end waits, as a program expects
            self._meet(end)
        elif self._way is Way.LISTENING_FD:
            self._its = self._listening()
            self._connect()
        elif self._way is Way.CONNECTS_TO_PATH:
            self._listener = self._listening()
            self._listener.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._end, self._listener, self._its):
            if end is not None:
                end.close()
        if self._listener is not None or self._its is not None:
            self._path.unlink(missing_ok=True)

    @property
    def keep(self) -> list[int]:
        """The descriptors that the program inherits."""
        return [] if self._its is None else [self._its.fileno()]

    @property
    def option(self) -> str:
        """What tells the program of it."""
        return f"{SOCKET_PATH}={self._path}" if self._its is None else f"{FD}={self._its.fileno()}"

    def given(self) -> None:
        """The program has been started: what it was given is its own now, and ends with it."""
        if self._its is not None:
            self._its.close()

    def again(self) -> None:
        """Another program is to serve the same path: hang up."""
        if self._end is not None:
            self._end.close()
            self._end = None

    def is_served(self) -> bool:
        """Whether the program is seen to serve it by now."""
        if self._end is None:
            if self._listener is None:
                self._connect()
            else:
                with suppress(BlockingIOError):
                    self._meet(self._listener.accept()[0])
        if self._end is None:
            return False
        try:
            return bool(self._end.recv(1, socket.MSG_PEEK))  # nothing: it was closed
        except BlockingIOError:
            return not self._is_vhost_user and time.monotonic() - self._met_at >= _SETTLED_SECONDS and not self._is_queued()
        except OSError:
            return False

    def _listening(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(self._path))
        listener.listen()
        return listener

    def _connect(self) -> None:
        end = socket.socket(socket.AF_UNIX)
        end.setblocking(False)  # a full queue is EAGAIN, and no reason to wait
        try:
            end.connect(os.fspath(self._path))
        except OSError:
            end.close()
        else:
            self._meet(end)

    def _meet(self, end: socket.socket) -> None:
        self._end, self._met_at = end, time.monotonic()
        end.setblocking(False)
        if self._is_vhost_user:
            with suppress(OSError):  # it closed at once; then it does not answer
                end.send(encode(Request.GET_FEATURES))

    def _is_queued(self) -> bool:
        """Whether nobody has accepted our connection."""
        ours = 0 if self._end is None else os.fstat(self._end.fileno()).st_ino
        return any(ours in each.queued for each in unix_sockets())
