# SPDX-License-Identifier: Apache-2.0
"""A device model's state as a file or a pipe: whole or not at all, for root alone, and refused where it cannot be a whole one."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_agent.errors import BadFile, HostError, shown
from host_agent.files import write_whole

if TYPE_CHECKING:
    from typing import BinaryIO

#: Standard output, or input.
PIPE: Final = "-"
#: Devices without memory have some ten kilobytes; a video card's registers, and a disk's buffers, some more.
MAX_STATE_BYTES: Final = 64 * 1024 * 1024
#: QEMU_VM_FILE_MAGIC and _VERSION, which a state begins with, and QEMU_VM_EOF, which ends it (migration/savevm.c).
MAGIC: Final = b"QEVM\0\0\0\x03"
EOF: Final = b"\0"


def wrong_with(state: bytes) -> str:
    """Why this cannot be a device model's whole state, or ""."""
    if not state:
        return "it is empty"
    if not state.startswith(MAGIC):
        return "it does not begin as QEMU's state does"
    if len(state) > MAX_STATE_BYTES:
        return f"it has more than {MAX_STATE_BYTES} bytes"
    return "" if state.endswith(EOF) else "its end is missing"


def check_writable(name: str) -> None:
    """Raise `HostError` where the state could not be written to the file *name*, or to `PIPE`, before it is asked for."""
    if name == PIPE:
        if sys.stdout.isatty():
            raise HostError("a state is no text, and standard output is a terminal; cure: name a file, or '| ssh HOST …'")
        return
    directory = Path(name).absolute().parent
    if not directory.is_dir() or not os.access(directory, os.W_OK):
        raise BadFile(f"{shown(directory)}: no directory that can be written to; cure: name a file in another")
    if Path(name).is_dir():
        raise BadFile(f"{shown(name)}: a directory; cure: name a file in it")


def write(name: str, state: bytes) -> None:
    """Write *state* to the file *name*, or to `PIPE`; raise `HostError`, and then an old file is untouched."""
    if name == PIPE:
        sys.stdout.buffer.write(state)
        sys.stdout.buffer.flush()
        return
    try:
        write_whole(Path(name), state)
    except OSError as exc:
        raise BadFile(f"{shown(name)}: {exc.strerror}; the state was not written") from None


def read(name: str) -> bytes:
    """The state in the file *name*, or from `PIPE`; raise `BadFile`."""
    if name == PIPE:
        return _checked(sys.stdin.buffer, "standard input")
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            _check_owner(os.fstat(descriptor), name)
            return _checked(file, shown(name))
    except OSError as exc:
        raise BadFile(f"{shown(name)}: {exc.strerror}; 'pv-host-agent dm save' writes such a file") from None


def _checked(file: BinaryIO, name: str) -> bytes:
    state = file.read(MAX_STATE_BYTES + 1)
    wrong = wrong_with(state)
    if wrong:
        raise BadFile(f"{name}: no state of a device model's: {wrong}; nothing was sent")
    return state


def _check_owner(status: os.stat_result, name: str) -> None:
    """Whoever can write to it says what the VM's devices are."""
    if status.st_uid not in (0, os.geteuid()):
        raise BadFile(f"{shown(name)}: belongs to uid {status.st_uid}, who so decides about the VM; cure: chown root")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise BadFile(f"{shown(name)}: others may write to it, and so decide about the VM; cure: chmod 600")
