# SPDX-License-Identifier: Apache-2.0
"""A device model's state as a file or a pipe: whole or not at all, for root alone, and refused where it cannot be a whole one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from host_agent import file_or_pipe
from host_agent.errors import BadFile, shown
from host_agent.file_or_pipe import PIPE

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
    file_or_pipe.check_no_terminal(name, "state")
    if name == PIPE:
        return
    directory = Path(name).absolute().parent
    if not directory.is_dir() or not os.access(directory, os.W_OK):
        raise BadFile(f"{shown(directory)}: no directory that can be written to; cure: name a file in another")
    if Path(name).is_dir():
        raise BadFile(f"{shown(name)}: a directory; cure: name a file in it")


def write(name: str, state: bytes) -> None:
    """Write *state* to the file *name*, or to `PIPE`; raise `HostError`, and then an old file is untouched."""
    file_or_pipe.write(name, "state", state)


def read(name: str) -> bytes:
    """The state in the file *name*, or from `PIPE`; raise `BadFile`."""
    state = file_or_pipe.read(name, MAX_STATE_BYTES, "about the VM", "pv-host-agent dm save")
    wrong = wrong_with(state)
    if wrong:
        raise BadFile(f"{file_or_pipe.name_of(name)}: no state of a device model's: {wrong}; nothing was sent")
    return state
