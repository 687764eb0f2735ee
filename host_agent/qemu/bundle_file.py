# SPDX-License-Identifier: Apache-2.0
"""A bundle in a file or a pipe: written whole or not at all, for root alone; read from where nobody else can have written."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.errors import BadFile, HostError, shown
from host_agent.files import write_whole
from host_agent.qemu.vmstate_stream import MAX_BUNDLE_BYTES, Part, decode, encode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

#: Standard output, or input.
PIPE: Final = "-"


def write(name: str, parts: Sequence[Part]) -> None:
    """Write the bundle of *parts* to the file *name*, or to `PIPE`; raise `HostError`, and then an old file is untouched."""
    bundle = encode(parts)
    if name == PIPE:
        if sys.stdout.isatty():
            raise HostError("a bundle is no text, and standard output is a terminal; cure: name a file, or '| ssh HOST …'")
        sys.stdout.buffer.write(bundle)
        sys.stdout.buffer.flush()
        return
    try:
        write_whole(Path(name), bundle)
    except OSError as exc:
        raise BadFile(f"{shown(name)}: {exc.strerror}; the bundle was not written") from None


def read(name: str) -> list[Part]:
    """The parts of the bundle in the file *name*, or from `PIPE`; raise `HostError`."""
    if name == PIPE:
        return _decoded(sys.stdin.buffer, "standard input")
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            _check_owner(os.fstat(descriptor), name)
            return _decoded(file, shown(name))
    except OSError as exc:
        raise BadFile(f"{shown(name)}: {exc.strerror}; 'pv-host-agent state save' writes such a file") from None


def _decoded(file: BinaryIO, name: str) -> list[Part]:
    bundle = file.read(MAX_BUNDLE_BYTES + 1)
    try:
        return decode(bundle)
    except HostError as exc:
        raise BadFile(f"{name}: {exc}") from None


def _check_owner(status: os.stat_result, name: str) -> None:
    """Whoever can write to it says which guest is believed."""
    if status.st_uid not in (0, os.geteuid()):
        raise BadFile(f"{shown(name)}: belongs to uid {status.st_uid}, who so decides which guest is believed; cure: chown root")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise BadFile(f"{shown(name)}: others may write to it, and so decide which guest is believed; cure: chmod 600")
