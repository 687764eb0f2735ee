# SPDX-License-Identifier: Apache-2.0
"""Pick the vhost-user program of a type as QEMU's schema has it, start it on a socket, and end it."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from host_agent.backends.asking import Answers
from host_agent.backends.capabilities import SOCKET_PATH
from host_agent.backends.choice import choose
from host_agent.backends.spawn import ended_how, spawn
from host_agent.channels.connect import MAX_SOCKET_PATH_BYTES
from host_agent.channels.sockets import NOT_THERE, made
from host_agent.errors import HostError, shown
from host_agent.files import check_writers
from pv_channel.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from host_agent.backends.descriptions import Description
    from host_agent.backends.directories import Found
    from host_agent.backends.spawn import Program

#: A loaded host starts a program late.
LISTENS_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05
#: Its standard output is ours for the one line that says that it listens; what it says goes beside its errors.
_STANDARD_ERROR: Final = 2


class Device(NamedTuple):
    """What is wanted: a program of this *type* that has all *features*, at *socket*, with more *arguments* of its own."""

    type: str
    socket: Path
    features: Sequence[str] = ()
    arguments: Sequence[str] = ()


async def pick(found: Found, kind: str, features: Sequence[str]) -> Description:
    """The first program of the type *kind* that has *features*; raise `HostError`, which says why each is none."""
    candidates = [description for description in found.descriptions if description.type == kind]
    choice = await choose(candidates, Answers().of, features)
    if choice.taken is not None:
        return choice.taken
    those = [why for _, why in choice.passed_over] or [*found.complaints, "no file describes one"]
    having = f" with {', '.join(features)}" if features else ""
    raise HostError(f"no program of type {printable(kind)}{printable(having, 200)} can be started: {'; '.join(those)}")


async def run(device: Device, found: Found, ready: Callable[[Description, int], None]) -> int:
    """Its exit status once it ends; *ready* is told which it is, and its pid, when it listens. Cancelled, it is ended.

    Raise `HostError` where it cannot be started, or ends before it listens.
    """
    _check_socket(device.socket)
    description = await pick(found, device.type, device.features)
    before = made(device.socket)
    argv = [os.fspath(description.binary), f"{SOCKET_PATH}={device.socket}", *device.arguments]
    program = spawn(argv, output=_STANDARD_ERROR, errors=_STANDARD_ERROR)
    try:
        await _listens(program, device.socket, before, shown(description.binary))
        ready(description, program.pid)
        return await asyncio.shield(program.over)
    finally:
        await program.end()


def _check_socket(path: Path) -> None:
    """Raise `HostError` where it is no path for a socket, or others decide what stands there."""
    if not path.is_absolute() or len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise HostError(f"{shown(path)}: a socket's path is absolute here, and has at most {MAX_SOCKET_PATH_BYTES} bytes")
    check_writers(path.parent, "; cure: make the directory, mode 700")
    if path.is_symlink() or (path.exists() and not stat.S_ISSOCK(path.stat().st_mode)):
        raise HostError(f"{shown(path)}: something else than a socket is there; cure: remove it, or choose another path")


async def _listens(program: Program, path: Path, before: int, name: str) -> None:
    """Until there is a new socket at *path*; raise `HostError` where there will be none."""
    deadline = asyncio.get_running_loop().time() + LISTENS_SECONDS
    while made(path) in (before, NOT_THERE) or not path.is_socket():
        if program.over.done():
            raise HostError(f"{name} {ended_how(program.over.result())} before it listened; what it said is above")
        if asyncio.get_running_loop().time() > deadline:
            raise HostError(f"{name} does not listen at {shown(path)} within {LISTENS_SECONDS:g} s")
        await program.wait(_LOOK_SECONDS)
