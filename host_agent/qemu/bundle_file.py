# SPDX-License-Identifier: Apache-2.0
"""A bundle in a file or a pipe: written whole or not at all, for root alone; read from where nobody else can have written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host_agent import file_or_pipe
from host_agent.errors import BadFile, HostError
from host_agent.qemu.vmstate_stream import MAX_BUNDLE_BYTES, Part, decode, encode

if TYPE_CHECKING:
    from collections.abc import Sequence


def write(name: str, parts: Sequence[Part]) -> None:
    """Write the bundle of *parts* to the file *name*, or to `PIPE`; raise `HostError`, and then an old file is untouched."""
    file_or_pipe.check_no_terminal(name, "bundle")
    file_or_pipe.write(name, "bundle", encode(parts))


def read(name: str) -> list[Part]:
    """The parts of the bundle in the file *name*, or from `PIPE`; raise `HostError`."""
    bundle = file_or_pipe.read(name, MAX_BUNDLE_BYTES, "which guest is believed", "pv-host-agent state save")
    try:
        return decode(bundle)
    except HostError as exc:
        raise BadFile(f"{file_or_pipe.name_of(name)}: {exc}") from None
